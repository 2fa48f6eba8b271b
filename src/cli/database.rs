use std::sync::Arc;

use anyhow::Context as _;

use crate::{
    config::{DatabaseArgs, DatabaseConfig, DatabasePlace},
    postgres::{self, PrivatePostgres},
    store::Store,
    telemetry,
};

/// The store, and the private Postgres under it, if there is one.
pub struct Database {
    pub store: Arc<Store>,
    private: Option<PrivatePostgres>,
}

impl Database {
    /// Starts the private Postgres if it is to be that, connects, and brings the schema up to
    /// date.
    pub async fn open(config: DatabaseConfig) -> anyhow::Result<Self> {
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
                    .context("starting the private Postgres broke off")??;
                pool.url = private.url(postgres::DATABASE);
                Some(private)
            }
        };
        let store = Arc::new(Store::connect(&pool).await?);
        store.migrate().await?;
        Ok(Self { store, private })
    }

    /// For a command that does one thing: with its log.
    pub async fn open_for_command(args: &DatabaseArgs) -> anyhow::Result<Self> {
        let (config, log) = args.resolve()?;
        telemetry::start_log(log);
        Self::open(config).await
    }

    /// Whether it is the private Postgres of another process.
    pub fn is_attached(&self) -> bool {
        self.private.as_ref().is_some_and(|private| !private.is_owner())
    }

    /// Closes the connections, and stops the private Postgres.
    pub async fn close(self) -> anyhow::Result<()> {
        self.store.close().await;
        if let Some(private) = self.private {
            tokio::task::spawn_blocking(move || private.stop())
                .await
                .context("stopping the private Postgres broke off")??;
        }
        Ok(())
    }
}
