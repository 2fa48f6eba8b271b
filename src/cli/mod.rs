//! The command line, with one file per subcommand.

#![deny(clippy::print_stdout)]

mod admin_key;
mod command;
mod dashboard;
mod database;
mod demo;
mod head_file;
mod ledger;
mod local_url;
mod log;
mod migrate;
mod openapi;
mod output;
mod plan;
mod reference;
mod serve;
mod tenant;
mod tenant_limits;
mod tenant_status;
mod which_tenant;

pub use command::Cli;
pub use output::OutputClosed;
