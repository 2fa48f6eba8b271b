use std::{num::NonZero, time::Duration};

use sqlx::{
    Connection as _, Executor as _, PgPool, Postgres,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgListener, PgPoolOptions},
};

use super::{
    connection_url::UrlError,
    explain,
    hosts::{Hosts, place},
    pinned_schema::{Schema, Schemas},
    primary::{REFUSE_STANDBY, identify, is_standby},
    servers::{Refused, Servers},
    unreachable,
};
use crate::entropy;

/// Idle time after which a connection is pinged before use.
const PING_WHEN_IDLE: Duration = Duration::from_secs(1);

/// Time limit of the ping.
const PING_TIMEOUT: Duration = Duration::from_secs(1);

/// Number of connections for batches, in addition to the pool. Each concurrent batch has one, so
/// that purchases and reads do not wait for each other.
pub(super) const BATCH_CONNECTIONS: u32 = 8;

/// Number of connections for statements about shares of rate limits.
pub(super) const SHARE_CONNECTIONS: u32 = 3;

/// Settings of the connections for batches. A batch whose wait for a lock exceeds the lock timeout
/// fails, so that other batches can use its connection.
pub(super) const BATCH_SESSION: &str = "SET lock_timeout = '500ms'";

/// The address of the database, and the limits and timeouts of its connections.
#[derive(Clone)]
pub struct PoolSettings {
    /// The URL, such as `postgres://user:password@host1:port,host2:port/database?parameter=value`.
    pub url: String,
    /// The URL of Postgres itself, for the connection that listens to the changes of other nodes.
    /// It is needed if `url` connects to a pooler. `None` means that `url` is used.
    pub listen_url: Option<String>,
    pub max_connections: u32,
    /// Maximum time that a request waits for a connection.
    pub acquire_timeout: Duration,
    /// Maximum time that a statement runs before Postgres cancels it.
    pub statement_timeout: Duration,
    /// Maximum time that a statement waits for a lock.
    pub lock_timeout: Duration,
    /// Maximum time until the response to a statement or commit arrives. After this time, the
    /// connection is closed.
    pub answer_timeout: Duration,
    /// Whether connections may use a standby, for read-only commands.
    pub standby_allowed: bool,
}

impl PoolSettings {
    /// Returns the defaults of a service. The number of connections is twice the number of cores.
    #[must_use]
    pub fn for_url(url: &str) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self {
            url: url.to_owned(),
            listen_url: None,
            max_connections: u32::try_from(cores * 2).map_or(1000, |number| number.min(1000)),
            acquire_timeout: Duration::from_secs(3),
            statement_timeout: Duration::from_millis(2500),
            lock_timeout: Duration::from_secs(2),
            answer_timeout: Duration::from_secs(3),
            standby_allowed: false,
        }
    }
}

/// The database could not be reached. The message contains the host and the reason, and never the
/// password.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error(transparent)]
    Url(#[from] UrlError),
    #[error("the operating system provided no random bytes")]
    Entropy(#[from] entropy::EntropyError),
    #[error("cannot reach Postgres at {place}: {reason}")]
    Unreachable { place: String, reason: String },
    #[error("Postgres at {place} refused the connection: {reason}")]
    Refused { place: String, reason: String },
    #[error("Postgres at {place} is a standby, which is read-only. Connect to the primary")]
    Standby { place: String },
    #[error(
        "no host of {place} is a usable primary: {reason}. If a failover is in progress, try again \
         when it has ended"
    )]
    NoPrimary { place: String, reason: String },
    #[error("cannot use the database at {place}: {reason}")]
    Schema { place: String, reason: String },
    #[error(
        "Postgres at {place} is behind a pooler in transaction or statement mode, but Tollgate needs \
         session mode (PgBouncer: pool_mode = session), because it prepares statements and changes \
         settings in its sessions. Nothing was changed. Set the pooler to session mode, or point \
         DATABASE_URL to Postgres itself"
    )]
    SharedSessions { place: String },
    #[error("Postgres at {place} allows fewer connections than this node may open. {reason}")]
    TooFewConnections { place: String, reason: String },
    #[error("cannot bring the schema of the database at {place} up to date: {reason}")]
    Migration { place: String, reason: String },
}

/// Numbers of connections for the metrics of a node.
#[derive(Clone, Copy, Debug)]
pub struct PoolState {
    pub idle: usize,
    pub used: usize,
    pub max: u32,
}

/// The connection options of the listening connection.
pub(super) struct Listener {
    pub hosts: Hosts,
    pub settings: PoolSettings,
    pub schema: Schema,
}

impl Listener {
    /// Creates a pool for this one connection, because sqlx's listener needs a pool.
    pub async fn connect(
        &self,
        host: PgConnectOptions,
        servers: &Servers,
        timeout: Duration,
    ) -> Result<PgListener, sqlx::Error> {
        let settings = PoolSettings { acquire_timeout: timeout, ..self.settings.clone() };
        let host = host.application_name("tollgate listener");
        let pool = pool(&settings, &self.schema, servers, 1, "").connect_lazy_with(host);
        let mut listener = PgListener::connect_with(&pool).await?;
        // The listener must not reconnect silently, because it would miss the notifications that
        // are sent while it is disconnected.
        listener.eager_reconnect(false);
        Ok(listener)
    }
}

/// Creates a pool whose connections run `session` in addition to the statements that all
/// connections run.
pub(super) fn pool(
    settings: &PoolSettings,
    schema: &Schema,
    servers: &Servers,
    max_connections: u32,
    session: &str,
) -> PgPoolOptions {
    // The ledger needs READ COMMITTED, and commits that are on disk before they are acknowledged.
    // Defaults of a role or a database must not change this.
    let session = format!(
        "{}{}; SET statement_timeout = {}; SET lock_timeout = {}; \
         SET idle_in_transaction_session_timeout = '60s'; SET timezone = 'UTC'; \
         SET default_transaction_isolation = 'read committed'; \
         SET default_transaction_read_only = off; \
         SELECT set_config('synchronous_commit', 'on', false) \
             WHERE current_setting('synchronous_commit') NOT IN ('on', 'remote_apply'); {session}",
        if settings.standby_allowed { "" } else { REFUSE_STANDBY },
        schema.pin(),
        settings.statement_timeout.as_millis(),
        settings.lock_timeout.as_millis(),
    );
    let (of_new, of_idle) = (servers.clone(), servers.clone());
    let standby_allowed = settings.standby_allowed;
    PgPoolOptions::new()
        .max_connections(max_connections)
        .acquire_timeout(settings.acquire_timeout)
        .test_before_acquire(false)
        .before_acquire(move |connection, meta| {
            let is_stale = of_idle.is_from_before(meta.age);
            Box::pin(async move {
                if is_stale || meta.idle_for <= PING_WHEN_IDLE {
                    return Ok(!is_stale);
                }
                // A connection that does not respond is closed, and another connection is used.
                let ping = tokio::time::timeout(PING_TIMEOUT, connection.ping()).await;
                Ok(matches!(ping, Ok(Ok(()))))
            })
        })
        .after_connect(move |connection, _| {
            let (session, servers) = (session.clone(), of_new.clone());
            Box::pin(async move {
                let prepare = async {
                    connection.execute(sqlx::AssertSqlSafe(session)).await?;
                    // Postgres reports its position in the history only on a primary.
                    if standby_allowed { Ok(None) } else { identify(connection).await.map(Some) }
                };
                match prepare.await {
                    Ok(server) => {
                        let admitted = server.map_or(Ok(()), |server| servers.admit(server));
                        servers.opened(admitted, None);
                        Ok(admitted?)
                    }
                    Err(error) => {
                        servers.opened(Err(Refused::of(&error)), Some(&error));
                        Err(error)
                    }
                }
            })
        })
}

/// Connects once without a pool, because a pool's timeout would hide the reason for a failure.
/// Reads the schemas of the database. A standby is an error, unless `standby_allowed` is set.
pub(super) async fn probe(
    setting: &str,
    options: &PgConnectOptions,
    timeout: Duration,
    standby_allowed: bool,
) -> Result<Schemas, ConnectError> {
    let schemas = async {
        let mut connection = sqlx::PgConnection::connect_with(options).await?;
        if !standby_allowed && is_standby(&mut connection).await? {
            return Ok(None);
        }
        let schemas = Schemas::read(&mut connection).await?;
        // It does not matter how the probe's connection is closed.
        let _ = connection.close().await;
        Ok::<_, sqlx::Error>(Some(schemas))
    };
    match tokio::time::timeout(timeout, schemas).await {
        Ok(Ok(Some(schemas))) => Ok(schemas),
        Ok(Ok(None)) => Err(ConnectError::Standby { place: place(options) }),
        Ok(Err(error)) => Err(failed_connection(setting, options, &error)),
        Err(_) => Err(no_answer(setting, options, timeout)),
    }
}

/// Takes a connection from the pool at the start. If that fails, connects once without the pool,
/// because the pool's timeout hides why Postgres refuses more connections.
pub(super) async fn acquire_at_start(
    pool: &PgPool,
    timeout: Duration,
) -> Result<PoolConnection<Postgres>, ConnectError> {
    let failure = match pool.acquire().await {
        Ok(connection) => return Ok(connection),
        Err(failure) => failure,
    };
    let options = pool.connect_options();
    let alone = sqlx::PgConnection::connect_with(&options);
    let failure = match tokio::time::timeout(timeout, alone).await {
        Ok(Err(cause)) => cause,
        _ => failure,
    };
    Err(failed_connection("DATABASE_URL", &options, &failure))
}

/// Explains why there is no connection. `setting` is the setting that contains the URL.
pub(super) fn failed_connection(
    setting: &str,
    options: &PgConnectOptions,
    error: &sqlx::Error,
) -> ConnectError {
    let place = place(options);
    if error.as_database_error().is_some() {
        let reason = explain::refused_connection(error, setting, options);
        return ConnectError::Refused { place, reason };
    }
    let reason = unreachable::reason(error, setting, options);
    ConnectError::Unreachable { place, reason }
}

/// Creates the error for a server that does not respond.
pub(super) fn no_answer(
    setting: &str,
    options: &PgConnectOptions,
    timeout: Duration,
) -> ConnectError {
    let reason = unreachable::no_answer(setting, timeout);
    ConnectError::Unreachable { place: place(options), reason }
}
