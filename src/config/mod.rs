//! Settings: command-line flags take precedence over environment variables, and these over `.env`.
//! Only this module reads the environment. All invalid values are reported together. Before that,
//! `given.rs` refuses settings that are set but empty, and libpq's variables that are invalid.

mod addresses;
mod database;
mod environment;
mod error;
mod given;
mod libpq;
mod log;
mod reader;
mod resolve;
mod runtime;
mod server;
mod unknown;
mod variable;

pub use addresses::{AddressArgs, Addresses};
pub use database::{DatabaseArgs, DatabaseConfig, DatabasePlace};
pub use environment::load_dotenv;
pub use error::ConfigError;
pub use given::{refuse_empty_settings, refuse_invalid_libpq_variables, shield_private_postgres};
pub use libpq::LIBPQ_VARIABLES;
pub use log::LogConfig;
pub use resolve::resolve;
pub use runtime::{WORKER_THREADS, worker_threads};
pub use server::{ServerArgs, ServerConfig};
pub use unknown::{UnknownVariable, known_variables, unknown_variables};
pub use variable::Variable;
