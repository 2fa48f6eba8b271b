//! Settings: command-line flags over environment variables over `.env`. The one place that reads
//! the environment. All wrong values are reported together. Before that, `given.rs` refuses
//! settings that are set but empty.

use std::{
    ffi::OsString,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;

mod given;
mod reader;

pub use given::{refuse_empty_settings, shield_private_postgres};
use reader::{ADDRESS_FORMS, LOG_FORMS, Reader, read_address, read_log};

use crate::{
    auth::MAX_ENTRIES,
    domain::dashboard::WebOrigin,
    http::{ServerLimits, TrustedProxies},
    node::NodeSettings,
    postgres,
    state::Limits,
    store::{LEASE_BOUNDS, PoolSettings},
};

/// Where the database is, and the bounds of using it.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Database")]
pub struct DatabaseArgs {
    /// Postgres to use, such as postgres://user:password@host:5432/database. What the URL leaves
    /// out is taken from PGPORT, PGPASSWORD and the like. Without it a private Postgres is started
    /// in the data directory, which none of those variables affects
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub database_url: Option<String>,

    /// Postgres itself, for the one connection that hears what other nodes change, where
    /// DATABASE_URL leads to a pooler [default: DATABASE_URL]
    #[arg(long, env = "TOLLGATE_LISTEN_DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub listen_database_url: Option<String>,

    /// Where the private Postgres keeps everything [default: /var/lib/tollgate for root, else
    /// $XDG_DATA_HOME/tollgate or ~/.local/share/tollgate]
    #[arg(long, env = "TOLLGATE_DATA_DIR", value_name = "DIRECTORY")]
    pub data_dir: Option<OsString>,

    /// The directory of initdb and postgres for the private Postgres [default: looked for]
    #[arg(long, env = "PG_BINDIR", value_name = "DIRECTORY")]
    pub pg_bindir: Option<OsString>,

    /// Connections to the database, 1 to 1000 [default: twice the cores]. A service opens up to
    /// eleven more, and does not start if Postgres allows fewer than all of them
    #[arg(long, env = "TOLLGATE_DATABASE_CONNECTIONS", value_name = "NUMBER")]
    pub database_connections: Option<String>,

    /// How long a request waits for a connection; then it answers 503 [default: 3s]
    #[arg(long, env = "TOLLGATE_DATABASE_ACQUIRE_TIMEOUT", value_name = "DURATION")]
    pub database_acquire_timeout: Option<String>,

    /// How long one statement may run [default: 10s]
    #[arg(long, env = "TOLLGATE_DATABASE_STATEMENT_TIMEOUT", value_name = "DURATION")]
    pub database_statement_timeout: Option<String>,

    /// How long a statement may wait for a lock [default: 5s]
    #[arg(long, env = "TOLLGATE_DATABASE_LOCK_TIMEOUT", value_name = "DURATION")]
    pub database_lock_timeout: Option<String>,

    /// What is logged: error, warn, info, debug or trace, and text or json, such as debug,json
    /// [default: info,text]
    #[arg(long, env = "TOLLGATE_LOG", value_name = "LEVEL[,FORMAT]")]
    pub log: Option<String>,
}

/// Where to listen, and the bounds of requests.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Server")]
pub struct ServerArgs {
    /// Address of the HTTP interface [default: 127.0.0.1:8080]
    #[arg(long, env = "TOLLGATE_LISTEN", value_name = "ADDRESS:PORT")]
    pub listen: Option<String>,

    /// What browsers call the service, such as https://keys.example.com: for the dashboard [default:
    /// http:// and the address that is listened on, or localhost]
    #[arg(long, env = "TOLLGATE_PUBLIC_URL", value_name = "ORIGIN")]
    pub public_url: Option<String>,

    /// Proxies that are believed when they name the client in X-Forwarded-For: addresses and
    /// networks such as 127.0.0.1,10.0.0.0/8,fd00::/8 [default: none]
    #[arg(long, env = "TOLLGATE_TRUSTED_PROXIES", value_name = "NETWORK[,NETWORK]")]
    pub trusted_proxies: Option<String>,

    /// Address of the metrics for Prometheus, or off [default: 127.0.0.1:9464]
    #[arg(long, env = "TOLLGATE_METRICS_LISTEN", value_name = "ADDRESS:PORT")]
    pub metrics_listen: Option<String>,

    /// Keys that are kept in memory, so that they need not be looked up, 0 to 100000000
    /// [default: 1000000]
    #[arg(long, env = "TOLLGATE_CACHE_ENTRIES", value_name = "NUMBER")]
    pub cache_entries: Option<String>,

    /// How long a key is passed out of memory without hearing from the database, 100ms to 10s. A
    /// revoke waits so long for a node that is gone [default: 2s]
    #[arg(long, env = "TOLLGATE_LEASE", value_name = "DURATION")]
    pub lease: Option<String>,

    /// Bytes that a request's body may have, 1024 to 1048576 [default: 16384]
    #[arg(long, env = "TOLLGATE_MAX_BODY_BYTES", value_name = "BYTES")]
    pub max_body_bytes: Option<String>,

    /// Bytes that a request's headers may have, 8192 to 1048576 [default: 16384]
    #[arg(long, env = "TOLLGATE_MAX_HEADER_BYTES", value_name = "BYTES")]
    pub max_header_bytes: Option<String>,

    /// Connections at once, 1 to 1000000; a further one waits [default: 10000]
    #[arg(long, env = "TOLLGATE_MAX_CONNECTIONS", value_name = "NUMBER")]
    pub max_connections: Option<String>,

    /// For a request's body to come; then it answers 408 [default: 10s]
    #[arg(long, env = "TOLLGATE_BODY_TIMEOUT", value_name = "DURATION")]
    pub body_timeout: Option<String>,

    /// From a request's headers to its answer; then it answers 503 [default: 15s]
    #[arg(long, env = "TOLLGATE_REQUEST_TIMEOUT", value_name = "DURATION")]
    pub request_timeout: Option<String>,

    /// For a request's headers to come; an idle connection is closed after it [default: 30s]
    #[arg(long, env = "TOLLGATE_HEADER_TIMEOUT", value_name = "DURATION")]
    pub header_timeout: Option<String>,

    /// For a client to take more of an answer; then its connection is closed [default: 30s]
    #[arg(long, env = "TOLLGATE_WRITE_TIMEOUT", value_name = "DURATION")]
    pub write_timeout: Option<String>,

    /// A request that takes longer is logged as slow [default: 1s]
    #[arg(long, env = "TOLLGATE_SLOW_REQUEST", value_name = "DURATION")]
    pub slow_request: Option<String>,

    /// For requests in flight to finish when the service is stopped [default: 20s]
    #[arg(long, env = "TOLLGATE_DRAIN_TIMEOUT", value_name = "DURATION")]
    pub drain_timeout: Option<String>,
}

/// The database, as it is configured.
#[derive(Clone)]
pub struct DatabaseConfig {
    pub place: DatabasePlace,
    /// Its `url` is empty until the private Postgres, if it is that, has one.
    pub pool: PoolSettings,
}

/// Which Postgres it is.
#[derive(Clone)]
pub enum DatabasePlace {
    Url(String),
    Private(postgres::Options),
}

/// The server, as it is configured.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    pub listen: SocketAddr,
    /// `None`: off.
    pub metrics_listen: Option<SocketAddr>,
    /// `None`: that of the address that is listened on.
    pub public_url: Option<WebOrigin>,
    pub trusted_proxies: TrustedProxies,
    pub limits: Limits,
    pub server_limits: ServerLimits,
    pub node: NodeSettings,
}

/// What is logged, and how.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogConfig {
    pub level: tracing::Level,
    pub json: bool,
}

/// Settings that are wrong: all of them.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct ConfigError(Vec<String>);

/// Adds what `.env` in the current directory says to the environment, where it says nothing yet.
/// To be called before any thread is started.
pub fn load_dotenv() -> Result<(), ConfigError> {
    match dotenvy::from_path(".env") {
        Ok(()) => Ok(()),
        Err(error) if error.not_found() => Ok(()),
        // The line is not repeated: it may hold a password.
        Err(dotenvy::Error::LineParse(line, _)) => {
            let text = std::fs::read_to_string(".env").unwrap_or_default();
            let wrong = line.lines().next().unwrap_or_default();
            let place = text.lines().position(|line| !wrong.is_empty() && line.contains(wrong));
            let number = place.map_or(String::new(), |index| format!(" (line {})", index + 1));
            Err(ConfigError(vec![format!(
                ".env cannot be read: it must be lines such as NAME=value, with quotes around a \
                 value that has spaces{number}"
            )]))
        }
        Err(error) => Err(ConfigError(vec![format!(".env cannot be read: {error}")])),
    }
}

impl DatabaseArgs {
    pub fn resolve(&self) -> Result<(DatabaseConfig, LogConfig), ConfigError> {
        let mut reader = Reader::default();
        let resolved = self.read(&mut reader);
        reader.finish(resolved)
    }

    fn read(&self, reader: &mut Reader) -> Option<(DatabaseConfig, LogConfig)> {
        let defaults = PoolSettings::for_url("");
        let connections = reader.number(
            "TOLLGATE_DATABASE_CONNECTIONS",
            self.database_connections.as_deref(),
            1..=1000,
            defaults.max_connections,
        );
        let mut duration = |name, value: &Option<String>, default| {
            reader.duration(name, value.as_deref(), default)
        };
        let acquire = duration(
            "TOLLGATE_DATABASE_ACQUIRE_TIMEOUT",
            &self.database_acquire_timeout,
            defaults.acquire_timeout,
        );
        let statement = duration(
            "TOLLGATE_DATABASE_STATEMENT_TIMEOUT",
            &self.database_statement_timeout,
            defaults.statement_timeout,
        );
        let lock = duration(
            "TOLLGATE_DATABASE_LOCK_TIMEOUT",
            &self.database_lock_timeout,
            defaults.lock_timeout,
        );
        let log = reader.value("TOLLGATE_LOG", self.log.as_deref(), LOG_FORMS, read_log);
        let log = log.unwrap_or(Some(LogConfig { level: tracing::Level::INFO, json: false }));
        let connections = connections?;
        let place = self.place(reader, connections);
        let listen_url = self.listen_url(reader);
        let pool = PoolSettings {
            listen_url: listen_url?,
            max_connections: connections,
            acquire_timeout: acquire?,
            statement_timeout: statement?,
            lock_timeout: lock?,
            ..defaults
        };
        Some((DatabaseConfig { place: place?, pool }, log?))
    }

    fn listen_url(&self, reader: &mut Reader) -> Option<Option<String>> {
        let name = "TOLLGATE_LISTEN_DATABASE_URL";
        let given = self.listen_database_url.as_deref();
        if given.is_some() && self.database_url.is_none() {
            reader.errors.push(format!("{name} is set, but DATABASE_URL is not"));
            return None;
        }
        read_url(reader, name, given)
    }

    fn place(&self, reader: &mut Reader, connections: u32) -> Option<DatabasePlace> {
        let url = self.database_url.as_deref();
        if let Some(url) = read_url(reader, "DATABASE_URL", url)? {
            return Some(DatabasePlace::Url(url));
        }
        let given = self.data_dir.clone().map(PathBuf::from);
        let Some(data_dir) = given.or_else(default_data_dir) else {
            reader.errors.push(
                "TOLLGATE_DATA_DIR is not set, and neither is HOME: one of them must say where \
                 the private Postgres keeps its data; or set DATABASE_URL"
                    .to_owned(),
            );
            return None;
        };
        let Ok(data_dir) = std::path::absolute(&data_dir) else {
            reader
                .errors
                .push(format!("TOLLGATE_DATA_DIR is {data_dir:?}: it must be a directory"));
            return None;
        };
        Some(DatabasePlace::Private(postgres::Options {
            data_dir,
            durable: true,
            // Room for the commands beside a running service, and for an operator's psql.
            max_connections: u16::try_from(connections + 30).unwrap_or(u16::MAX),
            pg_bindir: self.pg_bindir.clone().map(PathBuf::from),
            path: environment("PATH"),
        }))
    }
}

impl ServerArgs {
    fn read(&self, reader: &mut Reader) -> Option<ServerConfig> {
        let listen = self.listen.as_deref();
        let listen = reader
            .value("TOLLGATE_LISTEN", listen, ADDRESS_FORMS, read_address)
            .unwrap_or_else(|| read_address("127.0.0.1:8080"));
        let metrics = self.metrics_listen.as_deref();
        let metrics = reader.value(
            "TOLLGATE_METRICS_LISTEN",
            metrics,
            "an address and a port such as 127.0.0.1:9464, or off",
            |text| match text {
                "off" => Some(None),
                text => read_address(text).map(Some),
            },
        );
        let metrics = metrics.unwrap_or_else(|| read_address("127.0.0.1:9464").map(Some));
        let public_url = reader.value(
            "TOLLGATE_PUBLIC_URL",
            self.public_url.as_deref(),
            "https:// and a host, or http:// and a loopback one, without a path",
            |text| WebOrigin::parse(text).ok().map(Some),
        );
        let public_url = public_url.unwrap_or(Some(None));
        let proxies = reader.value(
            "TOLLGATE_TRUSTED_PROXIES",
            self.trusted_proxies.as_deref(),
            "addresses and networks with commas between them, such as 127.0.0.1,10.0.0.0/8",
            TrustedProxies::parse,
        );
        let proxies = proxies.unwrap_or_else(|| Some(TrustedProxies::default()));
        let (limits, bounds) = (Limits::default(), ServerLimits::default());
        let body = reader.number(
            "TOLLGATE_MAX_BODY_BYTES",
            self.max_body_bytes.as_deref(),
            1024..=1_048_576,
            limits.body_bytes,
        );
        let header = reader.number(
            "TOLLGATE_MAX_HEADER_BYTES",
            self.max_header_bytes.as_deref(),
            8192..=1_048_576,
            bounds.header_bytes,
        );
        let connections = reader.number(
            "TOLLGATE_MAX_CONNECTIONS",
            self.max_connections.as_deref(),
            1..=1_000_000,
            bounds.max_connections,
        );
        let node = NodeSettings::default();
        let cache_entries = reader.number(
            "TOLLGATE_CACHE_ENTRIES",
            self.cache_entries.as_deref(),
            0..=MAX_ENTRIES as u64,
            node.cache_entries,
        );
        let lease = self.lease(reader, node.lease);
        let mut duration = |name, value: &Option<String>, default| {
            reader.duration(name, value.as_deref(), default)
        };
        let body_timeout =
            duration("TOLLGATE_BODY_TIMEOUT", &self.body_timeout, limits.body_timeout);
        let request =
            duration("TOLLGATE_REQUEST_TIMEOUT", &self.request_timeout, limits.request_timeout);
        let headers =
            duration("TOLLGATE_HEADER_TIMEOUT", &self.header_timeout, bounds.header_timeout);
        let write = duration("TOLLGATE_WRITE_TIMEOUT", &self.write_timeout, bounds.write_timeout);
        let slow = duration("TOLLGATE_SLOW_REQUEST", &self.slow_request, limits.slow_request);
        let drain = duration("TOLLGATE_DRAIN_TIMEOUT", &self.drain_timeout, bounds.drain_timeout);
        Some(ServerConfig {
            listen: listen?,
            metrics_listen: metrics?,
            public_url: public_url?,
            trusted_proxies: proxies?,
            limits: Limits {
                body_bytes: body?,
                body_timeout: body_timeout?,
                request_timeout: request?,
                slow_request: slow?,
            },
            server_limits: ServerLimits {
                max_connections: connections?,
                header_timeout: headers?,
                write_timeout: write?,
                header_bytes: header?,
                max_headers: bounds.max_headers,
                drain_timeout: drain?,
            },
            node: NodeSettings { cache_entries: cache_entries?, lease: lease? },
        })
    }

    fn lease(&self, reader: &mut Reader, default: Duration) -> Option<Duration> {
        let lease = reader.duration("TOLLGATE_LEASE", self.lease.as_deref(), default)?;
        if !LEASE_BOUNDS.contains(&lease) {
            reader.errors.push(format!("TOLLGATE_LEASE is {lease:?}: it must be 100ms to 10s"));
            return None;
        }
        Some(lease)
    }
}

/// Both together, so that what is wrong in either is told at once.
pub fn resolve(
    database: &DatabaseArgs,
    server: &ServerArgs,
) -> Result<(DatabaseConfig, LogConfig, ServerConfig), ConfigError> {
    let mut reader = Reader::default();
    let database = database.read(&mut reader);
    let server = server.read(&mut reader);
    reader.finish(database.zip(server).map(|((database, log), server)| (database, log, server)))
}

fn read_url(reader: &mut Reader, name: &str, url: Option<&str>) -> Option<Option<String>> {
    let Some(url) = url else { return Some(None) };
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        return Some(Some(url.to_owned()));
    }
    // Not repeated: it may hold a password all the same.
    reader.errors.push(format!(
        "{name} is no Postgres URL: it must be such as postgres://user:password@host:5432/database"
    ));
    None
}

fn default_data_dir() -> Option<PathBuf> {
    let directory = |name| environment(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let is_root = rustix::process::geteuid().is_root();
    let absolute = |path: &PathBuf| Path::is_absolute(path);
    let xdg = directory("XDG_DATA_HOME").filter(absolute);
    postgres::default_data_dir(is_root, xdg, directory("HOME"))
}

fn environment(name: &str) -> Option<OsString> {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    std::env::var_os(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn every_wrong_value_is_told_at_once() {
        let database = DatabaseArgs {
            database_url: some("mysql://root:secret@localhost/db"),
            database_connections: some("0"),
            database_lock_timeout: some("5"),
            log: some("loud"),
            ..DatabaseArgs::default()
        };
        let server = ServerArgs {
            listen: some("8080"),
            trusted_proxies: some("::1,10.0.0.0/33"),
            max_body_bytes: some("1e6"),
            drain_timeout: some("2h"),
            ..ServerArgs::default()
        };
        let error = resolve(&database, &server).err().expect("much is wrong").to_string();
        for line in [
            "TOLLGATE_DATABASE_CONNECTIONS is \"0\": it must be a whole number from 1 to 1000",
            "TOLLGATE_DATABASE_LOCK_TIMEOUT is \"5\": it must be a number and ms, s or m",
            "TOLLGATE_LOG is \"loud\": it must be error, warn",
            "TOLLGATE_LISTEN is \"8080\": it must be an address and a port",
            "TOLLGATE_TRUSTED_PROXIES is \"::1,10.0.0.0/33\": it must be addresses and networks",
            "TOLLGATE_MAX_BODY_BYTES is \"1e6\": it must be a whole number from 1024 to 1048576",
            "TOLLGATE_DRAIN_TIMEOUT is \"2h\": it must be",
        ] {
            assert!(error.contains(line), "{line} is not in:\n{error}");
        }
        assert!(!error.contains("secret"), "{error}");
    }

    #[test]
    fn a_wrong_url_is_told_without_its_password() {
        let database = DatabaseArgs {
            database_url: some("mysql://root:secret@localhost/db"),
            ..DatabaseArgs::default()
        };
        let error = database.resolve().err().expect("no Postgres").to_string();
        assert!(error.starts_with("DATABASE_URL is no Postgres URL"), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }

    #[test]
    fn nothing_given_is_the_default() {
        let database =
            DatabaseArgs { database_url: some("postgres://localhost/x"), ..Default::default() };
        let (database, log, server) =
            resolve(&database, &ServerArgs::default()).expect("all defaults");
        assert_eq!(server.listen.to_string(), "127.0.0.1:8080");
        assert_eq!(server.metrics_listen.map(|a| a.to_string()), some("127.0.0.1:9464"));
        assert_eq!(log, LogConfig { level: tracing::Level::INFO, json: false });
        assert_eq!(database.pool.acquire_timeout, Duration::from_secs(3));
    }
}
