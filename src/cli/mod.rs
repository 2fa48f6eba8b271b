//! The command line, with one file per subcommand.

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
mod reference;
mod serve;
mod tenant;

pub use command::Cli;
