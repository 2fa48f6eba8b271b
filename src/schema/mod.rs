//! The database schema and its loader. Under one lock, the loader applies the migrations (tables,
//! constraints, types, data), and then loads the SQL functions with their triggers.
//!
//! The service, the tests and the scripts all use [`bring_up_to_date`].

mod error;
mod functions;
mod loader;
mod waiting;

pub use error::SchemaError;
pub use functions::{FUNCTIONS_NUMBER, FUNCTIONS_SERVE_FROM, functions_digest};
pub use loader::{bring_up_to_date, bring_up_to_date_as};
