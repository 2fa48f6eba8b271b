use std::sync::Arc;

use anyhow::{Context as _, bail};
use tokio::sync::watch;

use super::log::start_log;
use crate::{
    config::{DatabaseArgs, DatabaseConfig, DatabasePlace},
    postgres::{self, PrivatePostgres},
    store::Store,
};

/// The store, and its private Postgres, if it uses one.
pub struct Database {
    pub store: Arc<Store>,
    private: Option<PrivatePostgres>,
}

impl Database {
    /// Opens the database for a service, which needs all connections that its settings allow. A
    /// signal ends the wait for the schema, because another session may lock one of its tables for
    /// long.
    pub async fn open_for_service(
        config: DatabaseConfig,
        stop: &mut watch::Receiver<bool>,
    ) -> anyhow::Result<Self> {
        let database = Self::connect(config).await?;
        database.store.warn_if_not_encrypted();
        // Before the migration, so that a service that is refused has changed nothing.
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

    /// Opens the database for a command that does one thing, and starts its log. A command uses
    /// one connection after another: the limits of Postgres may allow no second one, and the pool
    /// would open it before the first is back.
    pub async fn open_for_command(args: &DatabaseArgs) -> anyhow::Result<Self> {
        let (mut config, log) = args.resolve()?;
        config.pool.max_connections = 1;
        start_log(log);
        let database = Self::connect(config).await?;
        database.store.migrate().await?;
        Ok(database)
    }

    /// Connects. Starts the private Postgres first if the settings name no other database.
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
