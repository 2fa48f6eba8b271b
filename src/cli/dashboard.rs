use anyhow::bail;
use clap::{Args, Subcommand};

use super::{database::Database, local_url::local_url, output::outln, which_tenant::find};
use crate::{
    config::{AddressArgs, DatabaseArgs},
    domain::{
        account::ExternalId,
        audit::Origin,
        dashboard::{LinkSeconds, ReturnUrl, WebOrigin, link_url},
        tenant::{Environment, Slug, Tenant},
    },
    entropy,
    store::{Refusal, StoreError},
};

#[derive(Subcommand)]
pub enum DashboardCommand {
    /// Print a link that opens the dashboard of an account
    ///
    /// Prints only the URL. The link works once and opens a session with all rights. Set
    /// TOLLGATE_PUBLIC_URL or TOLLGATE_LISTEN to the same value as for the service that serves the
    /// dashboard.
    Link(Link),
    /// End all dashboard sessions of a tenant or of one account immediately on every node
    ///
    /// Also invalidates unused dashboard links. A new link or sign-in opens a new session. You can
    /// run this command while the service runs.
    EndSessions(EndSessions),
}

#[derive(Args)]
pub struct Link {
    /// Name of the tenant
    tenant: Slug,
    /// The tenant's own id for the account
    account: String,
    /// Environment of the tenant, live or test
    #[arg(long, default_value = "live")]
    environment: Environment,
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t,
        value_parser = parse_link_seconds,
        help = format!("Seconds until the link expires, 1 to {}", LinkSeconds::MAX)
    )]
    expires_in: LinkSeconds,
    /// URL of the page that the dashboard links back to. The dashboard settings of the tenant must
    /// list its origin in return_origins
    #[arg(long, value_name = "URL", value_parser = ReturnUrl::parse)]
    return_url: Option<ReturnUrl>,
    #[command(flatten)]
    addresses: AddressArgs,
    #[command(flatten)]
    database: DatabaseArgs,
}

#[derive(Args)]
pub struct EndSessions {
    /// Name of the tenant
    tenant: Slug,
    /// The tenant's own id for an account. Ends only the sessions of this account
    account: Option<String>,
    /// Environment of the tenant, live or test
    #[arg(long, default_value = "live")]
    environment: Environment,
    #[command(flatten)]
    database: DatabaseArgs,
}

impl DashboardCommand {
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Link(link) => link.run().await,
            Self::EndSessions(end) => end.run().await,
        }
    }
}

impl Link {
    async fn run(self) -> anyhow::Result<()> {
        let public_url = self.public_url()?;
        let database = Database::open_for_command(&self.database).await?;
        let tenant = find(&database, &self.tenant, self.environment).await?;
        if let Some(url) = &self.return_url {
            check_origin(&database, &tenant, url).await?;
        }
        let account = ExternalId::parse(&self.account, tenant.policy.account_format)?;
        let (token, origin) = (entropy::new_session_token()?, Origin::cli());
        let handle = database.store.account(&tenant, &account, &origin);
        let made =
            handle.create_dashboard_link(&token, self.return_url.as_ref(), self.expires_in).await;
        made.map_err(|error| explain(error, &tenant, &account))?;
        outln!("{}", link_url(&public_url, &token))?;
        database.close().await
    }

    /// Returns the URL at which browsers reach the service.
    fn public_url(&self) -> anyhow::Result<WebOrigin> {
        let addresses = self.addresses.resolve()?;
        match addresses.public_url {
            Some(url) => Ok(url),
            None if addresses.listen.port() == 0 => bail!(
                "TOLLGATE_LISTEN contains port 0, so the service's port is unknown. Set \
                 TOLLGATE_PUBLIC_URL to the URL of the service"
            ),
            None => local_url(addresses.listen),
        }
    }
}

fn parse_link_seconds(text: &str) -> Result<LinkSeconds, String> {
    let seconds: i64 = text.parse().map_err(|_| "must be a whole number".to_owned())?;
    LinkSeconds::try_from(seconds).map_err(|error| error.to_string())
}

/// Refuses a return URL whose origin is not in the tenant's dashboard settings.
async fn check_origin(database: &Database, tenant: &Tenant, url: &ReturnUrl) -> anyhow::Result<()> {
    let origins = database.store.dashboard_settings(tenant).await?.return_origins;
    if !origins.allow(url) {
        bail!(
            "--return-url has the origin {}, which is not in return_origins in the dashboard \
             settings of tenant {}. Add the origin with PATCH /v1/dashboard-settings",
            url.origin(),
            tenant.slug
        );
    }
    Ok(())
}

impl EndSessions {
    async fn run(self) -> anyhow::Result<()> {
        let database = Database::open_for_command(&self.database).await?;
        let tenant = find(&database, &self.tenant, self.environment).await?;
        let hearing = database.hear_acknowledgements().await;
        let ended = match &self.account {
            Some(account) => end_of_account(&database, &tenant, account).await?,
            None => {
                let origin = Origin::cli();
                database.store.end_dashboard_sessions_of_tenant(&tenant, &origin).await?
            }
        };
        drop(hearing);
        outln!("Sessions ended: {ended}")?;
        database.close().await
    }
}

async fn end_of_account(
    database: &Database,
    tenant: &Tenant,
    account: &str,
) -> anyhow::Result<u64> {
    let (account, origin) =
        (ExternalId::parse(account, tenant.policy.account_format)?, Origin::cli());
    let ended = database.store.account(tenant, &account, &origin).end_dashboard_sessions().await;
    ended.map_err(|error| explain(error, tenant, &account))
}

fn explain(error: StoreError, tenant: &Tenant, account: &ExternalId) -> anyhow::Error {
    match error {
        StoreError::Refused(Refusal::NotFound) => {
            anyhow::anyhow!("tenant {} has no account {account}", tenant.slug)
        }
        other => other.into(),
    }
}
