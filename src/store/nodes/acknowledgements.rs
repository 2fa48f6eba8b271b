//! Receives acknowledgements in a process that holds no lease, such as a command.

use std::sync::Arc;

use tokio::task::JoinHandle;

use super::{
    notices::{OwnNotice, own_notice},
    sessions::{CONNECT_TIMEOUT, within},
};
use crate::store::{Store, StoreError};

/// Receives acknowledgements of this process's changes until this value is dropped.
#[must_use]
pub struct Acknowledgements(JoinHandle<()>);

impl Store {
    /// Opens a connection that receives acknowledgements of all changes that begin after this call.
    /// Use it in a process that holds no lease. Without acknowledgements, the changes of such a
    /// process wait until the leases of all other nodes have ended.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn hear_acknowledgements(&self) -> Result<Acknowledgements, StoreError> {
        let changes = Arc::clone(&self.changes);
        let own = changes.own_channel();
        let listen = async {
            let host = self.listening_host().await;
            let host = host.map_err(|reason| StoreError::Unavailable(reason.into()))?;
            let mut listener = self.listener.connect(host, &self.servers, CONNECT_TIMEOUT).await?;
            listener.listen(&own).await?;
            Ok(listener)
        };
        let mut listener = within(CONNECT_TIMEOUT * 2, listen).await?;
        // A node acknowledges a change on the server that committed the change, because it received
        // the change from there. If this connection reaches another server, it receives nothing, so
        // there is no need to compare the servers. If the connection is lost, changes wait until
        // the leases have ended.
        Ok(Acknowledgements(tokio::spawn(async move {
            while let Ok(Some(heard)) = listener.try_recv().await {
                if let Some(OwnNotice::Applied { by, number }) = own_notice(heard.payload()) {
                    changes.acknowledge(number, by);
                }
            }
        })))
    }
}

impl Drop for Acknowledgements {
    fn drop(&mut self) {
        self.0.abort();
    }
}
