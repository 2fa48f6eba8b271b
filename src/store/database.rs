use std::{
    collections::HashSet,
    convert::Infallible,
    future::Future,
    sync::{Arc, Mutex, OnceLock},
    time::{Duration, Instant},
};

use sqlx::{Connection as _, Executor as _, postgres::PgConnectOptions};
use tokio::time::sleep;
use tracing::warn;

use super::{
    StoreError,
    acknowledged::Acknowledged,
    changes::{Changes, lock},
    connection::{Connection, Pool},
    connection_limits::ConnectionLimits,
    error::is_lost_connection,
    explain,
    host_choice::{NoPrimary, choose, choose_at_start, look},
    hosts::{Hosts, place},
    limit_sets::LimitSets,
    lookups::{self, Lookups},
    node_lease::NodeLease,
    pool::{
        BATCH_CONNECTIONS, BATCH_SESSION, ConnectError, Listener, PoolSettings, PoolState,
        SHARE_CONNECTIONS, acquire_at_start, pool, probe,
    },
    primary,
    scope_sets::ScopeSets,
    servers::Servers,
    tenant_directory::TenantDirectory,
    tls,
    transaction::Tx,
    turns::{Places, Turn, Turns},
};
use crate::{domain::server::ServerId, entropy, schema};

/// Interval at which a node whose URL contains several hosts looks for the primary among them.
const WATCH_HOSTS_EVERY: Duration = Duration::from_secs(5);

/// Time limit for closing the connections.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// The database, with its pools of connections. Share it in an `Arc`.
pub struct Store {
    pub(super) pool: Pool,
    /// The hosts of `DATABASE_URL`.
    hosts: Hosts,
    pub(super) servers: Servers,
    /// The hosts for which a check has found no pooler, or a pooler in session mode.
    checked_hosts: Mutex<HashSet<String>>,
    /// The queue for the pool's connections.
    turns: Turns,
    acquire_timeout: Duration,
    /// The lookups. They have their own connections, so that they never wait for purchases.
    pub(super) lookups: Lookups,
    /// Connections for shares of rate limits.
    pub(super) shares: Pool,
    /// Connections for batches. They are separate, so that batches never wait for lists.
    pub(super) batches: Pool,
    pub(super) listener: Listener,
    pub(super) changes: Arc<Changes>,
    max_connections: u32,
    /// Time limit of a read, including the wait for a connection.
    read_timeout: Duration,
    /// The lease of the node that this store belongs to.
    pub(super) lease: OnceLock<Box<dyn NodeLease>>,
    pub(super) tenants: TenantDirectory,
    pub(super) scope_sets: ScopeSets,
    pub(super) limit_sets: LimitSets,
    pub(super) acknowledged: Acknowledged,
}

impl Store {
    /// Connects immediately, so that a wrong address fails the start and not the first request.
    /// Finds the schema that contains the tables, and pins every connection to this schema.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn connect(settings: &PoolSettings) -> Result<Self, ConnectError> {
        let hosts = Hosts::parse("DATABASE_URL", &settings.url)?;
        let listen_hosts = match &settings.listen_url {
            Some(url) => Hosts::parse("TOLLGATE_LISTEN_DATABASE_URL", url)?,
            None => hosts.clone(),
        };
        let (timeout, standby_allowed) = (settings.acquire_timeout, settings.standby_allowed);
        let servers = Servers::default();
        let options = choose_at_start(&hosts, &servers, timeout, standby_allowed).await?;
        let schemas = probe(hosts.setting(), &options, timeout, standby_allowed).await?;
        if settings.listen_url.is_some() {
            let listen = choose_at_start(&listen_hosts, &servers, timeout, standby_allowed).await?;
            probe(listen_hosts.setting(), &listen, timeout, standby_allowed).await?;
        }
        let schema = schemas.choose().map_err(|error| ConnectError::Schema {
            place: hosts.place(),
            reason: error.to_string(),
        })?;
        let make = |connections, session: &str| {
            let pool = pool(settings, &schema, &servers, connections, session);
            Pool::new(pool.connect_lazy_with(options.clone()), settings.answer_timeout)
        };
        let lookups = Lookups::new(settings.acquire_timeout, &servers, |connections| {
            make(connections, lookups::SESSION)
        });
        let shares = make(SHARE_CONNECTIONS, lookups::SESSION);
        let batches = make(BATCH_CONNECTIONS, BATCH_SESSION);
        let pool = make(settings.max_connections, "");
        let read_timeout = settings.acquire_timeout + settings.answer_timeout;
        Ok(Self {
            turns: Turns::new(settings.max_connections),
            acquire_timeout: settings.acquire_timeout,
            pool,
            hosts,
            servers,
            checked_hosts: Mutex::default(),
            lookups,
            shares,
            batches,
            listener: Listener { hosts: listen_hosts, settings: settings.clone(), schema },
            changes: Arc::new(Changes::new(entropy::node_id()?)),
            max_connections: settings.max_connections,
            read_timeout,
            lease: OnceLock::new(),
            tenants: TenantDirectory::default(),
            scope_sets: ScopeSets::default(),
            limit_sets: LimitSets::default(),
            acknowledged: Acknowledged::default(),
        })
    }

    /// Logs a warning if connections to Postgres cross a network without encryption. Only a service
    /// calls this, because operators look for deployment problems in the log of a service.
    pub fn warn_if_not_encrypted(&self) {
        let Listener { hosts: listen_hosts, settings, .. } = &self.listener;
        let mut urls = Vec::new();
        if self.hosts.all().iter().any(tls::is_off) {
            urls.push("DATABASE_URL");
        }
        if settings.listen_url.is_some() && listen_hosts.all().iter().any(tls::is_off) {
            urls.push("TOLLGATE_LISTEN_DATABASE_URL");
        }
        if !urls.is_empty() {
            warn!(
                settings = urls.join(", "),
                "connections to Postgres are not encrypted, so passwords and data cross the \
                 network in plain text. Use sslmode=verify-full instead of disable, in the URL or \
                 in PGSSLMODE"
            );
        }
    }

    /// Fails if the limits of Postgres are too small for all connections of a node. Only a service
    /// calls this, because a command opens only one connection at a time.
    ///
    /// A `listen_url` implies that there is a pooler. In this case, the check only logs a warning
    /// about a limit that is too small, because connections above the limit wait in the pooler. The
    /// check cannot read the pooler's own limits.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn check_connection_limits(&self) -> Result<(), ConnectError> {
        let place = place(&self.pool.unlimited().connect_options());
        let failed = |error| ConnectError::Unreachable {
            place: place.clone(),
            reason: explain::message(&error),
        };
        let mut connection = acquire_at_start(self.pool.unlimited(), self.acquire_timeout).await?;
        let limits = ConnectionLimits::read(&mut connection).await.map_err(failed)?;
        let Some(reason) = limits.shortage(&self.listener.settings) else { return Ok(()) };
        if self.listener.settings.listen_url.is_none() {
            return Err(ConnectError::TooFewConnections { place, reason });
        }
        warn!(
            reason,
            "Postgres allows fewer connections than this node may open. Further connections wait in \
             the pooler of DATABASE_URL, because a pooler in session mode needs one connection to \
             Postgres for each client connection. Requests that wait too long get 503"
        );
        Ok(())
    }

    /// Returns the maximum time that a request waits for a connection.
    #[must_use]
    pub fn acquire_timeout(&self) -> Duration {
        self.acquire_timeout
    }

    /// Returns the server of the pool's connections.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn server(&self) -> Result<ServerId, StoreError> {
        self.read(|mut connection| async move { primary::server(&mut connection).await }).await
    }

    /// Whether the server is a standby, which is read-only.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn is_standby(&self) -> Result<bool, StoreError> {
        self.read(|mut connection| async move { primary::is_standby(&mut connection).await }).await
    }

    /// Brings the schema up to date, as [`schema::bring_up_to_date`] describes.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn migrate(&self) -> Result<(), ConnectError> {
        let place = place(&self.pool.unlimited().connect_options());
        let migration = |reason| ConnectError::Migration { place: place.clone(), reason };
        let failed = |error| migration(explain::message(&error));
        // The connection is detached, so that it does not return to the pool with changed settings.
        let mut connection =
            acquire_at_start(self.pool.unlimited(), self.acquire_timeout).await?.detach();
        if let Err(error) = schema::bring_up_to_date(&mut connection).await {
            let pinned = &self.listener.schema;
            let reason = explain::failed_migration(&error, pinned, &mut connection).await;
            return Err(migration(reason));
        }
        connection.close().await.map_err(failed)
    }

    /// Creates a limit on concurrent operations that may need a connection of the pool. The
    /// operations wait for slots, which are assigned round-robin by tenant.
    #[must_use]
    pub fn places(&self) -> Places {
        self.turns.places()
    }

    #[must_use]
    pub fn pool_state(&self) -> PoolState {
        let idle = self.pool.unlimited().num_idle();
        let size = self.pool.unlimited().size() as usize;
        PoolState { idle, used: size.saturating_sub(idle), max: self.max_connections }
    }

    /// Waits until the connections in use are returned, and closes all connections. Gives up if the
    /// database does not respond.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn close(&self) {
        let all = async {
            tokio::join!(
                self.pool.close(),
                self.lookups.close(),
                self.shares.close(),
                self.batches.close()
            )
        };
        if tokio::time::timeout(CLOSE_TIMEOUT, all).await.is_err() {
            warn!("the database does not respond. Its connections are dropped");
        }
    }

    /// After the node has lost its session, chooses the host for new connections again. Returns the
    /// host for the next session.
    pub(super) async fn choose_hosts(&self) -> Result<PgConnectOptions, NoPrimary> {
        let host = choose(&self.hosts, &self.servers).await?;
        self.check_new_host(&self.hosts, &host).await?;
        for pool in
            [&self.pool, &self.shares, &self.batches].into_iter().chain(self.lookups.pools())
        {
            pool.unlimited().set_connect_options(host.clone());
        }
        let listening = self.listening_host().await?;
        self.check_new_host(&self.listener.hosts, &listening).await?;
        Ok(listening)
    }

    /// If the URL contains several hosts, refuses a host behind a pooler that is not in session
    /// mode. The start has already checked the host that it chose.
    async fn check_new_host(
        &self,
        hosts: &Hosts,
        host: &PgConnectOptions,
    ) -> Result<(), NoPrimary> {
        let place = place(host);
        if hosts.all().len() == 1 || lock(&self.checked_hosts).contains(&place) {
            return Ok(());
        }
        match self.check_sessions(hosts.setting(), host).await {
            Ok(()) => {
                lock(&self.checked_hosts).insert(place);
                Ok(())
            }
            Err(error) => {
                let reasons = vec![error.to_string()];
                Err(NoPrimary { reasons, standby: None, is_slow: false })
            }
        }
    }

    /// If the URL contains several hosts, looks for the primary among them every few seconds. A
    /// newly promoted primary ends the session, so that the node follows the promotion even if the
    /// old primary still responds.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn watch_hosts(&self) -> Infallible {
        loop {
            sleep(WATCH_HOSTS_EVERY).await;
            look(&self.hosts, &self.servers).await;
            if self.listener.settings.listen_url.is_some() {
                look(&self.listener.hosts, &self.servers).await;
            }
        }
    }

    /// Chooses the host for a listening connection.
    pub(super) async fn listening_host(&self) -> Result<PgConnectOptions, NoPrimary> {
        match &self.listener.settings.listen_url {
            Some(_) => choose(&self.listener.hosts, &self.servers).await,
            None => Ok(self.pool.unlimited().connect_options().as_ref().clone()),
        }
    }

    /// Runs a read. If a restart of the database has closed its connection, repeats the read on
    /// another connection. Each failure removes one closed connection from the pool.
    pub(super) async fn read<T, F, Fut>(&self, run: F) -> Result<T, StoreError>
    where
        F: Fn(Connection) -> Fut,
        Fut: Future<Output = Result<T, sqlx::Error>>,
    {
        let _turn = self.turn().await?;
        self.repeat(run).await
    }

    async fn repeat<T, F, Fut>(&self, run: F) -> Result<T, StoreError>
    where
        F: Fn(Connection) -> Fut,
        Fut: Future<Output = Result<T, sqlx::Error>>,
    {
        let attempts = async {
            let mut failures = 0;
            loop {
                let connection = self.pool.acquire().await;
                let connection = connection.map_err(|error| self.servers.no_connection(error))?;
                match run(connection).await {
                    Err(error) if is_lost_connection(&error) && failures < self.max_connections => {
                        failures += 1;
                    }
                    result => return Ok(result?),
                }
            }
        };
        let late = |_| Err(StoreError::Unavailable("the database did not answer in time".into()));
        tokio::time::timeout(self.read_timeout, attempts).await.unwrap_or_else(late)
    }

    /// Begins a transaction (READ COMMITTED). If a restart of the database has closed the
    /// connection, uses another one.
    pub(super) async fn begin(&self) -> Result<Tx, StoreError> {
        let turn = self.turn().await?;
        let begin = |mut connection: Connection| async move {
            // If this future is dropped, the transaction may or may not have begun.
            connection.close_on_drop();
            connection.execute("BEGIN").await?;
            connection.keep();
            Ok(connection)
        };
        let connection = self.repeat(begin).await?;
        Ok(Tx::begun(connection, turn))
    }

    async fn turn(&self) -> Result<Turn, StoreError> {
        let turn = tokio::time::timeout(self.acquire_timeout, self.turns.take()).await;
        turn.map_err(|_| StoreError::Unavailable("no connection was free in time".into()))
    }

    /// Measures the duration of an operation, until the timer is dropped.
    pub(super) fn timer(&self, operation: &'static str) -> Timer {
        Timer { operation, since: Instant::now() }
    }
}

/// Records the duration of a store operation.
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
