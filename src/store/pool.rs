use std::{
    future::Future,
    num::NonZero,
    str::FromStr as _,
    sync::Arc,
    time::{Duration, Instant},
};

use sqlx::{
    ConnectOptions as _, Connection as _, Executor as _, PgPool, Postgres, Transaction,
    postgres::{PgConnectOptions, PgListener, PgPoolOptions},
};

use tracing::warn;

use super::{
    Store, StoreError, batches,
    changes::Changes,
    error::is_lost_connection,
    lookups::{self, Lookups},
    scope_sets::ScopeSets,
    tenant_directory::TenantDirectory,
};
use crate::entropy;

/// A connection that was idle for longer is asked whether it still stands before it is used.
const PING_WHEN_IDLE: Duration = Duration::from_secs(1);

/// How long such a connection may take to answer.
const PING_TIMEOUT: Duration = Duration::from_secs(1);

/// How long the connections may take to close in the end.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// How to reach the database, and the bounds of using it.
#[derive(Clone)]
pub struct PoolSettings {
    /// `postgres://user:password@host:port/database`
    pub url: String,
    /// Postgres itself, for the one connection that listens to what other nodes change; `url` may
    /// lead to a pooler. `None`: the same.
    pub listen_url: Option<String>,
    pub max_connections: u32,
    /// How long a request waits for a connection.
    pub acquire_timeout: Duration,
    /// How long one statement may run.
    pub statement_timeout: Duration,
    /// How long a statement may wait for a lock.
    pub lock_timeout: Duration,
}

impl PoolSettings {
    /// The bounds that a service has by default: twice as many connections as there are cores.
    #[must_use]
    pub fn for_url(url: &str) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self {
            url: url.to_owned(),
            listen_url: None,
            max_connections: u32::try_from(cores * 2).map_or(1000, |number| number.min(1000)),
            acquire_timeout: Duration::from_secs(3),
            statement_timeout: Duration::from_secs(10),
            lock_timeout: Duration::from_secs(5),
        }
    }
}

/// The database could not be reached. Names the host and the reason, never the password.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("{0} is no Postgres URL such as postgres://user:password@host:5432/database: {1}")]
    Url(&'static str, String),
    #[error("the operating system gave no randomness")]
    Entropy(#[from] entropy::EntropyError),
    #[error("cannot reach Postgres at {place}: {reason}")]
    Unreachable { place: String, reason: String },
    #[error("cannot bring the schema of the database at {place} up to date: {reason}")]
    Migration { place: String, reason: String },
}

/// How many connections there are, for the metrics.
#[derive(Clone, Copy, Debug)]
pub struct PoolState {
    pub idle: usize,
    pub used: usize,
    pub max: u32,
}

impl Store {
    /// Connects, so that a wrong address is told at the start and not by the first request.
    pub async fn connect(settings: &PoolSettings) -> Result<Self, ConnectError> {
        let options = connect_options("DATABASE_URL", &settings.url)?;
        let listen = match &settings.listen_url {
            Some(url) => connect_options("TOLLGATE_LISTEN_DATABASE_URL", url)?,
            None => options.clone(),
        };
        probe(&options, settings.acquire_timeout).await?;
        if settings.listen_url.is_some() {
            probe(&listen, settings.acquire_timeout).await?;
        }
        let lookups = pool(settings, lookups::CONNECTIONS, lookups::SESSION);
        let lookups = lookups.connect_lazy_with(options.clone());
        let batches = pool(settings, batches::CONNECTIONS, batches::SESSION)
            .connect_lazy_with(options.clone());
        let pool = pool(settings, settings.max_connections, "").connect_lazy_with(options);
        // The database keeps the bound of a statement; this is for one that does not answer.
        let read_timeout = settings.acquire_timeout + settings.statement_timeout;
        Ok(Self {
            pool,
            lookups: Arc::new(Lookups::new(lookups, settings.acquire_timeout)),
            batches,
            listener: Listener { options: listen, settings: settings.clone() },
            changes: Arc::new(Changes::new(entropy::node_id()?)),
            max_connections: settings.max_connections,
            read_timeout,
            tenants: TenantDirectory::default(),
            scope_sets: ScopeSets::default(),
        })
    }

    /// Applies the migrations that the database does not have yet. Several nodes may call it at
    /// once: one does it, the others wait. Returns how many there are.
    pub async fn migrate(&self) -> Result<usize, ConnectError> {
        let migrator = sqlx::migrate!();
        let place = place(self.pool.connect_options().as_ref());
        let failed = |error: &dyn std::error::Error| ConnectError::Migration {
            place: place.clone(),
            reason: error.to_string(),
        };
        // Building an index over many rows takes longer than a request may.
        let mut connection = self.pool.acquire().await.map_err(|error| failed(&error))?;
        let unbounded =
            "SET statement_timeout = 0; SET lock_timeout = 0; SET client_min_messages = warning";
        connection.execute(unbounded).await.map_err(|error| failed(&error))?;
        migrator.run(&mut *connection).await.map_err(|error| failed(&error))?;
        connection.close().await.map_err(|error| failed(&error))?;
        Ok(migrator.iter().count())
    }

    /// Asks the database for nothing, to see whether it answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.read(|pool| async move { sqlx::query("SELECT 1").execute(&pool).await }).await?;
        Ok(())
    }

    #[must_use]
    pub fn pool_state(&self) -> PoolState {
        let idle = self.pool.num_idle();
        let size = self.pool.size() as usize;
        PoolState { idle, used: size.saturating_sub(idle), max: self.max_connections }
    }

    /// Waits for the connections that are in use, and closes all; a database that hangs is left.
    pub async fn close(&self) {
        let all =
            async { tokio::join!(self.pool.close(), self.lookups.close(), self.batches.close()) };
        if tokio::time::timeout(CLOSE_TIMEOUT, all).await.is_err() {
            warn!("the database does not answer: its connections are cut");
        }
    }

    /// Runs a read, and again while it meets connections that a restart of the database left
    /// dead: each failure takes one of them out of the pool.
    pub(super) async fn read<T, F, Fut>(&self, run: F) -> Result<T, StoreError>
    where
        F: Fn(PgPool) -> Fut,
        Fut: Future<Output = Result<T, sqlx::Error>>,
    {
        let mut failures = 0;
        loop {
            let attempt = tokio::time::timeout(self.read_timeout, run(self.pool.clone())).await;
            match attempt {
                Ok(Err(error)) if is_lost_connection(&error) && failures < self.max_connections => {
                    failures += 1;
                }
                Ok(result) => return Ok(result?),
                Err(_) => return Err(StoreError::Unavailable("no answer in time".into())),
            }
        }
    }

    /// Begins a transaction (READ COMMITTED), on a connection that stands.
    pub(super) async fn begin(&self) -> Result<Transaction<'static, Postgres>, StoreError> {
        self.read(|pool| async move { pool.begin().await }).await
    }

    /// Measures an operation from here until it is dropped.
    pub(super) fn timer(&self, operation: &'static str) -> Timer {
        Timer { operation, since: Instant::now() }
    }
}

/// Records how long an operation of the store took.
pub(super) struct Timer {
    operation: &'static str,
    since: Instant,
}

impl Drop for Timer {
    fn drop(&mut self) {
        metrics::histogram!("tollgate_database_seconds", "operation" => self.operation)
            .record(self.since.elapsed());
    }
}

/// Where the connection goes that listens, and how it is made.
pub(super) struct Listener {
    options: PgConnectOptions,
    settings: PoolSettings,
}

impl Listener {
    /// A pool of its own for one connection: sqlx's listener wants one.
    pub async fn connect(&self, timeout: Duration) -> Result<PgListener, sqlx::Error> {
        let settings = PoolSettings { acquire_timeout: timeout, ..self.settings.clone() };
        let options = self.options.clone().application_name("tollgate listener");
        let pool = pool(&settings, 1, "").connect_lazy_with(options);
        let mut listener = PgListener::connect_with(&pool).await?;
        // Never by itself: what was notified in between would be lost without a word.
        listener.eager_reconnect(false);
        Ok(listener)
    }
}

/// A pool whose connections are told `session` beside what all are told.
fn pool(settings: &PoolSettings, max_connections: u32, session: &str) -> PgPoolOptions {
    // What a role or a database sets as its default must not undo the ledger's promises: READ
    // COMMITTED, and an acknowledgement only of what is on disk.
    let session = format!(
        "SET statement_timeout = {}; SET lock_timeout = {}; \
         SET idle_in_transaction_session_timeout = '60s'; SET timezone = 'UTC'; \
         SET default_transaction_isolation = 'read committed'; \
         SET default_transaction_read_only = off; \
         SELECT set_config('synchronous_commit', 'on', false) \
             WHERE current_setting('synchronous_commit') = 'off'; {session}",
        settings.statement_timeout.as_millis(),
        settings.lock_timeout.as_millis(),
    );
    PgPoolOptions::new()
        .max_connections(max_connections)
        .acquire_timeout(settings.acquire_timeout)
        .test_before_acquire(false)
        .before_acquire(|connection, meta| {
            Box::pin(async move {
                if meta.idle_for <= PING_WHEN_IDLE {
                    return Ok(true);
                }
                // One that does not answer is closed, and another is taken.
                Ok(tokio::time::timeout(PING_TIMEOUT, connection.ping()).await.is_ok())
            })
        })
        .after_connect(move |connection, _| {
            let session = session.clone();
            Box::pin(async move {
                connection.execute(sqlx::AssertSqlSafe(session)).await?;
                Ok(())
            })
        })
}

/// One attempt of its own: a pool would hide the reason behind its time-out.
async fn probe(options: &PgConnectOptions, timeout: Duration) -> Result<(), ConnectError> {
    let unreachable = |reason| ConnectError::Unreachable { place: place(options), reason };
    match tokio::time::timeout(timeout, sqlx::PgConnection::connect_with(options)).await {
        Ok(Ok(connection)) => {
            // Nothing depends on how the probe's connection is closed.
            let _ = connection.close().await;
            Ok(())
        }
        Ok(Err(error)) => Err(unreachable(reason(&error))),
        Err(_) => Err(unreachable(format!("no answer within {timeout:?}"))),
    }
}

fn connect_options(name: &'static str, url: &str) -> Result<PgConnectOptions, ConnectError> {
    let is_postgres = ["postgres://", "postgresql://"].iter().any(|s| url.starts_with(s));
    if !is_postgres {
        return Err(ConnectError::Url(name, "it does not begin with postgres://".into()));
    }
    PgConnectOptions::from_str(url)
        .map(|options| options.application_name("tollgate").disable_statement_logging())
        .map_err(|error| ConnectError::Url(name, reason(&error)))
}

fn place(options: &PgConnectOptions) -> String {
    let database = options.get_database().unwrap_or("postgres");
    match options.get_socket() {
        Some(directory) => format!("{}, database {database}", directory.display()),
        None => format!("{}:{}, database {database}", options.get_host(), options.get_port()),
    }
}

/// The innermost cause: the outer ones only say that there was an error.
fn reason(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Io(error) => error.to_string(),
        sqlx::Error::Configuration(error) | sqlx::Error::Tls(error) => error.to_string(),
        sqlx::Error::Database(error) => error.message().to_owned(),
        other => other.to_string(),
    }
}
