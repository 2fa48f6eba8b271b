//! The command that shows and changes the rate limits of a tenant.

use anyhow::Context as _;
use clap::Args;
use serde_json::json;

use super::{database::Database, output::outln, which_tenant::WhichTenant};
use crate::{
    config::DatabaseArgs,
    domain::{
        audit::Origin,
        rate_limit::{RateLimit, RateLimits, TenantLimits, TenantLimitsChange},
        tenant::Tenant,
    },
};

#[derive(Args)]
pub struct Limits {
    #[command(flatten)]
    which: WhichTenant,
    /// Rate limit of all calls of the tenant together, such as default=100000/1m
    ///
    /// Repeat the option for each limit. The given limits replace all earlier limits of the tenant.
    #[arg(long = "limit", value_name = "LIMIT", conflicts_with = "no_limits")]
    limits: Vec<RateLimit>,
    /// Default rate limit of each API key in the plan default, such as default=1000/60s or
    /// orders=10/1s@orders:write
    ///
    /// Repeat the option for each limit. The given limits replace all earlier defaults for keys. A
    /// limit of a key with the same name replaces the default.
    #[arg(long = "key-limit", value_name = "LIMIT", conflicts_with = "no_key_limits")]
    key_limits: Vec<RateLimit>,
    /// Default rate limit of each account with the plan default, such as daily=50000/1d
    ///
    /// Repeat the option for each limit. The given limits replace all earlier defaults for
    /// accounts. A limit of an account with the same name replaces the default.
    #[arg(long = "account-limit", value_name = "LIMIT", conflicts_with = "no_account_limits")]
    account_limits: Vec<RateLimit>,
    /// Remove the rate limits of all calls of the tenant together
    #[arg(long)]
    no_limits: bool,
    /// Remove the default rate limits of API keys in the plan default
    #[arg(long)]
    no_key_limits: bool,
    /// Remove the default rate limits of accounts with the plan default
    #[arg(long)]
    no_account_limits: bool,
    /// Print the rate limits as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    database: DatabaseArgs,
}

impl Limits {
    pub async fn run(self) -> anyhow::Result<()> {
        let change = self.change()?;
        if change.is_empty() {
            let database = Database::open_to_read(&self.database).await?;
            let tenant = self.which.find(&database).await?;
            let limits = database.store.tenant_limits(&tenant).await?;
            self.print(&tenant, &limits)?;
            return database.close().await;
        }
        let database = Database::open_for_command(&self.database).await?;
        let tenant = self.which.find(&database).await?;
        let hearing = database.hear_acknowledgements().await;
        let changed = database.store.change_tenant_limits(&tenant, &change, &Origin::cli()).await;
        drop(hearing);
        let limits = changed?;
        self.print(&tenant, &limits).with_context(|| {
            format!(
                "the rate limits were changed, but could not be printed. Print them with tollgate \
                 tenant limits {}",
                tenant.slug
            )
        })?;
        database.close().await
    }

    fn change(&self) -> anyhow::Result<TenantLimitsChange> {
        Ok(TenantLimitsChange {
            own: list("--limit", &self.limits, self.no_limits)?,
            keys: list("--key-limit", &self.key_limits, self.no_key_limits)?,
            accounts: list("--account-limit", &self.account_limits, self.no_account_limits)?,
        })
    }

    fn print(&self, tenant: &Tenant, limits: &TenantLimits) -> anyhow::Result<()> {
        if self.json {
            return outln!(
                "{}",
                json!({
                    "tenant": tenant.slug.as_str(),
                    "environment": tenant.environment.as_str(),
                    "rate_limits": limits.own.to_value(),
                    "key_rate_limits": limits.keys.to_value(),
                    "account_rate_limits": limits.accounts.to_value(),
                })
            );
        }
        outln!("tenant          {}", tenant.slug)?;
        outln!("environment     {}", tenant.environment.as_str())?;
        outln!("limits          {}", in_words(&limits.own))?;
        outln!("key limits      {}", in_words(&limits.keys))?;
        outln!("account limits  {}", in_words(&limits.accounts))
    }
}

/// Returns the new list of one kind, or `None` if the list stays unchanged.
pub fn list(option: &str, given: &[RateLimit], clear: bool) -> anyhow::Result<Option<RateLimits>> {
    if given.is_empty() && !clear {
        return Ok(None);
    }
    let limits = RateLimits::new(given.to_vec());
    Ok(Some(limits.with_context(|| format!("the values of {option} are invalid"))?))
}

pub fn in_words(limits: &RateLimits) -> String {
    if limits.is_empty() {
        return "none".to_owned();
    }
    limits.iter().map(RateLimit::to_string).collect::<Vec<_>>().join(", ")
}
