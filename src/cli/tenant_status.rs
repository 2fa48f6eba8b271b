//! The commands that suspend and resume a tenant.

use anyhow::Context as _;
use clap::Args;
use serde_json::json;

use super::{database::Database, output::outln, which_tenant::WhichTenant};
use crate::{
    config::DatabaseArgs,
    domain::{
        audit::Origin,
        tenant::{Tenant, TenantStatus},
    },
};

#[derive(Args)]
pub struct SetStatus {
    #[command(flatten)]
    which: WhichTenant,
    /// Print the tenant's name and status as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    database: DatabaseArgs,
}

impl SetStatus {
    pub async fn run(self, status: TenantStatus) -> anyhow::Result<()> {
        let database = Database::open_for_command(&self.database).await?;
        let tenant = self.which.find(&database).await?;
        let hearing = database.hear_acknowledgements().await;
        let changed = database.store.set_tenant_status(&tenant, status, &Origin::cli()).await;
        drop(hearing);
        changed?;
        self.print(&tenant, status).with_context(|| {
            format!("the tenant is now {}, but this could not be printed", status.as_str())
        })?;
        database.close().await
    }

    fn print(&self, tenant: &Tenant, status: TenantStatus) -> anyhow::Result<()> {
        let (slug, environment) = (tenant.slug.as_str(), tenant.environment.as_str());
        if self.json {
            let status = status.as_str();
            outln!("{}", json!({"tenant": slug, "environment": environment, "status": status}))
        } else {
            outln!("{slug} ({environment}) is {}", status.as_str())
        }
    }
}
