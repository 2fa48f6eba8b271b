use std::{sync::Arc, time::Instant};

use serde_json::json;
use time::OffsetDateTime;
use uuid::Uuid;

use super::admin_keys;
use crate::{
    domain::{
        account::AccountFormat,
        amount::Currency,
        api_key::{KeyPrefix, KeyText},
        audit::{AuditAction, Origin},
        id::TenantId,
        permission::PermissionSet,
        scope::ScopeSet,
        tenant::{Environment, MaxKeys, Slug, Tenant, TenantPolicy},
        text::Name,
        timestamp::Timestamp,
    },
    entropy,
    store::{
        Refusal, Store, StoreError,
        audit::{Act, Subject},
        clock::now,
        connection::Connection,
        tenant_directory::{LOOK_AGAIN_AFTER, Looked},
    },
};

struct TenantRow {
    tenant_id: Uuid,
    slug: String,
    environment: String,
    prefix: String,
    max_keys: i16,
    currency: String,
    decimals: i16,
    account_format: String,
    default_scopes: Vec<String>,
}

impl Store {
    /// Creates a tenant, with a first admin key that has all permissions.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn create_tenant(
        &self,
        slug: &Slug,
        environment: Environment,
        policy: TenantPolicy,
        admin_key: &KeyText,
        admin_key_name: &Name,
        origin: &Origin,
    ) -> Result<Arc<Tenant>, StoreError> {
        let _timer = self.timer("create_tenant");
        let mut tx = self.begin().await?;
        let at = now(&mut tx).await?;
        let id = TenantId::new(at, entropy::for_id()?);
        let tenant = Tenant { id, slug: slug.clone(), environment, policy };
        insert(&mut tx, &tenant, at).await?;
        let detail = json!({
            "slug": slug.as_str(),
            "environment": environment.as_str(),
            "prefix": tenant.policy.prefix.as_str(),
        });
        let act = Act { action: AuditAction::TenantCreate, subject: Subject::Tenant(None), detail };
        act.record(&mut tx, &tenant, origin, at).await?;
        // A later time, so that the audit trail lists the two acts in their order.
        let at = now(&mut tx).await?;
        let all = PermissionSet::all();
        admin_keys::insert(&mut tx, &tenant, admin_key, admin_key_name, &all, origin, at).await?;
        tx.commit().await?;
        self.tenants.add([tenant]);
        self.tenant_by_id(id).await
    }

    /// Every tenant, by name.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn list_tenants(&self) -> Result<Vec<Tenant>, StoreError> {
        let _timer = self.timer("list_tenants");
        let rows = self
            .read(|mut connection| async move {
                sqlx::query_as!(
                    TenantRow,
                    "SELECT /* tenants.list_tenants */
                            tenant_id, slug, environment, prefix, max_keys, currency, decimals,
                            account_format, default_scopes
                     FROM tenants ORDER BY slug, environment"
                )
                .fetch_all(&mut connection)
                .await
            })
            .await?;
        rows.into_iter().map(TenantRow::into_tenant).collect()
    }

    /// The tenant with this name. A tenant that another node has created is found within a second:
    /// any client can send names, so the database is searched for new tenants at most once a
    /// second.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn find_tenant(
        &self,
        slug: &Slug,
        environment: Environment,
    ) -> Result<Arc<Tenant>, StoreError> {
        if let Some(tenant) = self.tenants.by_name(slug, environment) {
            return Ok(tenant);
        }
        self.look_again(&self.tenants.looked_for_name).await?;
        self.tenants.by_name(slug, environment).ok_or_else(|| Refusal::NotFound.into())
    }

    pub(in crate::store) async fn tenant_by_id(
        &self,
        id: TenantId,
    ) -> Result<Arc<Tenant>, StoreError> {
        if let Some(tenant) = self.tenants.by_id(id) {
            return Ok(tenant);
        }
        self.look_for_tenants().await?;
        self.tenants.by_id(id).ok_or_else(|| Refusal::NotFound.into())
    }

    /// The tenant whose prefix the key has, if this node knows it.
    #[must_use]
    pub fn known_tenant_of_key(&self, key: &KeyText) -> Option<Arc<Tenant>> {
        self.tenants.by_prefix_of(key)
    }

    /// The tenant whose prefix the key has. If there is none, the key was never created, and is not
    /// looked up. Because the tenant may be new, the database is searched for new tenants, at most
    /// once a second.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn tenant_of_key(&self, key: &KeyText) -> Result<Option<Arc<Tenant>>, StoreError> {
        if let Some(tenant) = self.known_tenant_of_key(key) {
            return Ok(Some(tenant));
        }
        self.look_again(&self.tenants.looked_for_prefix).await?;
        Ok(self.tenants.by_prefix_of(key))
    }

    /// Looks for new tenants, unless that was done within the last second. If that search failed,
    /// it is unknown whether there are any.
    async fn look_again(&self, looked: &Looked) -> Result<(), StoreError> {
        let mut looked = looked.lock().await;
        match *looked {
            Some((at, found_out)) if at.elapsed() < LOOK_AGAIN_AFTER => {
                if found_out {
                    Ok(())
                } else {
                    let reason = "new tenants could not be looked for a moment ago";
                    Err(StoreError::Unavailable(reason.into()))
                }
            }
            _ => {
                let found = self.look_for_tenants().await;
                *looked = Some((Instant::now(), found.is_ok()));
                found
            }
        }
    }

    async fn look_for_tenants(&self) -> Result<(), StoreError> {
        self.tenants.add(self.list_tenants().await?);
        Ok(())
    }
}

async fn insert(
    connection: &mut Connection,
    tenant: &Tenant,
    at: Timestamp,
) -> Result<(), StoreError> {
    let policy = &tenant.policy;
    sqlx::query!(
        "INSERT /* tenants.insert */
                INTO tenants (tenant_id, slug, environment, prefix, max_keys, currency, decimals,
                              account_format, default_scopes, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        tenant.id.uuid(),
        tenant.slug.as_str(),
        tenant.environment.as_str(),
        policy.prefix.as_str(),
        policy.max_keys.get().cast_signed(),
        policy.currency.code(),
        i16::from(policy.currency.decimals()),
        policy.account_format.as_str(),
        &policy.default_scopes.to_strings(),
        OffsetDateTime::from(at),
    )
    .execute(connection)
    .await?;
    Ok(())
}

impl TenantRow {
    fn into_tenant(self) -> Result<Tenant, StoreError> {
        let corrupt = |error: &dyn std::fmt::Display| StoreError::corrupt("tenants", error);
        let decimals = u8::try_from(self.decimals).map_err(|e| corrupt(&e))?;
        Ok(Tenant {
            id: TenantId::from_uuid(self.tenant_id),
            slug: self.slug.parse().map_err(|e| corrupt(&e))?,
            environment: self.environment.parse().map_err(|e| corrupt(&e))?,
            policy: TenantPolicy {
                prefix: KeyPrefix::parse(&self.prefix).map_err(|e| corrupt(&e))?,
                max_keys: MaxKeys::try_from(i64::from(self.max_keys)).map_err(|e| corrupt(&e))?,
                currency: Currency::new(&self.currency, decimals).map_err(|e| corrupt(&e))?,
                account_format: self
                    .account_format
                    .parse::<AccountFormat>()
                    .map_err(|e| corrupt(&e))?,
                default_scopes: ScopeSet::parse(&self.default_scopes).map_err(|e| corrupt(&e))?,
            },
        })
    }
}
