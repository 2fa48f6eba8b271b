//! Suspends and resumes tenants.

use serde_json::json;

use crate::{
    domain::{
        audit::{AuditAction, Origin},
        tenant::{Tenant, TenantStatus},
    },
    store::{
        Refusal, Store, StoreError,
        audit::{Act, Subject},
        changes::ChangeKind,
        clock::now,
        primary,
    },
};

impl Store {
    /// Reads the status of a tenant, on the server that granted the lease of this node.
    #[tracing::instrument(level = "debug", skip_all, fields(tenant = %tenant.slug))]
    pub async fn tenant_status(&self, tenant: &Tenant) -> Result<TenantStatus, StoreError> {
        let _timer = self.timer("tenant_status");
        let tenant_id = tenant.id.uuid();
        let read = |_| {
            self.read(move |mut connection| async move {
                let server = primary::server(&mut connection).await?;
                let status = sqlx::query_scalar!(
                    "SELECT /* tenants.tenant_status */ status FROM tenants WHERE tenant_id = $1",
                    tenant_id,
                )
                .fetch_optional(&mut connection)
                .await?;
                Ok((server, status))
            })
        };
        let status = self.under_lease(read).await?;
        stored_tenant_status(&status.ok_or(Refusal::NotFound)?)
    }

    /// Suspends or resumes a tenant. Returns once every node applies the status. If the tenant
    /// already has the status, the call records no event.
    #[tracing::instrument(level = "debug", skip_all, fields(tenant = %tenant.slug))]
    pub async fn set_tenant_status(
        &self,
        tenant: &Tenant,
        status: TenantStatus,
        origin: &Origin,
    ) -> Result<(), StoreError> {
        let _timer = self.timer("set_tenant_status");
        let mut tx = self.begin().await?;
        let old = sqlx::query_scalar!(
            "SELECT /* tenants.lock */ status FROM tenants WHERE tenant_id = $1 FOR NO KEY UPDATE",
            tenant.id.uuid(),
        )
        .fetch_optional(&mut *tx)
        .await?;
        let old = stored_tenant_status(&old.ok_or(Refusal::NotFound)?)?;
        if old != status {
            sqlx::query!(
                "UPDATE /* tenants.set_status */ tenants SET status = $2 WHERE tenant_id = $1",
                tenant.id.uuid(),
                status.as_str(),
            )
            .execute(&mut *tx)
            .await?;
            let action = match status {
                TenantStatus::Active => AuditAction::TenantResume,
                TenantStatus::Suspended => AuditAction::TenantSuspend,
            };
            let detail = json!({"status": {"from": old, "to": status}});
            let act = Act { action, subject: Subject::Tenant(None), detail };
            let at = now(&mut tx).await?;
            act.record(&mut tx, tenant, origin, at).await?;
        }
        // This announces the change even if the status has not changed, because an earlier call may
        // have failed after its commit.
        self.commit_announced(tx, tenant.id, ChangeKind::Tenant).await?;
        Ok(())
    }
}

/// Parses a stored status of a tenant.
pub(in crate::store) fn stored_tenant_status(status: &str) -> Result<TenantStatus, StoreError> {
    status.parse().map_err(|error| StoreError::corrupt("tenants.status", error))
}
