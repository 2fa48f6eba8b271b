use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::json;

use super::{
    database::Database, output::outln, tenant_limits::Limits, tenant_status::SetStatus,
    which_tenant::find,
};
use crate::{
    config::DatabaseArgs,
    domain::{
        account::AccountFormat,
        amount::Currency,
        api_key::{KeyPrefix, KeyText},
        audit::Origin,
        scope::ScopeSet,
        tenant::{Environment, MaxKeys, Slug, Tenant, TenantPolicy, TenantStatus},
        text::Name,
    },
    entropy,
    store::{NewTenant, Refusal, StoreError},
};

#[derive(Subcommand)]
pub enum TenantCommand {
    /// Create a tenant, and print its first admin key
    ///
    /// The admin key has all permissions and is shown only once. Create one tenant for the live
    /// environment of a platform, and another for its test environment.
    Create(Create),
    /// List all tenants
    List(List),
    /// Show one tenant and its policy
    Show(Show),
    /// Show or change the rate limits of a tenant, and the defaults of its plan default
    ///
    /// A rate limit is NAME=CALLS/WINDOW or NAME=CALLS/WINDOW@SCOPE. WINDOW is a number of seconds,
    /// or a number followed by s, m, h or d. With a scope, the limit counts only calls that ask for
    /// this scope or for a scope that it implies. A list has at most 8 limits. You can run this
    /// command while the service runs. Once it has returned, every node applies the new limits.
    Limits(Limits),
    /// Suspend a tenant: refuse all its API keys and admin keys, and close its dashboard
    ///
    /// Requests with its keys get 403 tenant_suspended. Its dashboard answers 403. Balances, keys and
    /// open sessions stay as they are. You can run this command while the service runs. Once it has
    /// returned, every node refuses each new request.
    Suspend(SetStatus),
    /// Resume a suspended tenant
    ///
    /// Its keys are accepted and its dashboard opens again. You can run this command while the
    /// service runs.
    Resume(SetStatus),
}

#[derive(Args)]
pub struct Create {
    /// Name of the tenant, such as tronagg, with at most 40 characters of a-z, 0-9 and -
    slug: Slug,
    /// Prefix of the tenant's API keys, such as ta_ or tt_live_, with at most 16 characters
    ///
    /// No prefix may be the start of another tenant's prefix.
    #[arg(long, value_parser = KeyPrefix::parse)]
    prefix: KeyPrefix,
    /// Environment of the tenant, live or test
    ///
    /// The two environments of a platform share no accounts, keys or balances.
    #[arg(long, default_value = "live")]
    environment: Environment,
    /// Maximum number of live API keys of an account with the plan default, 1 to 1000
    #[arg(long, default_value = "5", value_parser = parse_max_keys)]
    max_keys: MaxKeys,
    /// Code of the currency of all balances, such as TRX
    #[arg(long, default_value = "TRX")]
    currency: String,
    /// Number of decimals of the currency, 0 to 18
    #[arg(long, default_value_t = 6)]
    decimals: u8,
    /// Format of account ids: any or tron
    ///
    /// With any, an id consists of 1 to 128 visible ASCII characters. With tron, an id is a TRON
    /// address.
    #[arg(long, default_value = "any")]
    account_format: AccountFormat,
    /// Default scopes of new API keys in the plan default, separated by commas
    #[arg(long, default_value = "read", value_parser = parse_scopes)]
    default_scopes: ScopeSet,
    /// Print the tenant as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    database: DatabaseArgs,
}

#[derive(Args)]
pub struct List {
    /// Print the tenants as one JSON list
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    database: DatabaseArgs,
}

#[derive(Args)]
pub struct Show {
    /// Name of the tenant
    slug: Slug,
    /// Environment of the tenant, live or test
    #[arg(long, default_value = "live")]
    environment: Environment,
    /// Print the tenant as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    database: DatabaseArgs,
}

impl TenantCommand {
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Create(create) => create.run().await,
            Self::List(list) => list.run().await,
            Self::Show(show) => show.run().await,
            Self::Limits(limits) => limits.run().await,
            Self::Suspend(change) => change.run(TenantStatus::Suspended).await,
            Self::Resume(change) => change.run(TenantStatus::Active).await,
        }
    }
}

impl Create {
    async fn run(self) -> anyhow::Result<()> {
        let currency = Currency::new(&self.currency, self.decimals)?;
        let new = NewTenant {
            slug: self.slug,
            environment: self.environment,
            policy: TenantPolicy {
                prefix: self.prefix,
                currency,
                account_format: self.account_format,
            },
            max_keys: self.max_keys,
            default_scopes: self.default_scopes,
        };
        let database = Database::open_for_command(&self.database).await?;
        let admin_key = entropy::new_key(&KeyPrefix::admin())?;
        let name = Name::parse("first")?;
        let created = database.store.create_tenant(new, &admin_key, &name, &Origin::cli()).await;
        let tenant = explain(created)?;
        print_created(&tenant, &admin_key, self.json).with_context(|| {
            format!(
                "the tenant was created, but its admin key could not be printed. Create another \
                 one with tollgate admin-key create {}",
                tenant.slug
            )
        })?;
        database.close().await
    }
}

impl List {
    async fn run(self) -> anyhow::Result<()> {
        let database = Database::open_to_read(&self.database).await?;
        let tenants = database.store.list_tenants().await?;
        if self.json {
            let tenants = tenants.iter().map(|(tenant, status)| describe(tenant, *status));
            outln!("{}", json!(tenants.collect::<Vec<_>>()))?;
        } else if tenants.is_empty() {
            outln!(
                "There are no tenants yet. Create one with tollgate tenant create SLUG --prefix \
                 PREFIX"
            )?;
        } else {
            outln!(
                "{:<24} {:<11} {:<17} {:<10}  STATUS",
                "TENANT",
                "ENVIRONMENT",
                "PREFIX",
                "CURRENCY"
            )?;
            for (tenant, status) in &tenants {
                let policy = &tenant.policy;
                outln!(
                    "{:<24} {:<11} {:<17} {:<10}  {}",
                    tenant.slug.as_str(),
                    tenant.environment.as_str(),
                    policy.prefix.as_str(),
                    policy.currency.code(),
                    status.as_str(),
                )?;
            }
        }
        database.close().await
    }
}

impl Show {
    async fn run(self) -> anyhow::Result<()> {
        let database = Database::open_to_read(&self.database).await?;
        let tenant = find(&database, &self.slug, self.environment).await?;
        let status = database.store.tenant_status(&tenant).await?;
        if self.json {
            outln!("{}", describe(&tenant, status))?;
        } else {
            print(&tenant, status)?;
        }
        database.close().await
    }
}

fn explain<T>(created: Result<T, StoreError>) -> anyhow::Result<T> {
    created.map_err(|error| match error {
        StoreError::Refused(Refusal::TenantExists) => {
            anyhow::anyhow!("a tenant with this name already exists in this environment")
        }
        StoreError::Refused(Refusal::PrefixTaken) => anyhow::anyhow!(
            "the prefix conflicts with another tenant's prefix, because no prefix may be the start \
             of another. List the prefixes with tollgate tenant list"
        ),
        other => other.into(),
    })
}

fn describe(tenant: &Tenant, status: TenantStatus) -> serde_json::Value {
    let policy = &tenant.policy;
    json!({
        "id": tenant.id,
        "tenant": tenant.slug.as_str(),
        "environment": tenant.environment.as_str(),
        "status": status.as_str(),
        "prefix": policy.prefix.as_str(),
        "currency": policy.currency.code(),
        "decimals": policy.currency.decimals(),
        "account_format": policy.account_format.as_str(),
    })
}

fn print_created(tenant: &Tenant, admin_key: &KeyText, json: bool) -> anyhow::Result<()> {
    if json {
        let mut object = describe(tenant, TenantStatus::Active);
        object["admin_key"] = admin_key.expose().into();
        return outln!("{object}");
    }
    print(tenant, TenantStatus::Active)?;
    outln!("admin key       {}", admin_key.expose())?;
    outln!("\nThe admin key is shown only once. Store it where only your backend can read it.")
}

fn print(tenant: &Tenant, status: TenantStatus) -> anyhow::Result<()> {
    let policy = &tenant.policy;
    outln!("tenant          {}", tenant.slug)?;
    outln!("environment     {}", tenant.environment.as_str())?;
    outln!("status          {}", status.as_str())?;
    outln!("prefix          {}", policy.prefix)?;
    outln!("currency        {}, {} decimals", policy.currency.code(), policy.currency.decimals())?;
    outln!("account format  {}", policy.account_format.as_str())
}

pub fn parse_max_keys(text: &str) -> Result<MaxKeys, String> {
    let number: i64 = text.parse().context("must be a whole number").map_err(|e| e.to_string())?;
    MaxKeys::try_from(number).map_err(str::to_owned)
}

pub fn parse_scopes(text: &str) -> Result<ScopeSet, String> {
    ScopeSet::parse(text.split(',').map(str::trim)).map_err(|error| error.to_string())
}
