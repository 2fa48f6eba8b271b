use serde_json::Value;

use crate::{
    domain::{
        audit::{AuditAction, Origin},
        rate_limit::{RateLimits, TenantLimits, TenantLimitsChange},
        tenant::Tenant,
    },
    store::{
        Refusal, Store, StoreError,
        audit::{Act, Subject},
        changes::ChangeKind,
        clock::now,
        connection::Connection,
    },
};

struct LimitsRow {
    rate_limits: Option<Value>,
    key_rate_limits: Value,
    account_rate_limits: Value,
}

impl LimitsRow {
    fn into_limits(self) -> Result<TenantLimits, StoreError> {
        let list = |value: &Value| {
            RateLimits::from_stored(value)
                .map_err(|error| StoreError::corrupt("tenant_limits or plans", error))
        };
        Ok(TenantLimits {
            own: self.rate_limits.as_ref().map(list).transpose()?.unwrap_or_default(),
            keys: list(&self.key_rate_limits)?,
            accounts: list(&self.account_rate_limits)?,
        })
    }
}

impl Store {
    /// Reads the rate limits of a tenant, and the defaults of its plan `default`.
    #[tracing::instrument(level = "debug", skip_all, fields(tenant = %tenant.slug))]
    pub async fn tenant_limits(&self, tenant: &Tenant) -> Result<TenantLimits, StoreError> {
        let _timer = self.timer("tenant_limits");
        let tenant_id = tenant.id.uuid();
        let row = self
            .read(|mut connection| async move {
                sqlx::query_as!(
                    LimitsRow,
                    r#"SELECT /* rate_limits.tenant_limits */
                            t.rate_limits AS "rate_limits?", p.key_rate_limits,
                            p.account_rate_limits
                     FROM plans p LEFT JOIN tenant_limits t USING (tenant_id)
                     WHERE p.tenant_id = $1 AND p.name = 'default'"#,
                    tenant_id,
                )
                .fetch_optional(&mut connection)
                .await
            })
            .await?;
        row.ok_or(Refusal::NotFound)?.into_limits()
    }

    /// Changes the rate limits of a tenant, and the defaults of its plan `default`. If the tenant already has these limits, the call
    /// records no event.
    #[tracing::instrument(level = "debug", skip_all, fields(tenant = %tenant.slug))]
    pub async fn change_tenant_limits(
        &self,
        tenant: &Tenant,
        change: &TenantLimitsChange,
        origin: &Origin,
    ) -> Result<TenantLimits, StoreError> {
        if change.is_empty() {
            return self.tenant_limits(tenant).await;
        }
        let _timer = self.timer("change_tenant_limits");
        let mut tx = self.begin().await?;
        let old = lock(&mut tx, tenant).await?;
        let new = change.applied_to(&old);
        if new != old {
            update(&mut tx, tenant, &old, &new).await?;
            let act = Act {
                action: AuditAction::TenantLimitsChange,
                subject: Subject::Tenant(None),
                detail: old.differences(&new).into(),
            };
            let at = now(&mut tx).await?;
            act.record(&mut tx, tenant, origin, at).await?;
        }
        // This announces the change even if no limit has changed, because an earlier call may have
        // failed after its commit, and the client then repeats it.
        self.commit_announced(tx, tenant.id, ChangeKind::Limits).await?;
        Ok(new)
    }
}

/// Locks the tenant's rows until the transaction ends. Creates the row of its limits if it does not
/// exist.
async fn lock(connection: &mut Connection, tenant: &Tenant) -> Result<TenantLimits, StoreError> {
    sqlx::query!(
        "INSERT /* rate_limits.create_tenant_limits */
                INTO tenant_limits (tenant_id, rate_limits)
         VALUES ($1, '[]') ON CONFLICT (tenant_id) DO NOTHING",
        tenant.id.uuid(),
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query_as!(
        LimitsRow,
        r#"SELECT /* rate_limits.lock_tenant_limits */
                t.rate_limits AS "rate_limits?", p.key_rate_limits, p.account_rate_limits
         FROM plans p JOIN tenant_limits t USING (tenant_id)
         WHERE p.tenant_id = $1 AND p.name = 'default' FOR NO KEY UPDATE"#,
        tenant.id.uuid(),
    )
    .fetch_one(connection)
    .await?
    .into_limits()
}

/// Writes the limits that differ.
async fn update(
    connection: &mut Connection,
    tenant: &Tenant,
    old: &TenantLimits,
    new: &TenantLimits,
) -> Result<(), StoreError> {
    if old.own != new.own {
        sqlx::query!(
            "UPDATE /* rate_limits.update_tenant_limits */ tenant_limits
             SET rate_limits = $2::text::jsonb WHERE tenant_id = $1",
            tenant.id.uuid(),
            new.own.to_value().to_string(),
        )
        .execute(&mut *connection)
        .await?;
    }
    if (&old.keys, &old.accounts) != (&new.keys, &new.accounts) {
        sqlx::query!(
            "UPDATE /* rate_limits.update_default_plan */ plans
             SET key_rate_limits = $2::text::jsonb, account_rate_limits = $3::text::jsonb
             WHERE tenant_id = $1 AND name = 'default'",
            tenant.id.uuid(),
            new.keys.to_value().to_string(),
            new.accounts.to_value().to_string(),
        )
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}
