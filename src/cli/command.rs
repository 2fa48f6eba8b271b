//! Parses the command line and runs its subcommand.

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use super::{
    admin_key, dashboard, demo, ledger, migrate, openapi, plan, reference::Reference, serve, tenant,
};
use crate::config::{self, ConfigError};

/// API keys with a prepaid balance, for platforms and their customers.
///
/// A flag overrides an environment variable, and a variable overrides the file .env in the current
/// directory. A setting that is set but empty is an error. Without DATABASE_URL, Tollgate starts a
/// private Postgres.
#[derive(Parser)]
#[command(name = "tollgate", version, max_term_width = 100, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the API and the dashboard until Ctrl-C or SIGTERM
    ///
    /// First updates the database schema. On the first signal, the service finishes the requests in
    /// flight and stops. On the second signal, it exits immediately.
    Serve(serve::Serve),
    /// Serve two example platforms, and print curl commands to try the API
    ///
    /// Creates the tenants tronagg and tradetally, one account with a balance for each, and new
    /// admin keys at each start. Accepts the same settings as serve. Do not use the data directory
    /// of a production service.
    Demo(demo::Demo),
    /// Update the database schema
    ///
    /// Applies missing migrations and loads the SQL functions. Every command that uses the
    /// database, including serve, does this first.
    Migrate(migrate::Migrate),
    /// Create, list and show tenants, suspend and resume them, and change their rate limits
    ///
    /// A tenant is a platform in one environment. You cannot change its other settings after its
    /// creation.
    #[command(subcommand)]
    Tenant(tenant::TenantCommand),
    /// Create, change, list and delete the plans of a tenant
    ///
    /// A plan is a set of rules for the API keys of the accounts that have it. Every tenant has a plan
    /// default, which new accounts get.
    #[command(subcommand)]
    Plan(plan::PlanCommand),
    /// Create, list and revoke a tenant's admin keys
    ///
    /// A tenant's backend calls the API with an admin key. The permissions of the key limit what
    /// the backend can do.
    #[command(subcommand)]
    AdminKey(admin_key::AdminKeyCommand),
    /// Print a dashboard link, and end dashboard sessions
    #[command(subcommand)]
    Dashboard(dashboard::DashboardCommand),
    /// Check the ledger, and print the newest entry of each account
    #[command(subcommand)]
    Ledger(ledger::LedgerCommand),
    /// Print the OpenAPI document of the API
    Openapi,
    /// Print a page of the book's reference
    #[command(hide = true)]
    Reference(Reference),
}

impl Cli {
    /// Parses the command line and the environment. Exits with a message if the command line is
    /// invalid. Must be called before any thread is started.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if a setting is set but empty, or a variable of libpq is invalid.
    pub fn read() -> Result<Self, ConfigError> {
        let mut arguments = Self::command().get_matches();
        config::refuse_empty_settings(&Self::command(), &arguments)?;
        config::shield_private_postgres(&arguments);
        config::refuse_invalid_libpq_variables(&arguments)?;
        Ok(Self::from_arg_matches_mut(&mut arguments)
            .unwrap_or_else(|error| error.format(&mut Self::command()).exit()))
    }

    /// Runs the command to completion.
    pub async fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Serve(serve) => serve.run().await,
            Command::Demo(demo) => demo.run().await,
            Command::Migrate(migrate) => migrate.run().await,
            Command::Tenant(command) => command.run().await,
            Command::Plan(command) => command.run().await,
            Command::AdminKey(command) => command.run().await,
            Command::Dashboard(command) => command.run().await,
            Command::Ledger(command) => command.run().await,
            Command::Openapi => openapi::run(),
            Command::Reference(reference) => reference.run(Self::command()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the environment variables of a command and its subcommands.
    fn variables(command: &clap::Command) -> Vec<String> {
        let own = command.get_arguments().filter_map(clap::Arg::get_env);
        let own = own.map(|name| name.to_string_lossy().into_owned());
        own.chain(command.get_subcommands().flat_map(variables)).collect()
    }

    #[test]
    fn every_variable_of_a_command_is_a_known_variable() {
        let variables = variables(&Cli::command());
        assert!(variables.len() > 20, "{variables:?}");
        let known = config::known_variables();
        for variable in variables {
            assert!(known.contains(&variable), "{variable}");
        }
    }
}
