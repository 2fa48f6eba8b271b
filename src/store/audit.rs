use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    Store, StoreError, clock::stored_time, connection::Connection, external_ids::stored_account,
};
use crate::{
    domain::{
        account::ExternalId,
        audit::{ActorKind, AuditAction, AuditTarget, Origin},
        id::{AdminKeyId, AuditEventId, KeyId, RequestId},
        tenant::Tenant,
        timestamp::Timestamp,
    },
    entropy,
};

/// An action to record, in the transaction that performs the action.
pub(super) struct Act<'a> {
    pub action: AuditAction,
    pub subject: Subject<'a>,
    /// A JSON object with the changed fields. It contains no secret.
    pub detail: Value,
}

/// The tenant or account that an action concerns, and the changed object in that tenant or account,
/// such as a key.
pub(super) enum Subject<'a> {
    Tenant(Option<AuditTarget>),
    Account(&'a ExternalId, Option<AuditTarget>),
}

impl Act<'_> {
    pub async fn record(
        self,
        connection: &mut Connection,
        tenant: &Tenant,
        origin: &Origin,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let (account_id, account, target) = match self.subject {
            Subject::Tenant(target) => (tenant.id.uuid(), None, target),
            Subject::Account(account, target) => {
                (tenant.account_id(account), Some(account.as_str()), target)
            }
        };
        sqlx::query!(
            "INSERT /* audit.record */
                    INTO audit_events (account_id, event_id, tenant_id, actor, admin_key_id,
                                       action, account, target_id, detail, address, request_id,
                                       created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9::text::json, $10, $11, $12)",
            account_id,
            AuditEventId::new(at, entropy::for_id()?).uuid(),
            tenant.id.uuid(),
            origin.actor.kind().as_str(),
            origin.actor.admin_key().map(AdminKeyId::uuid),
            self.action.as_str(),
            account,
            target.map(AuditTarget::uuid),
            self.detail.to_string(),
            origin.address.map(|address| address.to_string()),
            origin.request_id.map(RequestId::uuid),
            OffsetDateTime::from(at),
        )
        .execute(connection)
        .await?;
        Ok(())
    }
}

/// An event of the audit trail.
#[derive(Clone, Debug)]
pub struct AuditEvent {
    pub id: AuditEventId,
    pub actor: ActorKind,
    pub admin_key_id: Option<AdminKeyId>,
    pub action: AuditAction,
    /// The account. `None` if the event concerns the tenant itself.
    pub account: Option<ExternalId>,
    /// The changed object. `None` if the event concerns the account or the tenant itself.
    pub target: Option<AuditTarget>,
    pub detail: Value,
    pub address: Option<String>,
    pub request_id: Option<RequestId>,
    pub created_at: Timestamp,
}

/// A filter for lists of events.
#[derive(Clone, Default, Debug)]
pub struct AuditFilter {
    pub account: Option<ExternalId>,
    pub key_id: Option<KeyId>,
}

impl Store {
    /// Lists the events of a tenant's audit trail, newest first.
    #[tracing::instrument(level = "debug", skip_all, fields(tenant = %tenant.slug))]
    pub async fn list_audit_events(
        &self,
        tenant: &Tenant,
        filter: &AuditFilter,
        before: Option<AuditEventId>,
        limit: i64,
    ) -> Result<Vec<AuditEvent>, StoreError> {
        let _timer = self.timer("list_audit_events");
        let tenant_id = tenant.id.uuid();
        let before = before.map_or(Uuid::max(), AuditEventId::uuid);
        let account_id = filter.account.as_ref().map(|name| tenant.account_id(name));
        // Each filter has its own statement, so that Postgres uses the matching index.
        let rows = match (filter.key_id.map(KeyId::uuid), account_id) {
            (Some(key_id), account_id) => {
                self.read(|mut connection| async move {
                    sqlx::query_as!(
                        AuditRow,
                        "SELECT /* audit.list_audit_events_of_target */
                                event_id, actor, admin_key_id, action, account, target_id,
                                detail, address, request_id, created_at
                         FROM audit_events
                         WHERE tenant_id = $1 AND target_id = $2 AND event_id < $3
                           AND account_id = coalesce($4, account_id)
                         ORDER BY event_id DESC LIMIT $5",
                        tenant_id,
                        key_id,
                        before,
                        account_id,
                        limit,
                    )
                    .fetch_all(&mut connection)
                    .await
                })
                .await?
            }
            (None, Some(account_id)) => {
                self.read(|mut connection| async move {
                    sqlx::query_as!(
                        AuditRow,
                        "SELECT /* audit.list_audit_events_of_account */
                                event_id, actor, admin_key_id, action, account, target_id,
                                detail, address, request_id, created_at
                         FROM audit_events
                         WHERE account_id = $1 AND event_id < $2
                         ORDER BY event_id DESC LIMIT $3",
                        account_id,
                        before,
                        limit,
                    )
                    .fetch_all(&mut connection)
                    .await
                })
                .await?
            }
            (None, None) => {
                self.read(|mut connection| async move {
                    sqlx::query_as!(
                        AuditRow,
                        "SELECT /* audit.list_audit_events_of_tenant */
                                event_id, actor, admin_key_id, action, account, target_id,
                                detail, address, request_id, created_at
                         FROM audit_events
                         WHERE tenant_id = $1 AND event_id < $2
                         ORDER BY event_id DESC LIMIT $3",
                        tenant_id,
                        before,
                        limit,
                    )
                    .fetch_all(&mut connection)
                    .await
                })
                .await?
            }
        };
        rows.into_iter().map(AuditRow::into_event).collect()
    }
}

struct AuditRow {
    event_id: Uuid,
    actor: String,
    admin_key_id: Option<Uuid>,
    action: String,
    account: Option<String>,
    target_id: Option<Uuid>,
    detail: Value,
    address: Option<String>,
    request_id: Option<Uuid>,
    created_at: OffsetDateTime,
}

impl AuditRow {
    fn into_event(self) -> Result<AuditEvent, StoreError> {
        let actor = self.actor.parse::<ActorKind>();
        let action = self.action.parse::<AuditAction>();
        let action = action.map_err(|error| StoreError::corrupt("audit_events.action", error))?;
        Ok(AuditEvent {
            id: AuditEventId::from_uuid(self.event_id),
            actor: actor.map_err(|error| StoreError::corrupt("audit_events.actor", error))?,
            admin_key_id: self.admin_key_id.map(AdminKeyId::from_uuid),
            action,
            account: self.account.as_deref().map(stored_account).transpose()?,
            target: self.target_id.and_then(|id| AuditTarget::from_stored(action, id)),
            detail: self.detail,
            address: self.address,
            request_id: self.request_id.map(RequestId::from_uuid),
            created_at: stored_time("audit_events.created_at", self.created_at)?,
        })
    }
}
