//! The tenant that a command names.

use std::sync::Arc;

use clap::Args;

use super::database::Database;
use crate::{
    domain::tenant::{Environment, Slug, Tenant},
    store::{Refusal, StoreError},
};

/// The tenant whose data a command reads or changes.
#[derive(Args)]
pub struct WhichTenant {
    /// Name of the tenant
    pub tenant: Slug,
    /// Environment of the tenant, live or test
    #[arg(long, default_value = "live")]
    pub environment: Environment,
}

impl WhichTenant {
    /// Returns the tenant, or an error that says what to do.
    pub async fn find(&self, database: &Database) -> anyhow::Result<Arc<Tenant>> {
        find(database, &self.tenant, self.environment).await
    }
}

/// Returns the tenant with this name, or an error that says what to do.
pub async fn find(
    database: &Database,
    slug: &Slug,
    environment: Environment,
) -> anyhow::Result<Arc<Tenant>> {
    let found = database.store.find_tenant(slug, environment).await;
    found.map_err(|error| match error {
        StoreError::Refused(Refusal::NotFound) => anyhow::anyhow!(
            "no tenant {slug} in environment {}. List the tenants with tollgate tenant list",
            environment.as_str()
        ),
        other => other.into(),
    })
}
