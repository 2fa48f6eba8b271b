//! Reads all settings of a service.

use super::{
    database::{DatabaseArgs, DatabaseConfig},
    error::ConfigError,
    log::LogConfig,
    reader::Reader,
    server::{ServerArgs, ServerConfig},
};

/// Reads the settings of the server and of the database together, so that the error lists all
/// invalid values.
pub fn resolve(
    database: &DatabaseArgs,
    server: &ServerArgs,
) -> Result<(DatabaseConfig, LogConfig, ServerConfig), ConfigError> {
    let mut reader = Reader::default();
    let database = database.read(&mut reader);
    let server = server.read(&mut reader);
    reader.finish(database.zip(server).map(|((database, log), server)| (database, log, server)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::AddressArgs;

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn all_invalid_values_are_reported_together() {
        let database = DatabaseArgs {
            database_url: some("mysql://root:secret@localhost/db"),
            database_connections: some("0"),
            database_lock_timeout: some("5"),
            log: some("loud"),
            ..DatabaseArgs::default()
        };
        let server = ServerArgs {
            addresses: AddressArgs { listen: some("8080"), ..AddressArgs::default() },
            trusted_proxies: some("::1,10.0.0.0/33"),
            docs: some("no"),
            max_body_bytes: some("1e6"),
            drain_timeout: some("2h"),
            ..ServerArgs::default()
        };
        let error = resolve(&database, &server).err().expect("several invalid values").to_string();
        for line in [
            "TOLLGATE_DATABASE_CONNECTIONS is \"0\": it must be a whole number from 1 to 1000",
            "TOLLGATE_DATABASE_LOCK_TIMEOUT is \"5\": it must be a whole number with the unit ms \
             or s, such as 500ms or 1s, at most 3s",
            "TOLLGATE_LOG is \"loud\": it must be a level (error, warn",
            "TOLLGATE_LISTEN is \"8080\": it must be an address and a port",
            "TOLLGATE_TRUSTED_PROXIES is \"::1,10.0.0.0/33\": it must be addresses and networks",
            "TOLLGATE_DOCS is \"no\": it must be on or off",
            "TOLLGATE_MAX_BODY_BYTES is \"1e6\": it must be a whole number from 1024 to 1048576",
            "TOLLGATE_DRAIN_TIMEOUT is \"2h\": it must be",
        ] {
            assert!(error.contains(line), "{line} is not in:\n{error}");
        }
        assert!(!error.contains("secret"), "{error}");
    }

    #[test]
    fn lease_must_be_shorter_than_the_request_timeout() {
        let database =
            DatabaseArgs { database_url: some("postgres://localhost/x"), ..Default::default() };
        let error = |lease: Option<&str>, request: &str| {
            let server = ServerArgs {
                lease: lease.map(str::to_owned),
                request_timeout: some(request),
                ..ServerArgs::default()
            };
            resolve(&database, &server).err().map(|error| error.to_string())
        };
        assert_eq!(error(Some("5s"), "5001ms"), None);
        for (lease, request, values) in [
            (Some("5s"), "5s", "TOLLGATE_LEASE is 5s and TOLLGATE_REQUEST_TIMEOUT is 5s"),
            (None, "500ms", "TOLLGATE_LEASE is 2s and TOLLGATE_REQUEST_TIMEOUT is 500ms"),
        ] {
            let error = error(lease, request).expect("a lease that is too long");
            assert!(error.contains(values), "{error}");
        }
    }

    #[test]
    fn missing_settings_get_their_defaults() {
        let database =
            DatabaseArgs { database_url: some("postgres://localhost/x"), ..Default::default() };
        let (database, log, server) =
            resolve(&database, &ServerArgs::default()).expect("all defaults");
        assert_eq!(server.listen.to_string(), "127.0.0.1:8080");
        assert_eq!(server.metrics_listen.map(|a| a.to_string()), some("127.0.0.1:9464"));
        assert!(server.docs);
        assert_eq!(log, LogConfig { level: tracing::Level::INFO, json: false });
        assert_eq!(database.pool.acquire_timeout, Duration::from_secs(3));
    }
}
