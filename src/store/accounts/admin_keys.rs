use std::sync::Arc;

use serde_json::json;
use time::OffsetDateTime;
use uuid::Uuid;

use super::tenant_status::stored_tenant_status;
use crate::{
    domain::{
        api_key::{KeyHash, KeyText},
        audit::{AuditAction, AuditTarget, Origin},
        id::{AdminKeyId, TenantId},
        permission::PermissionSet,
        tenant::{Tenant, TenantStatus},
        text::Name,
        timestamp::Timestamp,
    },
    entropy,
    store::{
        Refusal, Store, StoreError,
        audit::{Act, Subject},
        changes::ChangeKind,
        clock::{now, stored_time},
        connection::Connection,
    },
};

/// A stored admin key, without its hash.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AdminKey {
    pub id: AdminKeyId,
    pub hint: String,
    pub name: String,
    pub permissions: PermissionSet,
    pub created_at: Timestamp,
    pub revoked_at: Option<Timestamp>,
}

/// The result of verifying an admin key.
#[derive(Clone, Debug)]
pub struct AdminVerification {
    pub id: AdminKeyId,
    pub tenant: Arc<Tenant>,
    pub permissions: PermissionSet,
    pub revoked: bool,
    pub tenant_status: TenantStatus,
    /// The time of the verification by the database's clock.
    pub now: Timestamp,
}

impl AdminVerification {
    /// Whether the key is live and its tenant is active.
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        !self.revoked && self.tenant_status == TenantStatus::Active
    }
}

struct AdminKeyRow {
    admin_key_id: Uuid,
    hint: String,
    name: String,
    permissions: Vec<String>,
    created_at: OffsetDateTime,
    revoked_at: Option<OffsetDateTime>,
}

impl AdminKeyRow {
    fn into_key(self) -> Result<AdminKey, StoreError> {
        let time = |moment| stored_time("admin_keys", moment);
        Ok(AdminKey {
            id: AdminKeyId::from_uuid(self.admin_key_id),
            hint: self.hint,
            name: self.name,
            permissions: stored_permissions(&self.permissions)?,
            created_at: time(self.created_at)?,
            revoked_at: self.revoked_at.map(time).transpose()?,
        })
    }
}

pub(in crate::store) fn stored_permissions(
    permissions: &[String],
) -> Result<PermissionSet, StoreError> {
    PermissionSet::parse(permissions)
        .map_err(|error| StoreError::corrupt("admin_keys.permissions", error))
}

impl Store {
    #[tracing::instrument(level = "debug", skip_all, fields(tenant = %tenant.slug))]
    pub async fn create_admin_key(
        &self,
        tenant: &Tenant,
        key: &KeyText,
        name: &Name,
        permissions: &PermissionSet,
        origin: &Origin,
    ) -> Result<AdminKey, StoreError> {
        let _timer = self.timer("create_admin_key");
        let mut tx = self.begin().await?;
        let at = now(&mut tx).await?;
        let row = insert(&mut tx, tenant, key, name, permissions, origin, at).await?;
        tx.commit().await?;
        Ok(row)
    }

    /// Lists a tenant's admin keys, newest first, including revoked keys.
    #[tracing::instrument(level = "debug", skip_all, fields(tenant = %tenant.slug))]
    pub async fn list_admin_keys(&self, tenant: &Tenant) -> Result<Vec<AdminKey>, StoreError> {
        let _timer = self.timer("list_admin_keys");
        let tenant_id = tenant.id.uuid();
        let rows = self
            .read(|mut connection| async move {
                sqlx::query_as!(
                    AdminKeyRow,
                    "SELECT /* admin_keys.list_admin_keys */
                            admin_key_id, hint, name, permissions, created_at, revoked_at
                     FROM admin_keys WHERE tenant_id = $1 ORDER BY admin_key_id DESC",
                    tenant_id,
                )
                .fetch_all(&mut connection)
                .await
            })
            .await?;
        rows.into_iter().map(AdminKeyRow::into_key).collect()
    }

    /// Revokes an admin key. This also ends the links that the key created and their sessions,
    /// because each lookup of a link or a session also reads the key. Returns once no node accepts
    /// the key, the links or the sessions. A repeated call changes nothing, but waits again.
    #[tracing::instrument(level = "debug", skip_all, fields(tenant = %tenant.slug))]
    pub async fn revoke_admin_key(
        &self,
        tenant: &Tenant,
        id: AdminKeyId,
        origin: &Origin,
    ) -> Result<AdminKey, StoreError> {
        let _timer = self.timer("revoke_admin_key");
        let mut tx = self.begin().await?;
        let mut key = select_for_update(&mut tx, tenant, id).await?;
        if key.revoked_at.is_none() {
            let at = now(&mut tx).await?;
            sqlx::query!(
                "UPDATE /* admin_keys.revoke_admin_key */
                        admin_keys SET revoked_at = $2 WHERE admin_key_id = $1",
                id.uuid(),
                OffsetDateTime::from(at),
            )
            .execute(&mut *tx)
            .await?;
            let subject = Subject::Tenant(Some(AuditTarget::AdminKey(id)));
            let act = Act { action: AuditAction::AdminKeyRevoke, subject, detail: json!({}) };
            act.record(&mut tx, tenant, origin, at).await?;
            key.revoked_at = Some(at);
        }
        // This announces the change even if the key was already revoked, because an earlier call
        // may have failed after its commit, and the client then repeats it.
        self.commit_announced(tx, tenant.id, ChangeKind::AdminKey).await?;
        Ok(key)
    }

    /// Finds the admin key with this hash, revoked or not, and its tenant. Concurrent lookups share
    /// a statement.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn verify_admin_key(
        &self,
        hash: &KeyHash,
    ) -> Result<Option<AdminVerification>, StoreError> {
        let _timer = self.timer("verify_admin_key");
        let found = self.find_under_lease(&self.lookups.admin_keys, *hash.as_bytes()).await?;
        let Some(row) = found else {
            return Ok(None);
        };
        Ok(Some(AdminVerification {
            id: AdminKeyId::from_uuid(row.admin_key_id),
            tenant: self.tenant_by_id(TenantId::from_uuid(row.tenant_id)).await?,
            permissions: stored_permissions(&row.permissions)?,
            revoked: row.revoked,
            tenant_status: stored_tenant_status(&row.tenant_status)?,
            now: stored_time("clock_timestamp()", row.now)?,
        }))
    }
}

/// Inserts an admin key and records its creation.
pub(in crate::store) async fn insert(
    connection: &mut Connection,
    tenant: &Tenant,
    key: &KeyText,
    name: &Name,
    permissions: &PermissionSet,
    origin: &Origin,
    at: Timestamp,
) -> Result<AdminKey, StoreError> {
    let row = AdminKey {
        id: AdminKeyId::new(at, entropy::for_id()?),
        hint: key.hint().as_str().to_owned(),
        name: name.as_str().to_owned(),
        permissions: permissions.clone(),
        created_at: at,
        revoked_at: None,
    };
    let hash = key.hash();
    sqlx::query!(
        "INSERT /* admin_keys.insert */
                INTO admin_keys (admin_key_id, tenant_id, key_hash, hint, name, permissions,
                                 created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
        row.id.uuid(),
        tenant.id.uuid(),
        hash.as_bytes(),
        row.hint,
        row.name,
        &row.permissions.to_strings(),
        OffsetDateTime::from(at),
    )
    .execute(&mut *connection)
    .await?;
    let detail = json!({
        "name": row.name,
        "hint": row.hint,
        "permissions": row.permissions.to_strings(),
    });
    let subject = Subject::Tenant(Some(AuditTarget::AdminKey(row.id)));
    let act = Act { action: AuditAction::AdminKeyCreate, subject, detail };
    act.record(connection, tenant, origin, at).await?;
    Ok(row)
}

async fn select_for_update(
    connection: &mut Connection,
    tenant: &Tenant,
    id: AdminKeyId,
) -> Result<AdminKey, StoreError> {
    sqlx::query_as!(
        AdminKeyRow,
        "SELECT /* admin_keys.select_for_update */
                admin_key_id, hint, name, permissions, created_at, revoked_at
         FROM admin_keys WHERE admin_key_id = $1 AND tenant_id = $2 FOR NO KEY UPDATE",
        id.uuid(),
        tenant.id.uuid(),
    )
    .fetch_optional(connection)
    .await?
    .ok_or(Refusal::NotFound)?
    .into_key()
}
