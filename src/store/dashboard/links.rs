use std::sync::Arc;

use serde_json::json;
use time::OffsetDateTime;

use super::sessions::{
    DashboardSession, EXPIRED_AT_ONCE, NewSession, close, delete_sessions_that_are_over, end,
    rights_of_link, stored_url,
};
use crate::{
    domain::{
        account::{AccountId, ExternalId},
        audit::{AuditAction, Origin},
        dashboard::{LinkSeconds, ReturnUrl, SignInWay},
        id::{AdminKeyId, TenantId},
        session_token::SessionToken,
        tenant::{Tenant, TenantStatus},
        timestamp::Timestamp,
    },
    store::{
        AccountHandle, Store, StoreError,
        accounts::{account, tenant_status::stored_tenant_status},
        changes::ChangeKind,
        clock::now,
        connection::Connection,
        external_ids::stored_account,
        turns::set_tenant,
    },
};

#[derive(Clone, Copy, Debug)]
pub struct DashboardLink {
    pub expires_at: Timestamp,
}

/// The account whose dashboard a link opens, and its tenant.
#[derive(Clone, Debug)]
pub struct LinkTarget {
    pub tenant: Arc<Tenant>,
    pub account: ExternalId,
}

/// The result of looking up a link by its token.
#[derive(Clone, Debug)]
pub enum FoundLink {
    /// The link opens a session.
    Live(LinkTarget),
    /// The link has expired, but its row still exists.
    Expired { tenant: Arc<Tenant>, return_url: Option<ReturnUrl> },
    /// The tenant is suspended. After it is resumed, the link may be used.
    TenantSuspended,
    /// The link was used, has expired or never existed, or the admin key that created it was
    /// revoked.
    Unknown,
}

impl AccountHandle<'_> {
    /// Creates a link that can open one session of the account until `expires_in` has passed.
    /// Revoking the admin key that creates the link also ends the link and the session. If no admin
    /// key creates the link, its session has all rights.
    #[tracing::instrument(level = "debug", skip_all, fields(tenant = %self.tenant.slug, account_id = %self.id.uuid()))]
    pub async fn create_dashboard_link(
        &self,
        token: &SessionToken,
        return_url: Option<&ReturnUrl>,
        expires_in: LinkSeconds,
    ) -> Result<DashboardLink, StoreError> {
        let _timer = self.store.timer("create_dashboard_link");
        let token = token.hash();
        let (mut tx, _) = self.begin().await?;
        let at = now(&mut tx).await?;
        delete_links_that_are_over(&mut tx, at).await?;
        let expires_at = end(at, expires_in.get().into())?;
        sqlx::query!(
            "INSERT /* dashboard_links.create_dashboard_link */
                    INTO dashboard_links (account_id, token_hash, tenant_id, admin_key_id,
                                       return_url, created_at, expires_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
            self.id.uuid(),
            token.as_bytes(),
            self.tenant.id.uuid(),
            self.origin.actor.admin_key().map(AdminKeyId::uuid),
            return_url.map(ReturnUrl::as_str),
            OffsetDateTime::from(at),
            OffsetDateTime::from(expires_at),
        )
        .execute(&mut *tx)
        .await?;
        // The event omits the path and the query, because they may contain secrets of the platform.
        let detail = json!({"return_origin": return_url.map(|url| url.origin().as_str())});
        self.record(&mut tx, AuditAction::DashboardLinkCreate, None, detail, at).await?;
        tx.commit().await?;
        Ok(DashboardLink { expires_at })
    }
}

impl Store {
    /// Finds a link without using it. Concurrent lookups share a statement.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn find_dashboard_link(&self, link: &SessionToken) -> Result<FoundLink, StoreError> {
        let _timer = self.timer("find_dashboard_link");
        let found = self.find_under_lease(&self.lookups.links, *link.hash().as_bytes()).await?;
        let Some(found) = found else { return Ok(FoundLink::Unknown) };
        let tenant = self.tenant_by_id(TenantId::from_uuid(found.tenant_id)).await?;
        set_tenant(tenant.id);
        if stored_tenant_status(&found.tenant_status)? == TenantStatus::Suspended {
            return Ok(FoundLink::TenantSuspended);
        }
        Ok(if found.expired {
            let return_url = stored_url(found.return_url.as_deref())?;
            FoundLink::Expired { tenant, return_url }
        } else {
            FoundLink::Live(LinkTarget { tenant, account: stored_account(&found.external_id)? })
        })
    }

    /// Spends a link and opens a session with the given token. Closes the session that the new one
    /// replaces in the browser. If the link is not [`FoundLink::Live`], changes nothing and returns
    /// `None`.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn open_linked_session(
        &self,
        link: &SessionToken,
        session: &SessionToken,
        replaced: Option<&DashboardSession>,
        origin: &Origin,
    ) -> Result<Option<DashboardSession>, StoreError> {
        let FoundLink::Live(target) = self.find_dashboard_link(link).await? else {
            return Ok(None);
        };
        let _timer = self.timer("open_linked_session");
        let LinkTarget { tenant, account } = target;
        let account_id = AccountId::derive(tenant.id, &account);
        let mut tx = self.begin().await?;
        // If two requests use a link concurrently, the second request waits here and then finds no
        // row. It also finds no row if another request has ended all sessions of the account in the
        // meantime.
        let locked = account::lock(&mut tx, account_id).await?;
        let at = now(&mut tx).await?;
        let link = link.hash();
        let taken = sqlx::query!(
            "DELETE /* dashboard_links.take */
                    FROM dashboard_links WHERE account_id = $1 AND token_hash = $2 AND expires_at > $3
             RETURNING admin_key_id, return_url",
            account_id.uuid(),
            link.as_bytes(),
            OffsetDateTime::from(at),
        )
        .fetch_optional(&mut *tx)
        .await?;
        let Some(taken) = taken else { return Ok(None) };
        let maker = sqlx::query!(
            "SELECT /* dashboard_links.maker */ permissions, revoked_at FROM admin_keys
             WHERE admin_key_id = $1",
            taken.admin_key_id,
        )
        .fetch_optional(&mut *tx)
        .await?;
        if maker.as_ref().is_some_and(|maker| maker.revoked_at.is_some()) {
            return Ok(None);
        }
        let new = NewSession {
            token: session.hash(),
            way: SignInWay::DashboardLink,
            // If the admin key is revoked after this statement, the session is invalid from the
            // start.
            admin_key: taken.admin_key_id.map(AdminKeyId::from_uuid),
            rights: rights_of_link(maker.as_ref().map(|maker| maker.permissions.as_slice()))?,
            account: &account,
            account_status: locked.status,
            return_url: stored_url(taken.return_url.as_deref())?,
        };
        let session = new.open(&mut tx, &tenant, origin, at).await?;
        let mut change = None;
        if let Some(replaced) = replaced {
            close(&mut tx, replaced, origin).await?;
            let (tenant, kind) = (replaced.tenant.id, ChangeKind::Sessions);
            change = Some(self.changes.announce(&mut tx, tenant, kind, Vec::new()).await?);
        }
        // This statement comes last, so that the transaction waits for nothing while it locks
        // sessions of other accounts.
        delete_sessions_that_are_over(&mut tx, at).await?;
        let committed = tx.commit_and_keep().await?;
        if let Some(change) = change {
            change.settle(self, committed).await;
        }
        Ok(Some(session))
    }
}

/// Deletes a few expired links of any account, as [`delete_sessions_that_are_over`] deletes
/// sessions.
async fn delete_links_that_are_over(
    connection: &mut Connection,
    at: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query!(
        "DELETE /* dashboard_links.delete_expired */ FROM dashboard_links
         WHERE ctid = ANY (ARRAY(
             SELECT ctid FROM dashboard_links WHERE expires_at <= $1
             ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED))",
        OffsetDateTime::from(at),
        EXPIRED_AT_ONCE,
    )
    .execute(connection)
    .await?;
    Ok(())
}
