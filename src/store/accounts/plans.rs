//! The plans of tenants.

use std::collections::HashMap;

use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use crate::{
    domain::{
        account::{AccountId, ExternalId},
        audit::{AuditAction, Origin},
        plan::{
            LifetimeSeconds, MAX_PLANS, Plan, PlanName, PlanScope, PlanScopes, PlanSettings,
            WriteDays,
        },
        rate_limit::{RateLimit, RateLimits},
        scope::ScopeSet,
        tenant::{MaxKeys, Tenant},
    },
    store::{
        Refusal, Store, StoreError,
        audit::{Act, Subject},
        changes::ChangeKind,
        clock::{now, stored_time},
        connection::Connection,
        stored_limits::stored_limits,
        transaction::Tx,
    },
};

/// The default rate limits of a plan.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PlanLimits {
    /// The default limits of each key.
    pub keys: RateLimits,
    /// The default limits of each account.
    pub accounts: RateLimits,
}

impl PlanLimits {
    /// Returns the limits that apply to an account of the plan with these own limits.
    #[must_use]
    pub fn of_account(&self, own: Option<&RateLimits>) -> Vec<RateLimit> {
        own.cloned().unwrap_or_default().or_defaults(&self.accounts)
    }
}

struct PlanRow {
    name: String,
    max_keys: i16,
    scopes: Option<Vec<String>>,
    scope_texts: Option<Vec<String>>,
    default_scopes: Vec<String>,
    max_lifetime_seconds: Option<i64>,
    default_lifetime_seconds: Option<i64>,
    write_without_networks_days: Option<i32>,
    owner_creates_keys: bool,
    key_rate_limits: Value,
    account_rate_limits: Value,
    created_at: OffsetDateTime,
}

/// Defines a query that returns [`PlanRow`]s. `$rest` follows the table `plans`, whose alias is `p`.
macro_rules! select_plans {
    ($name:literal, $rest:literal, $($argument:expr),* $(,)?) => {
        sqlx::query_as!(
            PlanRow,
            "SELECT /* " + $name
            + r#" */
                        p.name, p.max_keys, p.scopes, p.scope_texts, p.default_scopes,
                        p.max_lifetime_seconds, p.default_lifetime_seconds,
                        p.write_without_networks_days, p.owner_creates_keys, p.key_rate_limits,
                        p.account_rate_limits, p.created_at
                 FROM plans p "#
            + $rest,
            $($argument),*
        )
    };
}

impl PlanRow {
    fn into_plan(self) -> Result<Plan, StoreError> {
        let scopes = match (self.scopes, self.scope_texts) {
            (Some(scopes), Some(texts)) => Some(plan_scopes(&scopes, &texts)?),
            _ => None,
        };
        let lifetime = |seconds: Option<i64>| {
            seconds.map(LifetimeSeconds::try_from).transpose().map_err(corrupt)
        };
        let days = self.write_without_networks_days.map(i64::from);
        Ok(Plan {
            name: self.name.parse().map_err(corrupt)?,
            settings: PlanSettings {
                max_keys: MaxKeys::try_from(i64::from(self.max_keys)).map_err(corrupt)?,
                scopes,
                default_scopes: ScopeSet::parse(&self.default_scopes).map_err(corrupt)?,
                max_lifetime: lifetime(self.max_lifetime_seconds)?,
                default_lifetime: lifetime(self.default_lifetime_seconds)?,
                write_without_networks: days
                    .map(WriteDays::try_from)
                    .transpose()
                    .map_err(corrupt)?,
                owner_creates_keys: self.owner_creates_keys,
                key_rate_limits: RateLimits::from_stored(&self.key_rate_limits).map_err(corrupt)?,
                account_rate_limits: RateLimits::from_stored(&self.account_rate_limits)
                    .map_err(corrupt)?,
            },
            created_at: stored_time("plans.created_at", self.created_at)?,
        })
    }
}

fn corrupt(error: impl std::fmt::Display) -> StoreError {
    StoreError::corrupt("plans", error)
}

fn plan_scopes(scopes: &[String], texts: &[String]) -> Result<PlanScopes, StoreError> {
    let listed = scopes.iter().zip(texts).map(|(scope, text)| {
        let (scope, text) = (scope.parse().map_err(corrupt)?, text.parse().map_err(corrupt)?);
        Ok(PlanScope { scope, text })
    });
    PlanScopes::new(listed.collect::<Result<_, StoreError>>()?).map_err(corrupt)
}

impl Store {
    /// Lists plans of a tenant, sorted by name, beginning after a name.
    #[tracing::instrument(level = "debug", skip_all, fields(tenant = %tenant.slug))]
    pub async fn list_plans(
        &self,
        tenant: &Tenant,
        after: Option<&PlanName>,
        limit: i64,
    ) -> Result<Vec<Plan>, StoreError> {
        let _timer = self.timer("list_plans");
        let (tenant_id, after) = (tenant.id.uuid(), after.map_or("", PlanName::as_str).to_owned());
        let rows = self
            .read(|mut connection| {
                let after = after.clone();
                async move {
                    select_plans!(
                        "plans.list",
                        "WHERE p.tenant_id = $1 AND p.name > $2 ORDER BY p.name LIMIT $3",
                        tenant_id,
                        after,
                        limit,
                    )
                    .fetch_all(&mut connection)
                    .await
                }
            })
            .await?;
        rows.into_iter().map(PlanRow::into_plan).collect()
    }

    /// Reads a plan.
    #[tracing::instrument(level = "debug", skip_all, fields(tenant = %tenant.slug, plan = %name))]
    pub async fn find_plan(&self, tenant: &Tenant, name: &PlanName) -> Result<Plan, StoreError> {
        let _timer = self.timer("find_plan");
        let tenant_id = tenant.id.uuid();
        let row = self
            .read(|mut connection| async move {
                select_plans!(
                    "plans.find",
                    "WHERE p.tenant_id = $1 AND p.name = $2",
                    tenant_id,
                    name.as_str(),
                )
                .fetch_optional(&mut connection)
                .await
            })
            .await?;
        row.ok_or(Refusal::NotFound)?.into_plan()
    }

    /// Reads the plan of an account.
    #[tracing::instrument(level = "debug", skip_all, fields(tenant = %tenant.slug, account_id = %tenant.account_id(account)))]
    pub async fn plan_of_account(
        &self,
        tenant: &Tenant,
        account: &ExternalId,
    ) -> Result<Plan, StoreError> {
        let _timer = self.timer("plan_of_account");
        let account_id = AccountId::derive(tenant.id, account);
        self.read(
            |mut connection| async move { select_of_account(&mut connection, account_id).await },
        )
        .await?
        .ok_or(Refusal::NotFound)?
        .into_plan()
    }

    /// Reads the default rate limits of all plans of a tenant.
    #[tracing::instrument(level = "debug", skip_all, fields(tenant = %tenant.slug))]
    pub async fn plan_limits(
        &self,
        tenant: &Tenant,
    ) -> Result<HashMap<PlanName, PlanLimits>, StoreError> {
        let _timer = self.timer("plan_limits");
        let tenant_id = tenant.id.uuid();
        let rows = self
            .read(|mut connection| async move {
                sqlx::query!(
                    "SELECT /* plans.limits */ name, key_rate_limits, account_rate_limits
                     FROM plans WHERE tenant_id = $1",
                    tenant_id,
                )
                .fetch_all(&mut connection)
                .await
            })
            .await?;
        let limits = |column, value: &Value| {
            Ok::<_, StoreError>(stored_limits(column, Some(value))?.unwrap_or_default())
        };
        let rows = rows.into_iter().map(|row| {
            let keys = limits("plans.key_rate_limits", &row.key_rate_limits)?;
            let accounts = limits("plans.account_rate_limits", &row.account_rate_limits)?;
            Ok((row.name.parse().map_err(corrupt)?, PlanLimits { keys, accounts }))
        });
        rows.collect()
    }

    /// Creates a plan, or replaces all its settings. Returns `true` if it was created. Returns once
    /// every node applies the settings. If the plan already has them, the call records no event.
    #[tracing::instrument(level = "debug", skip_all, fields(tenant = %tenant.slug, plan = %name))]
    pub async fn put_plan(
        &self,
        tenant: &Tenant,
        name: &PlanName,
        settings: &PlanSettings,
        origin: &Origin,
    ) -> Result<(Plan, bool), StoreError> {
        let _timer = self.timer("put_plan");
        let mut tx = self.begin().await?;
        let at = now(&mut tx).await?;
        let plan = Plan { name: name.clone(), settings: settings.clone(), created_at: at };
        loop {
            if let Some(old) = lock(&mut tx, tenant, name).await? {
                let plan = Plan { created_at: old.created_at, ..plan };
                return Ok((self.write(tx, tenant, &old, plan, origin).await?, false));
            }
            refuse_too_many(&mut tx, tenant).await?;
            // If another call has created the plan in the meantime, this call replaces its settings.
            if insert(&mut tx, tenant, &plan).await? {
                break;
            }
        }
        let mut detail = plan.settings.to_map();
        detail.insert("plan".to_owned(), json!(name));
        record(&mut tx, tenant, AuditAction::PlanCreate, detail, origin).await?;
        // No account has the plan yet, so no node has to apply it.
        tx.commit().await?;
        Ok((plan, true))
    }

    /// Changes a plan. Returns once every node applies the settings. If the plan already has them,
    /// the call records no event.
    ///
    /// `edit` returns the new settings, or an error that ends the call without a change.
    #[tracing::instrument(level = "debug", skip_all, fields(tenant = %tenant.slug, plan = %name))]
    pub async fn change_plan<E>(
        &self,
        tenant: &Tenant,
        name: &PlanName,
        edit: impl FnOnce(&PlanSettings) -> Result<PlanSettings, E> + Send,
        origin: &Origin,
    ) -> Result<Result<Plan, E>, StoreError> {
        let _timer = self.timer("change_plan");
        let mut tx = self.begin().await?;
        let old = lock(&mut tx, tenant, name).await?.ok_or(Refusal::NotFound)?;
        let settings = match edit(&old.settings) {
            Ok(settings) => settings,
            Err(error) => return Ok(Err(error)),
        };
        let plan = Plan { settings, ..old.clone() };
        self.write(tx, tenant, &old, plan, origin).await.map(Ok)
    }

    /// Deletes a plan that no account has. The plan `default` cannot be deleted.
    #[tracing::instrument(level = "debug", skip_all, fields(tenant = %tenant.slug, plan = %name))]
    pub async fn delete_plan(
        &self,
        tenant: &Tenant,
        name: &PlanName,
        origin: &Origin,
    ) -> Result<(), StoreError> {
        let _timer = self.timer("delete_plan");
        let mut tx = self.begin().await?;
        let deleted = sqlx::query!(
            "DELETE /* plans.delete */ FROM plans WHERE tenant_id = $1 AND name = $2",
            tenant.id.uuid(),
            name.as_str(),
        )
        .execute(&mut *tx)
        .await?
        .rows_affected();
        if deleted == 0 {
            return Err(Refusal::NotFound.into());
        }
        let detail = Map::from_iter([("plan".to_owned(), json!(name))]);
        record(&mut tx, tenant, AuditAction::PlanDelete, detail, origin).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Writes the new settings of a locked plan, announces and commits them.
    async fn write(
        &self,
        mut tx: Tx,
        tenant: &Tenant,
        old: &Plan,
        new: Plan,
        origin: &Origin,
    ) -> Result<Plan, StoreError> {
        let mut detail = old.settings.differences(&new.settings);
        if !detail.is_empty() {
            update(&mut tx, tenant, &new).await?;
            detail.insert("plan".to_owned(), json!(new.name));
            record(&mut tx, tenant, AuditAction::PlanChange, detail, origin).await?;
        }
        // This announces the change even if nothing has changed, because an earlier call may have
        // failed after its commit, and the client then repeats it.
        self.commit_announced(tx, tenant.id, ChangeKind::Tenant).await?;
        Ok(new)
    }
}

/// Reads the plan of an account in a transaction.
pub(in crate::store) async fn plan_of_locked_account(
    connection: &mut Connection,
    account_id: AccountId,
) -> Result<Plan, StoreError> {
    let row = select_of_account(connection, account_id).await?;
    row.ok_or(Refusal::NotFound)?.into_plan()
}

async fn select_of_account(
    connection: &mut Connection,
    account_id: AccountId,
) -> Result<Option<PlanRow>, sqlx::Error> {
    select_plans!(
        "plans.of_account",
        "JOIN accounts a ON a.tenant_id = p.tenant_id AND a.plan = p.name
         WHERE a.account_id = $1",
        account_id.uuid(),
    )
    .fetch_optional(connection)
    .await
}

async fn lock(
    connection: &mut Connection,
    tenant: &Tenant,
    name: &PlanName,
) -> Result<Option<Plan>, StoreError> {
    let row = select_plans!(
        "plans.lock",
        "WHERE p.tenant_id = $1 AND p.name = $2 FOR NO KEY UPDATE",
        tenant.id.uuid(),
        name.as_str(),
    )
    .fetch_optional(connection)
    .await?;
    row.map(PlanRow::into_plan).transpose()
}

/// Refuses another plan if the tenant has [`MAX_PLANS`]. Concurrent calls can exceed the maximum by
/// their number.
async fn refuse_too_many(connection: &mut Connection, tenant: &Tenant) -> Result<(), StoreError> {
    let number = sqlx::query_scalar!(
        r#"SELECT /* plans.count */ count(*) AS "count!" FROM plans WHERE tenant_id = $1"#,
        tenant.id.uuid(),
    )
    .fetch_one(connection)
    .await?;
    if number >= MAX_PLANS as i64 { Err(Refusal::PlanLimitReached.into()) } else { Ok(()) }
}

/// Inserts a plan, unless it exists. Returns `true` if it was inserted.
async fn insert(
    connection: &mut Connection,
    tenant: &Tenant,
    plan: &Plan,
) -> Result<bool, StoreError> {
    let settings = &plan.settings;
    let (scopes, texts) = scope_columns(settings);
    let inserted = sqlx::query!(
        "INSERT /* plans.insert */
                INTO plans (tenant_id, name, max_keys, scopes, scope_texts, default_scopes,
                            max_lifetime_seconds, default_lifetime_seconds,
                            write_without_networks_days, owner_creates_keys, key_rate_limits,
                            account_rate_limits, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11::text::jsonb, $12::text::jsonb, $13)
         ON CONFLICT DO NOTHING",
        tenant.id.uuid(),
        plan.name.as_str(),
        settings.max_keys.get().cast_signed(),
        scopes.as_deref(),
        texts.as_deref(),
        &settings.default_scopes.to_strings(),
        settings.max_lifetime.map(LifetimeSeconds::get),
        settings.default_lifetime.map(LifetimeSeconds::get),
        settings.write_without_networks.map(WriteDays::get),
        settings.owner_creates_keys,
        settings.key_rate_limits.to_value().to_string(),
        settings.account_rate_limits.to_value().to_string(),
        OffsetDateTime::from(plan.created_at),
    )
    .execute(connection)
    .await?
    .rows_affected();
    Ok(inserted > 0)
}

/// Writes the settings of an existing plan.
pub(in crate::store) async fn update(
    connection: &mut Connection,
    tenant: &Tenant,
    plan: &Plan,
) -> Result<(), StoreError> {
    let settings = &plan.settings;
    let (scopes, texts) = scope_columns(settings);
    sqlx::query!(
        "UPDATE /* plans.update */ plans
         SET max_keys = $3, scopes = $4, scope_texts = $5, default_scopes = $6,
             max_lifetime_seconds = $7, default_lifetime_seconds = $8,
             write_without_networks_days = $9, owner_creates_keys = $10,
             key_rate_limits = $11::text::jsonb, account_rate_limits = $12::text::jsonb
         WHERE tenant_id = $1 AND name = $2",
        tenant.id.uuid(),
        plan.name.as_str(),
        settings.max_keys.get().cast_signed(),
        scopes.as_deref(),
        texts.as_deref(),
        &settings.default_scopes.to_strings(),
        settings.max_lifetime.map(LifetimeSeconds::get),
        settings.default_lifetime.map(LifetimeSeconds::get),
        settings.write_without_networks.map(WriteDays::get),
        settings.owner_creates_keys,
        settings.key_rate_limits.to_value().to_string(),
        settings.account_rate_limits.to_value().to_string(),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Returns the scopes of a plan and their texts, as statements bind them.
fn scope_columns(settings: &PlanSettings) -> (Option<Vec<String>>, Option<Vec<String>>) {
    let Some(scopes) = &settings.scopes else { return (None, None) };
    let listed = scopes.iter();
    let (scopes, texts) =
        listed.map(|listed| (listed.scope.to_string(), listed.text.as_str().to_owned())).unzip();
    (Some(scopes), Some(texts))
}

async fn record(
    connection: &mut Connection,
    tenant: &Tenant,
    action: AuditAction,
    detail: Map<String, Value>,
    origin: &Origin,
) -> Result<(), StoreError> {
    let at = now(connection).await?;
    let act = Act { action, subject: Subject::Tenant(None), detail: detail.into() };
    act.record(connection, tenant, origin, at).await
}
