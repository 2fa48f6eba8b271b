//! Why Postgres cannot be reached, and what to do.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgSslMode};

use super::explain::message;

/// Why there is no connection. `setting` is the one that has the URL.
pub(super) fn reason(error: &sqlx::Error, setting: &str, options: &PgConnectOptions) -> String {
    match error {
        sqlx::Error::Tls(_) => failed_tls(error, setting, options),
        _ => message(error),
    }
}

/// Why there is no connection if the server did not answer in time.
pub(super) fn no_answer(timeout: Duration) -> String {
    format!("no answer within {timeout:?}")
}

/// Why there is no encrypted connection.
fn failed_tls(error: &sqlx::Error, setting: &str, options: &PgConnectOptions) -> String {
    let what_to_do = match options.get_ssl_mode() {
        PgSslMode::VerifyCa | PgSslMode::VerifyFull => format!(
            "Turn TLS on in Postgres (ssl = on), and name the file of the certificate authority \
             that signed its certificate: sslrootcert=… in {setting}. With sslmode=verify-full the \
             certificate must also name the host"
        ),
        _ => format!(
            "A host that is neither a loopback address nor a socket needs TLS. Turn it on in \
             Postgres (ssl = on). Where the server has no TLS and you trust the network between, \
             add ?sslmode=disable to {setting}, or &sslmode=disable after other parameters"
        ),
    };
    format!("{}. {what_to_do}", message(error))
}
