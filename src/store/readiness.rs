//! Checks whether every kind of connection works and reaches the server that granted the lease.

use tokio::time::Instant;

use super::{
    Store, StoreError, primary,
    turns::{hurry, of_request},
};
use crate::domain::server::ServerId;

/// A hash that no key or token has.
const NO_HASH: [u8; 32] = [0; 32];

/// The reason why the store cannot serve requests.
#[derive(Debug, thiserror::Error)]
pub enum NotReady {
    #[error("the node has no lease")]
    NoLease,
    /// The field names the purpose of the connections.
    #[error("the connections for {0} reach a server that did not grant the lease")]
    OtherServer(&'static str),
    /// The field names the purpose of the connections.
    #[error("the connections for {0} do not work")]
    Failed(&'static str, #[source] StoreError),
}

impl Store {
    /// Checks that the node holds its lease, and that one connection of each pool reaches the
    /// server that granted the lease. Waits for a lease as long as a request does.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn check_ready(&self) -> Result<(), NotReady> {
        let deadline = Instant::now() + self.acquire_timeout();
        let lease = self.lease.get().ok_or(NotReady::NoLease)?;
        let server = lease.server(deadline).await.ok_or(NotReady::NoLease)?;
        let wanted = Some(server);
        let requests = of_request(None, async {
            hurry();
            self.server().await
        });
        let lookups = &self.lookups;
        let api_keys = async { Ok(lookups.api_keys.find(NO_HASH, wanted).await?.server) };
        let others = async { Ok(lookups.admin_keys.find(NO_HASH, wanted).await?.server) };
        let (requests, api_keys, others, batches) =
            tokio::join!(requests, api_keys, others, self.server_of_batches());
        for (purpose, answered) in [
            ("lists and changes", requests),
            ("lookups of API keys", api_keys),
            ("lookups of admin keys and sessions", others),
            ("purchases", batches),
        ] {
            match answered {
                Ok(answered) if answered == server => {}
                Ok(_) => return Err(NotReady::OtherServer(purpose)),
                Err(error) => return Err(NotReady::Failed(purpose, error)),
            }
        }
        Ok(())
    }

    /// Identifies the server of a connection for batches.
    async fn server_of_batches(&self) -> Result<ServerId, StoreError> {
        let mut connection = self.batches.acquire().await?;
        Ok(primary::server(&mut connection).await?)
    }
}
