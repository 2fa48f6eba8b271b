//! Settings of the database and of the log, for every command that uses the database.
//!
//! The first paragraph of a setting's help may end with the notes `[default: …]` and `[allowed:
//! …]`. The book's page of settings shows these notes separately.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use clap::Args;

use super::{
    environment::variable,
    error::ConfigError,
    log::{LOG_FORMS, LogConfig, read_log},
    reader::Reader,
};
use crate::{postgres, store::PoolSettings};

/// Settings of the database, limits of its use, and the level of the log.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Database")]
pub struct DatabaseArgs {
    /// URL of the database, such as postgres://user:password@host:5432/database [default: none,
    /// Tollgate starts a private Postgres]
    ///
    /// Separate several hosts with commas, such as host1:5432,host2:5432. Tollgate uses only the
    /// primary. For values that the URL omits, Tollgate uses libpq's variables, such as PGPASSWORD,
    /// and ~/.pgpass. If Postgres runs on another machine, sslmode defaults to require. Use
    /// ?sslmode=verify-full in this case, which also verifies the server's certificate. An unknown
    /// parameter of the URL is an error. In a user name or a password, write / as %2F, ? as %3F, #
    /// as %23 and @ as %40.
    ///
    /// Without a URL, Tollgate starts a private Postgres in the data directory. libpq's variables
    /// do not affect it.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub database_url: Option<String>,

    /// URL of Postgres itself, if DATABASE_URL points to a pooler [default: DATABASE_URL]
    ///
    /// On this connection, a node receives notifications of changes from other nodes. The node
    /// therefore keeps its lease while the pooler restarts. The pooler must be in session mode.
    /// With this setting, Tollgate only logs a warning if the connection limit of Postgres is too
    /// low, because connections can wait in the pooler.
    #[arg(long, env = "TOLLGATE_LISTEN_DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub listen_database_url: Option<String>,

    /// Directory of the private Postgres [default: /var/lib/tollgate for root, otherwise
    /// $XDG_DATA_HOME/tollgate or ~/.local/share/tollgate]
    ///
    /// This setting has no effect if DATABASE_URL is set. A command uses the private Postgres of a
    /// running service if the command has the same data directory and runs as the same user or as
    /// root.
    #[arg(long, env = "TOLLGATE_DATA_DIR", value_name = "DIRECTORY")]
    pub data_dir: Option<OsString>,

    /// Directory that contains the programs initdb and postgres, for the private Postgres [default:
    /// Tollgate searches for it]
    #[arg(long, env = "PG_BINDIR", value_name = "DIRECTORY")]
    pub pg_bindir: Option<OsString>,

    /// Maximum number of connections to the database for the requests of one node [default: twice
    /// the number of cores] [allowed: 1 to 1000]
    ///
    /// A service opens up to 17 more: five to look up keys, three for rate limits, up to eight for
    /// purchases, and one to receive notifications of changes. It does not start if Postgres allows
    /// fewer connections. All nodes share the limits of Postgres, so these limits must allow the
    /// sum of all nodes' connections.
    #[arg(long, env = "TOLLGATE_DATABASE_CONNECTIONS", value_name = "NUMBER")]
    pub database_connections: Option<String>,

    /// How long a request waits for a connection to the database before Tollgate answers 503
    /// [default: 3s]
    #[arg(long, env = "TOLLGATE_DATABASE_ACQUIRE_TIMEOUT", value_name = "DURATION")]
    pub database_acquire_timeout: Option<String>,

    /// How long one SQL statement may run [default: 2500ms] [allowed: at most 3s]
    ///
    /// Tollgate also closes a connection if a statement or a commit gets no response within three
    /// seconds.
    #[arg(long, env = "TOLLGATE_DATABASE_STATEMENT_TIMEOUT", value_name = "DURATION")]
    pub database_statement_timeout: Option<String>,

    /// How long an SQL statement may wait for a lock [default: 2s] [allowed: at most 3s]
    #[arg(long, env = "TOLLGATE_DATABASE_LOCK_TIMEOUT", value_name = "DURATION")]
    pub database_lock_timeout: Option<String>,

    /// Level and format of the log, such as debug,json [default: info,text] [allowed: a level
    /// (error, warn, info, debug or trace), optionally followed by a comma and a format (text or
    /// json)]
    ///
    /// Tollgate writes the log to standard error. It logs successful requests only at the level
    /// debug.
    #[arg(long, env = "TOLLGATE_LOG", value_name = "LEVEL[,FORMAT]", help_heading = "Log")]
    pub log: Option<String>,
}

/// The configuration of the database.
#[derive(Clone)]
pub struct DatabaseConfig {
    pub place: DatabasePlace,
    /// If the command uses the private Postgres, `url` is empty until that Postgres has started.
    pub pool: PoolSettings,
}

/// The Postgres that the command uses.
#[derive(Clone)]
pub enum DatabasePlace {
    Url(String),
    Private(postgres::Options),
}

impl DatabaseArgs {
    pub fn resolve(&self) -> Result<(DatabaseConfig, LogConfig), ConfigError> {
        let mut reader = Reader::default();
        let resolved = self.read(&mut reader);
        reader.finish(resolved)
    }

    pub(super) fn read(&self, reader: &mut Reader) -> Option<(DatabaseConfig, LogConfig)> {
        let defaults = PoolSettings::for_url("");
        let connections = reader.number(
            "TOLLGATE_DATABASE_CONNECTIONS",
            self.database_connections.as_deref(),
            1..=1000,
            defaults.max_connections,
        );
        let acquire = reader.duration(
            "TOLLGATE_DATABASE_ACQUIRE_TIMEOUT",
            self.database_acquire_timeout.as_deref(),
            defaults.acquire_timeout,
        );
        // Tollgate waits at most this long for a response, so a longer limit would have no effect.
        let max_seconds = defaults.answer_timeout.as_secs();
        let mut duration = |name, value: &Option<String>, default| {
            reader.duration_up_to(name, value.as_deref(), max_seconds, default)
        };
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
                "neither TOLLGATE_DATA_DIR nor HOME is set. Set TOLLGATE_DATA_DIR to the directory \
                 of the private Postgres, or set DATABASE_URL"
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
            // Leaves connections for commands that run alongside the service, and for an operator's
            // psql.
            max_connections: u16::try_from(connections + 30).unwrap_or(u16::MAX),
            pg_bindir: self.pg_bindir.clone().map(PathBuf::from),
            path: variable("PATH"),
        }))
    }
}

fn read_url(reader: &mut Reader, name: &str, url: Option<&str>) -> Option<Option<String>> {
    let Some(url) = url else { return Some(None) };
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        return Some(Some(url.to_owned()));
    }
    // The message omits the value, because it may contain a password.
    reader.errors.push(format!(
        "{name} is not a Postgres URL, such as postgres://user:password@host:5432/database"
    ));
    None
}

fn default_data_dir() -> Option<PathBuf> {
    let directory = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let is_root = rustix::process::geteuid().is_root();
    let absolute = |path: &PathBuf| Path::is_absolute(path);
    let xdg = directory("XDG_DATA_HOME").filter(absolute);
    postgres::default_data_dir(is_root, xdg, directory("HOME"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn invalid_url_is_reported_without_its_password() {
        let database = DatabaseArgs {
            database_url: some("mysql://root:secret@localhost/db"),
            ..DatabaseArgs::default()
        };
        let error = database.resolve().err().expect("no Postgres").to_string();
        assert!(error.starts_with("DATABASE_URL is not a Postgres URL"), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
}
