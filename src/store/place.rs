//! Names a server in messages for operators, without its password.

use sqlx::postgres::PgConnectOptions;

use super::explain;

/// Where a database is.
pub(super) fn place(options: &PgConnectOptions) -> String {
    format!("{}, database {}", host(options), explain::database(options))
}

/// Where a server is.
pub(super) fn host(options: &PgConnectOptions) -> String {
    match options.get_socket() {
        Some(directory) => directory.display().to_string(),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    }
}
