//! The commands for the plans of a tenant.

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    database::Database,
    output::outln,
    tenant::{parse_max_keys, parse_scopes},
    tenant_limits::{in_words, list},
    which_tenant::WhichTenant,
};
use crate::{
    config::DatabaseArgs,
    domain::{
        audit::Origin,
        plan::{
            LifetimeSeconds, MAX_PLANS, Plan, PlanName, PlanScope, PlanScopes, PlanSettings,
            ScopeText, WriteDays,
        },
        rate_limit::RateLimit,
        scope::{Scope, ScopeSet},
        seconds::parse_seconds,
        tenant::{MaxKeys, Tenant},
    },
    store::{Refusal, StoreError},
};

#[derive(Subcommand)]
pub enum PlanCommand {
    /// Create a plan, or change settings of an existing plan
    ///
    /// A setting without an option keeps its value. A new plan begins with 5 keys, the default scope
    /// read and no other rules. You can run this command while the service runs. Once it has
    /// returned, every node applies the plan.
    Set(Box<Set>),
    /// List the plans of a tenant
    List(List),
    /// Show one plan
    Show(Show),
    /// Delete a plan that no account has
    Delete(Delete),
}

#[derive(Args)]
pub struct Set {
    #[command(flatten)]
    which: WhichPlan,
    /// Maximum number of live API keys of an account, 1 to 1000
    #[arg(long, value_parser = parse_max_keys)]
    max_keys: Option<MaxKeys>,
    /// Scope that keys may have, with a text for people, such as orders:write="Place orders"
    ///
    /// Repeat the option for each scope. The given scopes replace all earlier scopes of the plan.
    /// Keys may also have scopes that these imply.
    #[arg(long = "scope", value_name = "SCOPE[=TEXT]", value_parser = parse_scope, conflicts_with = "any_scope")]
    scopes: Vec<PlanScope>,
    /// Let keys have any scope
    #[arg(long)]
    any_scope: bool,
    /// Default scopes of new API keys, separated by commas
    #[arg(long, value_parser = parse_scopes)]
    default_scopes: Option<ScopeSet>,
    /// Longest time until a key expires, such as 90d
    ///
    /// A number of seconds, or a number followed by s, m, h or d.
    #[arg(long, value_name = "TIME", value_parser = parse_lifetime, conflicts_with = "no_max_lifetime")]
    max_lifetime: Option<LifetimeSeconds>,
    /// Let keys live forever
    #[arg(long)]
    no_max_lifetime: bool,
    /// Lifetime of a key that is created without an expiry, such as 30d
    #[arg(long, value_name = "TIME", value_parser = parse_lifetime, conflicts_with = "no_default_lifetime")]
    default_lifetime: Option<LifetimeSeconds>,
    /// Give a key that is created without an expiry the longest lifetime
    #[arg(long)]
    no_default_lifetime: bool,
    /// Number of days within which a key expires if it can write and may be used from any address
    #[arg(long, value_name = "DAYS", value_parser = parse_days, conflicts_with = "no_write_without_networks_days")]
    write_without_networks_days: Option<WriteDays>,
    /// Remove the rule for keys that can write and may be used from any address
    #[arg(long)]
    no_write_without_networks_days: bool,
    /// Whether owners of accounts may create keys in the dashboard
    #[arg(long, value_name = "true|false")]
    owner_creates_keys: Option<bool>,
    /// Default rate limit of each API key, such as default=1000/60s
    ///
    /// Repeat the option for each limit. The given limits replace all earlier defaults for keys.
    #[arg(long = "key-limit", value_name = "LIMIT", conflicts_with = "no_key_limits")]
    key_limits: Vec<RateLimit>,
    /// Remove the default rate limits of API keys
    #[arg(long)]
    no_key_limits: bool,
    /// Default rate limit of each account, for all its keys together, such as daily=50000/1d
    ///
    /// Repeat the option for each limit. The given limits replace all earlier defaults for accounts.
    #[arg(long = "account-limit", value_name = "LIMIT", conflicts_with = "no_account_limits")]
    account_limits: Vec<RateLimit>,
    /// Remove the default rate limits of accounts
    #[arg(long)]
    no_account_limits: bool,
    /// Print the plan as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    database: DatabaseArgs,
}

/// The plan that a command reads or changes.
#[derive(Args)]
struct WhichPlan {
    #[command(flatten)]
    tenant: WhichTenant,
    /// Name of the plan, such as pro
    plan: PlanName,
}

#[derive(Args)]
pub struct List {
    #[command(flatten)]
    which: WhichTenant,
    /// Print the plans as one JSON list
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    database: DatabaseArgs,
}

#[derive(Args)]
pub struct Show {
    #[command(flatten)]
    which: WhichPlan,
    /// Print the plan as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    database: DatabaseArgs,
}

#[derive(Args)]
pub struct Delete {
    #[command(flatten)]
    which: WhichPlan,
    #[command(flatten)]
    database: DatabaseArgs,
}

impl PlanCommand {
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Set(set) => set.run().await,
            Self::List(list) => list.run().await,
            Self::Show(show) => show.run().await,
            Self::Delete(delete) => delete.run().await,
        }
    }
}

impl Set {
    async fn run(self) -> anyhow::Result<()> {
        let json = self.json;
        let database = Database::open_for_command(&self.database).await?;
        let tenant = self.which.tenant.find(&database).await?;
        let hearing = database.hear_acknowledgements().await;
        let changed = self.set(&database, &tenant).await;
        drop(hearing);
        let plan = changed?;
        print(&plan, json).with_context(|| {
            format!("the plan {} was changed, but could not be printed", plan.name)
        })?;
        database.close().await
    }

    async fn set(&self, database: &Database, tenant: &Tenant) -> anyhow::Result<Plan> {
        let (store, name, origin) = (&database.store, &self.which.plan, Origin::cli());
        let edit = |old: &PlanSettings| self.applied_to(old);
        match store.change_plan(tenant, name, edit, &origin).await {
            Err(StoreError::Refused(Refusal::NotFound)) => {
                let settings = self.applied_to(&PlanSettings::default())?;
                let made = store.put_plan(tenant, name, &settings, &origin).await;
                Ok(made.map_err(explain)?.0)
            }
            changed => changed?,
        }
    }

    /// Returns the settings after this change.
    fn applied_to(&self, old: &PlanSettings) -> anyhow::Result<PlanSettings> {
        let mut new = old.clone();
        new.max_keys = self.max_keys.unwrap_or(old.max_keys);
        if self.any_scope {
            new.scopes = None;
        } else if !self.scopes.is_empty() {
            let scopes = PlanScopes::new(self.scopes.clone());
            new.scopes = Some(scopes.context("the values of --scope are invalid")?);
        }
        if let Some(scopes) = &self.default_scopes {
            new.default_scopes = scopes.clone();
        }
        new.max_lifetime = or_cleared(self.max_lifetime, self.no_max_lifetime, old.max_lifetime);
        new.default_lifetime =
            or_cleared(self.default_lifetime, self.no_default_lifetime, old.default_lifetime);
        new.write_without_networks = or_cleared(
            self.write_without_networks_days,
            self.no_write_without_networks_days,
            old.write_without_networks,
        );
        new.owner_creates_keys = self.owner_creates_keys.unwrap_or(old.owner_creates_keys);
        if let Some(limits) = list("--key-limit", &self.key_limits, self.no_key_limits)? {
            new.key_rate_limits = limits;
        }
        if let Some(limits) = list("--account-limit", &self.account_limits, self.no_account_limits)?
        {
            new.account_rate_limits = limits;
        }
        new.check()?;
        Ok(new)
    }
}

impl List {
    async fn run(self) -> anyhow::Result<()> {
        let database = Database::open_to_read(&self.database).await?;
        let tenant = self.which.find(&database).await?;
        let plans = database.store.list_plans(&tenant, None, i64::MAX).await?;
        if self.json {
            outln!("{}", plans.iter().map(describe).collect::<Value>())?;
        } else {
            outln!("{:<32}  {:>8}  DEFAULT SCOPES", "PLAN", "MAX KEYS")?;
            for plan in &plans {
                let settings = &plan.settings;
                outln!(
                    "{:<32}  {:>8}  {}",
                    plan.name.as_str(),
                    settings.max_keys.get(),
                    settings.default_scopes,
                )?;
            }
        }
        database.close().await
    }
}

impl Show {
    async fn run(self) -> anyhow::Result<()> {
        let database = Database::open_to_read(&self.database).await?;
        let tenant = self.which.tenant.find(&database).await?;
        let plan = database.store.find_plan(&tenant, &self.which.plan).await;
        print(&plan.map_err(|error| explain_missing(error, &self.which))?, self.json)?;
        database.close().await
    }
}

impl Delete {
    async fn run(self) -> anyhow::Result<()> {
        let database = Database::open_for_command(&self.database).await?;
        let tenant = self.which.tenant.find(&database).await?;
        let deleted = database.store.delete_plan(&tenant, &self.which.plan, &Origin::cli()).await;
        deleted.map_err(|error| explain_missing(error, &self.which))?;
        outln!("the plan {} is deleted", self.which.plan)?;
        database.close().await
    }
}

fn explain(error: StoreError) -> anyhow::Error {
    match error {
        StoreError::Refused(Refusal::PlanLimitReached) => anyhow::anyhow!(
            "the tenant has {MAX_PLANS} plans, and may not have more. Delete one with tollgate plan \
             delete"
        ),
        StoreError::Refused(Refusal::PlanInUse) => anyhow::anyhow!(
            "the plan is in use, because it is the plan default or an account has it. Give these \
             accounts another plan first"
        ),
        other => other.into(),
    }
}

fn explain_missing(error: StoreError, which: &WhichPlan) -> anyhow::Error {
    match error {
        StoreError::Refused(Refusal::NotFound) => anyhow::anyhow!(
            "the tenant has no plan {}. List its plans with tollgate plan list {}",
            which.plan,
            which.tenant.tenant
        ),
        other => explain(other),
    }
}

/// Returns the new value, or nothing if the option to clear it is given, or else the old value.
fn or_cleared<T>(new: Option<T>, is_cleared: bool, old: Option<T>) -> Option<T> {
    if is_cleared { None } else { new.or(old) }
}

fn describe(plan: &Plan) -> Value {
    let mut object = plan.settings.to_map();
    object.shift_insert(0, "name".to_owned(), json!(plan.name));
    object.insert("created_at".to_owned(), json!(plan.created_at));
    object.into()
}

fn print(plan: &Plan, json: bool) -> anyhow::Result<()> {
    if json {
        return outln!("{}", describe(plan));
    }
    let settings = &plan.settings;
    let seconds = |lifetime: Option<LifetimeSeconds>, none: &str| {
        lifetime.map_or_else(|| none.to_owned(), |seconds| format!("{} s", seconds.get()))
    };
    outln!("plan                         {}", plan.name)?;
    outln!("max keys                     {}", settings.max_keys.get())?;
    match &settings.scopes {
        None => outln!("scopes                       any")?,
        Some(scopes) => {
            for (number, listed) in scopes.iter().enumerate() {
                let label = if number == 0 { "scopes" } else { "" };
                outln!("{label:<28} {}  {}", listed.scope, listed.text.as_str())?;
            }
        }
    }
    outln!("default scopes               {}", settings.default_scopes)?;
    outln!("max lifetime                 {}", seconds(settings.max_lifetime, "none"))?;
    outln!("default lifetime             {}", seconds(settings.default_lifetime, "the longest"))?;
    let days = settings.write_without_networks.map(|days| format!("{} days", days.get()));
    outln!("write without networks       {}", days.as_deref().unwrap_or("no rule"))?;
    let owners = if settings.owner_creates_keys { "yes" } else { "no" };
    outln!("owners create keys           {owners}")?;
    outln!("key limits                   {}", in_words(&settings.key_rate_limits))?;
    outln!("account limits               {}", in_words(&settings.account_rate_limits))
}

fn parse_scope(text: &str) -> Result<PlanScope, String> {
    let (scope, text) = text.split_once('=').unwrap_or((text, ""));
    Ok(PlanScope {
        scope: scope.parse::<Scope>().map_err(|error| error.to_string())?,
        text: text.parse::<ScopeText>().map_err(|error| error.to_string())?,
    })
}

fn parse_lifetime(text: &str) -> Result<LifetimeSeconds, String> {
    let seconds = parse_seconds(text)
        .ok_or("must be a number of seconds, or a number followed by s, m, h or d")?;
    LifetimeSeconds::try_from(seconds).map_err(|error| format!("{error} seconds"))
}

fn parse_days(text: &str) -> Result<WriteDays, String> {
    let days: i64 = text.parse().map_err(|_| "must be a whole number".to_owned())?;
    WriteDays::try_from(days).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetime_is_a_number_of_seconds_or_has_a_unit() {
        for (text, seconds) in
            [("1", 1), ("90s", 90), ("2m", 120), ("3h", 10_800), ("90d", 7_776_000)]
        {
            assert_eq!(parse_lifetime(text).map(LifetimeSeconds::get), Ok(seconds), "{text}");
        }
        for text in [
            "",
            "d",
            "0",
            "-1",
            "1w",
            "1.5d",
            "3654d",
            "99999999999999999999",
            "9223372036854775807d",
        ] {
            assert!(parse_lifetime(text).is_err(), "{text}");
        }
    }

    #[test]
    fn scope_may_have_a_text() {
        let scope = parse_scope("orders:write=Place orders").expect("a scope");
        assert_eq!(
            (scope.scope.to_string(), scope.text.as_str()),
            ("orders:write".into(), "Place orders")
        );
        assert_eq!(
            parse_scope("read").map(|scope| scope.text.as_str().to_owned()),
            Ok(String::new())
        );
        assert!(parse_scope("Orders=x").is_err());
    }
}
