use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use tokio::{sync::watch, time::sleep};
use tracing::warn;

use super::log::start_log;
use crate::{
    config::{DatabaseArgs, DatabaseConfig, DatabasePlace},
    postgres::{self, PrivatePostgres},
    store::{Acknowledgements, ConnectError, Store},
};

/// The pause between two attempts to connect while a service waits until a standby is promoted.
const CONNECT_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// The store, and the private Postgres if the store uses it.
pub struct Database {
    pub store: Arc<Store>,
    private: Option<PrivatePostgres>,
}

impl Database {
    /// Opens the database for a service. Postgres must allow all connections in the service's
    /// settings. If Postgres is a standby, sets `waiting` and waits until the standby is promoted.
    /// A signal ends this wait. A signal also ends the wait for the migration, because another
    /// session may lock a table for a long time.
    pub async fn open_for_service(
        config: DatabaseConfig,
        stop: &mut watch::Receiver<bool>,
        waiting: &watch::Sender<bool>,
    ) -> anyhow::Result<Self> {
        let database = tokio::select! {
            connected = Self::connect_to_primary(config, waiting) => connected?,
            _ = stop.wait_for(|&stop| stop) => {
                bail!("stopped by a signal before Postgres could be used");
            }
        };
        database.store.warn_if_not_encrypted();
        database.check_pooler().await?;
        // This check precedes the migration, so that a service that cannot start changes nothing.
        database.store.check_connection_limits().await?;
        tokio::select! {
            migrated = database.store.migrate() => migrated?,
            _ = stop.wait_for(|&stop| stop) => {
                database.close().await?;
                bail!("stopped by a signal before the schema was up to date");
            }
        }
        Ok(database)
    }

    /// Opens the database for a command, and starts its log. The pool gets only one connection,
    /// because the limits of Postgres may not allow a second one.
    pub async fn open_for_command(args: &DatabaseArgs) -> anyhow::Result<Self> {
        let database = Self::open_with_one_connection(args, false).await?;
        database.store.migrate().await?;
        Ok(database)
    }

    /// Opens the database for a command that only reads, and starts its log. The database may be a
    /// standby. A standby is not migrated, because it replicates the schema of its primary.
    pub async fn open_to_read(args: &DatabaseArgs) -> anyhow::Result<Self> {
        let database = Self::open_with_one_connection(args, true).await?;
        if !database.store.is_standby().await? {
            database.store.migrate().await?;
        }
        Ok(database)
    }

    async fn open_with_one_connection(
        args: &DatabaseArgs,
        standby_allowed: bool,
    ) -> anyhow::Result<Self> {
        let (mut config, log) = args.resolve()?;
        config.pool.max_connections = 1;
        config.pool.standby_allowed = standby_allowed;
        start_log(log);
        let database = Self::connect(config).await?;
        match database.check_pooler().await {
            // A command needs no second connection.
            Ok(()) | Err(ConnectError::TooFewConnections { .. }) => Ok(database),
            Err(error) => Err(error.into()),
        }
    }

    /// Refuses a pooler that is not in session mode. Commands check this too, because a migration
    /// would leave its lock and its settings in the sessions of other clients.
    async fn check_pooler(&self) -> Result<(), ConnectError> {
        // This process connects directly to its private Postgres, so no pooler is possible.
        if self.private.is_some() { Ok(()) } else { self.store.check_pooler().await }
    }

    /// Connects to the primary. Tries again while the server is a standby. Once a standby has
    /// answered, also tries again if the server is unreachable, because it may restart before it is
    /// promoted.
    async fn connect_to_primary(
        config: DatabaseConfig,
        waiting: &watch::Sender<bool>,
    ) -> anyhow::Result<Self> {
        loop {
            let error = match Self::connect(config.clone()).await {
                Ok(database) => return Ok(database),
                Err(error) => error,
            };
            match error.downcast_ref() {
                Some(ConnectError::Standby { place }) => {
                    if !waiting.send_replace(true) {
                        warn!("Postgres at {place} is a standby. Waiting until it is promoted");
                    }
                }
                Some(ConnectError::NoPrimary { place, reason }) => {
                    if !waiting.send_replace(true) {
                        warn!(reason, "no host of {place} is a primary. Waiting for a promotion");
                    }
                }
                Some(ConnectError::Unreachable { .. } | ConnectError::Refused { .. })
                    if *waiting.borrow() => {}
                _ => return Err(error),
            }
            sleep(CONNECT_AGAIN_AFTER).await;
        }
    }

    /// Connects to the database. If the settings contain no URL, first starts the private Postgres.
    async fn connect(config: DatabaseConfig) -> anyhow::Result<Self> {
        let DatabaseConfig { place, mut pool } = config;
        let private = match place {
            DatabasePlace::Url(url) => {
                pool.url = url;
                None
            }
            DatabasePlace::Private(options) => {
                let start = move || PrivatePostgres::start(&options);
                let private = tokio::task::spawn_blocking(start)
                    .await
                    .context("the start of the private Postgres was interrupted")??;
                pool.url = private.url(postgres::DATABASE);
                Some(private)
            }
        };
        let store = Arc::new(Store::connect(&pool).await?);
        Ok(Self { store, private })
    }

    /// Receives acknowledgements of the command's changes until the result is dropped. Without
    /// acknowledgements, a change is equally safe, but waits until the leases of all other nodes
    /// have ended.
    ///
    /// Call this after the command has read something. By then, its pool has opened a connection.
    /// If Postgres allows only one connection, this call fails instead of the command.
    pub async fn hear_acknowledgements(&self) -> Option<Acknowledgements> {
        let hearing = self.store.hear_acknowledgements().await;
        if let Err(error) = &hearing {
            warn!(
                error = error as &dyn std::error::Error,
                "cannot receive acknowledgements from other nodes. The change waits until the \
                 leases of these nodes have ended"
            );
        }
        hearing.ok()
    }

    /// Whether the database is the private Postgres of another process.
    pub fn is_attached(&self) -> bool {
        self.private.as_ref().is_some_and(|private| !private.is_owner())
    }

    /// Closes the connections, and stops the private Postgres.
    pub async fn close(self) -> anyhow::Result<()> {
        self.store.close().await;
        if let Some(private) = self.private {
            tokio::task::spawn_blocking(move || private.stop())
                .await
                .context("the shutdown of the private Postgres was interrupted")??;
        }
        Ok(())
    }
}
