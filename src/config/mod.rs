//! Settings from command-line flags, environment variables and `.env`, in this order of precedence.
//! Only this module reads the environment. First, `given.rs` refuses settings that are set but
//! empty, and invalid variables of libpq. Then all other invalid values are reported together.

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

pub use addresses::{AddressArgs, Addresses, DEFAULT_LISTEN};
pub use database::{DatabaseArgs, DatabaseConfig, DatabasePlace};
pub use environment::load_dotenv;
pub use error::ConfigError;
pub use given::{refuse_empty_settings, refuse_invalid_libpq_variables, shield_private_postgres};
pub use libpq::LIBPQ_VARIABLES;
pub use log::LogConfig;
pub use resolve::resolve;
pub use runtime::{WORKER_THREADS, worker_threads};
pub use server::{ServerArgs, ServerConfig};
pub use unknown::{
    UnknownVariable, known_variables, unknown_variables, variables_of_other_programs,
};
pub use variable::Variable;
