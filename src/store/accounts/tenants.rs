use std::{sync::Arc, time::Instant};

use serde_json::json;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{admin_keys, tenant_status::stored_tenant_status};
use crate::{
    domain::{
        account::AccountFormat,
        amount::Currency,
        api_key::{KeyPrefix, KeyText},
        audit::{AuditAction, Origin},
        id::TenantId,
        permission::PermissionSet,
        scope::ScopeSet,
        server::ServerId,
        tenant::{Environment, MaxKeys, Slug, Tenant, TenantPolicy, TenantStatus},
        text::Name,
        timestamp::Timestamp,
    },
    entropy,
    store::{
        Refusal, Store, StoreError,
        audit::{Act, Subject},
        clock::now,
        connection::Connection,
        primary,
        tenant_directory::{LOOK_AGAIN_AFTER, LastSearch, Looked, TenantDirectory},
    },
};

/// A tenant to create.
#[derive(Clone, Debug)]
pub struct NewTenant {
    pub slug: Slug,
    pub environment: Environment,
    pub policy: TenantPolicy,
    /// Maximum number of live keys of an account with the plan `default`.
    pub max_keys: MaxKeys,
    /// The default scopes of the plan `default`.
    pub default_scopes: ScopeSet,
}

struct TenantRow {
    tenant_id: Uuid,
    slug: String,
    environment: String,
    prefix: String,
    currency: String,
    decimals: i16,
    account_format: String,
    status: String,
}

impl Store {
    /// Creates a tenant with its plan `default`, and its first admin key, which has all permissions.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn create_tenant(
        &self,
        new: NewTenant,
        admin_key: &KeyText,
        admin_key_name: &Name,
        origin: &Origin,
    ) -> Result<Arc<Tenant>, StoreError> {
        let _timer = self.timer("create_tenant");
        let clears = self.tenants.clears();
        let mut tx = self.begin().await?;
        let at = now(&mut tx).await?;
        let id = TenantId::new(at, entropy::for_id()?);
        let NewTenant { slug, environment, policy, max_keys, default_scopes } = new;
        let tenant = Tenant { id, slug, environment, policy };
        insert(&mut tx, &tenant, max_keys, &default_scopes, at).await?;
        let detail = json!({
            "slug": tenant.slug.as_str(),
            "environment": environment.as_str(),
            "prefix": tenant.policy.prefix.as_str(),
        });
        let act = Act { action: AuditAction::TenantCreate, subject: Subject::Tenant(None), detail };
        act.record(&mut tx, &tenant, origin, at).await?;
        // The second event gets a later time, so that the audit trail lists both events in their
        // order.
        let at = now(&mut tx).await?;
        let all = PermissionSet::all();
        admin_keys::insert(&mut tx, &tenant, admin_key, admin_key_name, &all, origin, at).await?;
        tx.commit().await?;
        self.tenants.add(clears, [tenant]);
        self.tenant_by_id(id).await
    }

    /// Lists all tenants with their statuses, sorted by name.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn list_tenants(&self) -> Result<Vec<(Tenant, TenantStatus)>, StoreError> {
        let (_, rows) = self.read_tenants().await?;
        rows.into_iter().map(TenantRow::into_tenant).collect()
    }

    /// Reads all tenants. Also returns the server that answered.
    async fn read_tenants(&self) -> Result<(ServerId, Vec<TenantRow>), StoreError> {
        let _timer = self.timer("list_tenants");
        self.read(|mut connection| async move {
            let server = primary::server(&mut connection).await?;
            let rows = sqlx::query_as!(
                TenantRow,
                "SELECT /* tenants.list_tenants */
                        tenant_id, slug, environment, prefix, currency, decimals, account_format,
                        status
                 FROM tenants ORDER BY slug, environment"
            )
            .fetch_all(&mut connection)
            .await?;
            Ok((server, rows))
        })
        .await
    }

    /// Finds the tenant with this name. If another node has created a tenant, this node finds it
    /// within a second. Any client can send names, so the node searches the database for new
    /// tenants at most once a second.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn find_tenant(
        &self,
        slug: &Slug,
        environment: Environment,
    ) -> Result<Arc<Tenant>, StoreError> {
        let by_name = |known: &TenantDirectory| known.by_name(slug, environment);
        let found = self.known_or_found(by_name, Some(&self.tenants.looked_for_name)).await?;
        found.ok_or_else(|| Refusal::NotFound.into())
    }

    pub(in crate::store) async fn tenant_by_id(
        &self,
        id: TenantId,
    ) -> Result<Arc<Tenant>, StoreError> {
        let found = self.known_or_found(|known| known.by_id(id), None).await?;
        found.ok_or_else(|| Refusal::NotFound.into())
    }

    /// Finds the tenant with the key's prefix among the tenants that this node knows.
    #[must_use]
    pub fn known_tenant_of_key(&self, key: &KeyText) -> Option<Arc<Tenant>> {
        self.tenants.by_prefix_of(key)
    }

    /// Finds the tenant with the key's prefix. `None` means that no such key exists, so the caller
    /// need not look it up. The tenant may be new, so the node searches the database for new
    /// tenants, at most once a second.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn tenant_of_key(&self, key: &KeyText) -> Result<Option<Arc<Tenant>>, StoreError> {
        let by_prefix = |known: &TenantDirectory| known.by_prefix_of(key);
        self.known_or_found(by_prefix, Some(&self.tenants.looked_for_prefix)).await
    }

    /// Finds a tenant among the tenants that this node knows, or else searches the database for new
    /// tenants. [`Self::look_again`] decides from `looked` whether to skip the search.
    async fn known_or_found(
        &self,
        find: impl Fn(&TenantDirectory) -> Option<Arc<Tenant>>,
        looked: Option<&Looked>,
    ) -> Result<Option<Arc<Tenant>>, StoreError> {
        loop {
            let clears = self.tenants.clears();
            if let Some(found) = find(&self.tenants) {
                return Ok(Some(found));
            }
            match looked {
                Some(looked) => self.look_again(looked).await?,
                None => self.look_for_tenants().await?,
            }
            let found = find(&self.tenants);
            // If the directory was cleared during or after the search, it may lack a tenant that
            // exists.
            if found.is_some() || self.tenants.clears() == clears {
                return Ok(found);
            }
        }
    }

    /// Searches for new tenants. It skips the search if another search ended within the last second
    /// and in the same session, and the directory has not been cleared since. If that search
    /// failed, this call also fails, because new tenants may exist.
    async fn look_again(&self, looked: &Looked) -> Result<(), StoreError> {
        let mut looked = looked.lock().await;
        let (clears, epoch) = (self.tenants.clears(), self.servers.epoch());
        match &*looked {
            Some(last)
                if last.clears == clears
                    && last.epoch == epoch
                    && last.ended.elapsed() < LOOK_AGAIN_AFTER =>
            {
                if last.found_out {
                    Ok(())
                } else {
                    let reason = "the last search for new tenants failed";
                    Err(StoreError::Unavailable(reason.into()))
                }
            }
            _ => {
                let found = self.look_for_tenants().await;
                let (ended, found_out) = (Instant::now(), found.is_ok());
                *looked = Some(LastSearch { ended, found_out, clears, epoch });
                found
            }
        }
    }

    async fn look_for_tenants(&self) -> Result<(), StoreError> {
        loop {
            let clears = self.tenants.clears();
            let rows = self.under_lease(|_| self.read_tenants()).await?;
            let tenants = rows.into_iter().map(|row| Ok(row.into_tenant()?.0));
            if self.tenants.add(clears, tenants.collect::<Result<Vec<_>, StoreError>>()?) {
                return Ok(());
            }
        }
    }

    /// Forgets all tenants that this node knows, because any of them may have changed.
    pub fn forget_tenants(&self) {
        self.tenants.clear();
    }
}

/// Inserts a tenant. A trigger creates its plan `default` from the numbers of keys and the default
/// scopes of the row.
async fn insert(
    connection: &mut Connection,
    tenant: &Tenant,
    max_keys: MaxKeys,
    default_scopes: &ScopeSet,
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
        max_keys.get().cast_signed(),
        policy.currency.code(),
        i16::from(policy.currency.decimals()),
        policy.account_format.as_str(),
        &default_scopes.to_strings(),
        OffsetDateTime::from(at),
    )
    .execute(connection)
    .await?;
    Ok(())
}

impl TenantRow {
    fn into_tenant(self) -> Result<(Tenant, TenantStatus), StoreError> {
        let corrupt = |error: &dyn std::fmt::Display| StoreError::corrupt("tenants", error);
        let decimals = u8::try_from(self.decimals).map_err(|e| corrupt(&e))?;
        let status = stored_tenant_status(&self.status)?;
        let tenant = Tenant {
            id: TenantId::from_uuid(self.tenant_id),
            slug: self.slug.parse().map_err(|e| corrupt(&e))?,
            environment: self.environment.parse().map_err(|e| corrupt(&e))?,
            policy: TenantPolicy {
                prefix: KeyPrefix::parse(&self.prefix).map_err(|e| corrupt(&e))?,
                currency: Currency::new(&self.currency, decimals).map_err(|e| corrupt(&e))?,
                account_format: self
                    .account_format
                    .parse::<AccountFormat>()
                    .map_err(|e| corrupt(&e))?,
            },
        };
        Ok((tenant, status))
    }
}
