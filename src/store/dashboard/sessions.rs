use std::sync::Arc;

use serde_json::json;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    domain::{
        account::{AccountStatus, ExternalId},
        audit::{AuditAction, Origin},
        dashboard::{DashboardRights, ReturnUrl, SESSION_SECONDS, SignInWay},
        id::{AdminKeyId, TenantId},
        server::ServerId,
        session_token::{SessionId, SessionToken, TokenHash},
        tenant::{Tenant, TenantStatus},
        timestamp::Timestamp,
    },
    store::{
        AccountHandle, Store, StoreError,
        accounts::{account, admin_keys::stored_permissions, tenant_status::stored_tenant_status},
        audit::{Act, Subject},
        changes::ChangeKind,
        clock::{now, stored_time},
        connection::Connection,
        external_ids::stored_account,
        primary,
        transaction::Tx,
        turns::set_tenant,
    },
};

/// Minimum interval in seconds between two writes of a session's last use, so that most pages cause
/// no write.
const SEEN_SECONDS: i64 = 60;

/// Maximum number of expired rows that each insertion deletes. It is more than one, so that rows
/// are deleted faster than they are inserted. Deleting a session also deletes its forms, up to a
/// thousand.
pub(in crate::store) const EXPIRED_AT_ONCE: i64 = 20;

/// A browser's session in the dashboard of one account.
#[derive(Clone, Debug)]
pub struct DashboardSession {
    pub id: SessionId,
    pub tenant: Arc<Tenant>,
    pub tenant_status: TenantStatus,
    pub account: ExternalId,
    pub account_status: AccountStatus,
    pub return_url: Option<ReturnUrl>,
    pub way: SignInWay,
    pub rights: DashboardRights,
    pub created_at: Timestamp,
    /// The time by the database's clock when the session was read.
    pub now: Timestamp,
}

impl DashboardSession {
    /// Whether the dashboard of the session's tenant is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.tenant_status == TenantStatus::Active
    }

    fn account_id(&self) -> Uuid {
        self.tenant.account_id(&self.account)
    }
}

/// The properties of a new session.
pub(in crate::store) struct NewSession<'a> {
    pub token: TokenHash,
    pub way: SignInWay,
    /// The admin key that created the link. `None` if no admin key created it.
    pub admin_key: Option<AdminKeyId>,
    pub rights: DashboardRights,
    pub account: &'a ExternalId,
    pub account_status: AccountStatus,
    pub return_url: Option<ReturnUrl>,
}

impl NewSession<'_> {
    /// Inserts the session and records the event. Call this under the account's lock. A call that
    /// ends all sessions of the account takes the same lock, so it cannot miss this session.
    pub async fn open(
        self,
        connection: &mut Connection,
        tenant: &Arc<Tenant>,
        origin: &Origin,
        at: Timestamp,
    ) -> Result<DashboardSession, StoreError> {
        let session = DashboardSession {
            id: self.token.session_id(),
            tenant: Arc::clone(tenant),
            // The request that opens the session has found the tenant active.
            tenant_status: TenantStatus::Active,
            account: self.account.clone(),
            account_status: self.account_status,
            return_url: self.return_url,
            way: self.way,
            rights: self.rights,
            created_at: at,
            now: at,
        };
        sqlx::query!(
            "INSERT /* dashboard_sessions.open */
                    INTO dashboard_sessions (account_id, session_id, tenant_id, token_hash, way,
                                          admin_key_id, return_url, created_at, last_seen_at,
                                          expires_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8, $9)",
            session.account_id(),
            session.id.uuid(),
            tenant.id.uuid(),
            self.token.as_bytes(),
            session.way.as_str(),
            self.admin_key.map(AdminKeyId::uuid),
            session.return_url.as_ref().map(ReturnUrl::as_str),
            OffsetDateTime::from(at),
            OffsetDateTime::from(end(at, SESSION_SECONDS)?),
        )
        .execute(&mut *connection)
        .await?;
        let subject = Subject::Account(self.account, None);
        let detail = json!({"way": session.way.as_str()});
        let act = Act { action: AuditAction::SessionOpen, subject, detail };
        act.record(connection, tenant, origin, at).await?;
        Ok(session)
    }
}

impl Store {
    /// Finds the session of a token. Returns `None` if no such session exists or if it has ended,
    /// for example because the admin key that created its link was revoked. An idle session may end
    /// up to a minute early, because the time of its last use is written at most once a minute.
    /// Concurrent lookups share a statement.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn dashboard_session(
        &self,
        token: &SessionToken,
    ) -> Result<Option<DashboardSession>, StoreError> {
        let _timer = self.timer("dashboard_session");
        let token = token.hash();
        let found = self.find_under_lease(&self.lookups.sessions, *token.as_bytes()).await?;
        let Some(row) = found else {
            return Ok(None);
        };
        let last_seen_at = stored_time("dashboard_sessions.last_seen_at", row.last_seen_at)?;
        let tenant = self.tenant_by_id(TenantId::from_uuid(row.tenant_id)).await?;
        set_tenant(tenant.id);
        let session = DashboardSession {
            id: token.session_id(),
            tenant,
            tenant_status: stored_tenant_status(&row.tenant_status)?,
            account: stored_account(&row.external_id)?,
            account_status: account::stored_status(&row.status)?,
            return_url: stored_url(row.return_url.as_deref())?,
            way: row
                .way
                .parse::<SignInWay>()
                .map_err(|error| StoreError::corrupt("dashboard_sessions.way", error))?,
            rights: rights_of_link(row.permissions.as_deref())?,
            created_at: stored_time("dashboard_sessions.created_at", row.created_at)?,
            now: stored_time("clock_timestamp()", row.now)?,
        };
        if end(last_seen_at, SEEN_SECONDS)? <= session.now {
            self.mark_seen(&session).await?;
        }
        Ok(Some(session))
    }

    /// Closes a session. Returns once no node accepts the session. A repeated call is harmless.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn close_dashboard_session(
        &self,
        session: &DashboardSession,
        origin: &Origin,
    ) -> Result<(), StoreError> {
        let _timer = self.timer("close_dashboard_session");
        let mut tx = self.begin().await?;
        close(&mut tx, session, origin).await?;
        // This announces the change even if the session was already closed, because an earlier call
        // may have failed after its commit, and the client then repeats it.
        self.commit_announced(tx, session.tenant.id, ChangeKind::Sessions).await?;
        Ok(())
    }

    /// Ends all sessions of the tenant and all unused links, one account after the other. Waits
    /// until no node accepts any of them, then returns the number of sessions. If the call fails,
    /// the sessions of some accounts may have ended, and the caller should repeat the call.
    #[tracing::instrument(level = "debug", skip_all, fields(tenant = %tenant.slug))]
    pub async fn end_dashboard_sessions_of_tenant(
        &self,
        tenant: &Tenant,
        origin: &Origin,
    ) -> Result<u64, StoreError> {
        let _timer = self.timer("end_dashboard_sessions_of_tenant");
        let mut ended = 0;
        loop {
            let (listed_on, accounts) = self.accounts_with_sessions(tenant).await?;
            for account in accounts {
                let account = stored_account(&account)?;
                let of_account = self.account(tenant, &account, origin);
                let (mut tx, sessions) = of_account.end_without_commit().await?;
                // The call waits only for the last change, as explained below.
                let (tenant, kind) = (tenant.id, ChangeKind::Sessions);
                drop(self.changes.announce(&mut tx, tenant, kind, Vec::new()).await?);
                tx.commit().await?;
                ended += sessions;
            }
            // Waiting for the last change is enough, even for the changes of an earlier call that
            // failed. Nodes receive the changes of one server in the order of their commits. If an
            // earlier change was committed on another server, that server was deposed before the
            // last commit, and the new server already had the change when it was promoted.
            let tx = self.begin().await?;
            let server = self.commit_announced(tx, tenant.id, ChangeKind::Sessions).await?;
            // A list from a deposed server lacks sessions that were opened after the promotion.
            if server == listed_on {
                return Ok(ended);
            }
        }
    }

    /// Lists the accounts with sessions or unused links. Also returns the server that answered.
    async fn accounts_with_sessions(
        &self,
        tenant: &Tenant,
    ) -> Result<(ServerId, Vec<String>), StoreError> {
        let tenant_id = tenant.id.uuid();
        self.read(|mut connection| async move {
            let server = primary::server(&mut connection).await?;
            // One statement reads both tables. So if a link is being used concurrently, the
            // statement finds either the link or its session.
            let accounts = sqlx::query_scalar!(
                "SELECT /* dashboard_sessions.accounts_with_sessions */ external_id FROM accounts
                 WHERE account_id IN (
                     SELECT account_id FROM dashboard_links WHERE tenant_id = $1
                     UNION ALL
                     SELECT account_id FROM dashboard_sessions WHERE tenant_id = $1)",
                tenant_id,
            )
            .fetch_all(&mut connection)
            .await?;
            Ok((server, accounts))
        })
        .await
    }

    async fn mark_seen(&self, session: &DashboardSession) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        // If another request has just updated or closed the session, this statement changes
        // nothing.
        sqlx::query!(
            "UPDATE /* dashboard_sessions.mark_seen */ dashboard_sessions SET last_seen_at = $3
             WHERE account_id = $1 AND session_id = $2 AND last_seen_at < $3",
            session.account_id(),
            session.id.uuid(),
            OffsetDateTime::from(session.now),
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }
}

impl AccountHandle<'_> {
    /// Ends all sessions of the account, regardless of how they were opened, and all unused links.
    /// Waits until no node accepts any of them, then returns the number of sessions. If there are
    /// neither sessions nor links, the call records no event.
    #[tracing::instrument(level = "debug", skip_all, fields(tenant = %self.tenant.slug, account_id = %self.id.uuid()))]
    pub async fn end_dashboard_sessions(&self) -> Result<u64, StoreError> {
        let _timer = self.store.timer("end_dashboard_sessions");
        let (tx, ended) = self.end_without_commit().await?;
        // This announces the change even if there was nothing to end, because an earlier call may
        // have failed after its commit.
        self.store.commit_announced(tx, self.tenant.id, ChangeKind::Sessions).await?;
        Ok(ended)
    }

    /// Ends the sessions and links in a transaction, which the caller commits.
    async fn end_without_commit(&self) -> Result<(Tx, u64), StoreError> {
        let (mut tx, _) = self.begin().await?;
        let ended = sqlx::query!(
            r#"SELECT /* dashboard_sessions.end_all */ links AS "links!", sessions AS "sessions!"
               FROM end_dashboard_sessions($1)"#,
            self.id.uuid(),
        )
        .fetch_one(&mut *tx)
        .await?;
        if (ended.links, ended.sessions) != (0, 0) {
            let at = now(&mut tx).await?;
            let detail = json!({"sessions": ended.sessions, "links": ended.links});
            self.record(&mut tx, AuditAction::SessionCloseAll, None, detail, at).await?;
        }
        Ok((tx, ended.sessions.unsigned_abs()))
    }
}

/// Deletes a session and records the end, unless it was already deleted.
pub(in crate::store) async fn close(
    connection: &mut Connection,
    session: &DashboardSession,
    origin: &Origin,
) -> Result<(), StoreError> {
    let closed = sqlx::query!(
        "DELETE /* dashboard_sessions.close */
                FROM dashboard_sessions WHERE account_id = $1 AND session_id = $2",
        session.account_id(),
        session.id.uuid(),
    )
    .execute(&mut *connection)
    .await?
    .rows_affected();
    if closed > 0 {
        let at = now(connection).await?;
        let subject = Subject::Account(&session.account, None);
        let act = Act { action: AuditAction::SessionClose, subject, detail: json!({}) };
        act.record(connection, &session.tenant, origin, at).await?;
    }
    Ok(())
}

/// Deletes a few expired sessions of any account, beginning with the sessions that expired first.
/// Skips rows that another transaction has locked, so it never waits. The array makes Postgres
/// choose the rows only once.
pub(in crate::store) async fn delete_sessions_that_are_over(
    connection: &mut Connection,
    at: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query!(
        "DELETE /* dashboard_sessions.delete_expired */ FROM dashboard_sessions
         WHERE ctid = ANY (ARRAY(
             SELECT ctid FROM dashboard_sessions WHERE expires_at <= $1
             ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED))",
        OffsetDateTime::from(at),
        EXPIRED_AT_ONCE,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Derives the rights of a link from the stored permissions of the admin key that created it.
/// `None` means that no admin key created it. Permissions of an admin key never change, so the
/// rights do not change either.
pub(in crate::store) fn rights_of_link(
    permissions: Option<&[String]>,
) -> Result<DashboardRights, StoreError> {
    match permissions {
        Some(permissions) => Ok(DashboardRights::of_maker(&stored_permissions(permissions)?)),
        None => Ok(DashboardRights::ALL),
    }
}

/// Returns the end of a period of `seconds` that begins at `at`.
pub(in crate::store) fn end(at: Timestamp, seconds: i64) -> Result<Timestamp, StoreError> {
    let end = at.plus_seconds(seconds);
    end.ok_or_else(|| StoreError::corrupt("clock_timestamp()", "the end of the calendar"))
}

pub(in crate::store) fn stored_url(url: Option<&str>) -> Result<Option<ReturnUrl>, StoreError> {
    let url = url.map(ReturnUrl::parse).transpose();
    url.map_err(|error| StoreError::corrupt("return_url", error))
}
