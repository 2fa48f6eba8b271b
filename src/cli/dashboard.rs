use clap::{Args, Subcommand};

use super::{database::Database, tenant::find};
use crate::{
    config::DatabaseArgs,
    domain::{
        account::ExternalId,
        audit::Origin,
        tenant::{Environment, Slug, Tenant},
    },
    store::{Refusal, StoreError},
};

#[derive(Subcommand)]
pub enum DashboardCommand {
    /// End all dashboard sessions of a tenant or of one account, immediately and on every node
    ///
    /// Also ends links that were not used. A new link or sign-in opens a new session. A service may
    /// run meanwhile.
    EndSessions(EndSessions),
}

#[derive(Args)]
pub struct EndSessions {
    /// Name of the tenant
    tenant: Slug,
    /// The tenant's own id of an account, to end only the sessions of this account
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
            Self::EndSessions(end) => end.run().await,
        }
    }
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
        println!("Sessions ended: {ended}");
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
    ended.map_err(|error| match error {
        StoreError::Refused(Refusal::NotFound) => {
            anyhow::anyhow!("tenant {} has no account {account}", tenant.slug)
        }
        other => other.into(),
    })
}
