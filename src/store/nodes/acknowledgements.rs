//! Acknowledgements of the changes of a process that holds no lease, such as a command.

use std::sync::Arc;

use tokio::task::JoinHandle;

use super::{
    notices::{OwnNotice, own_notice},
    sessions::{CONNECT_TIMEOUT, within},
};
use crate::store::{Store, StoreError};

/// Hears the acknowledgements of this process's changes, until it is dropped.
#[must_use]
pub struct Acknowledgements(JoinHandle<()>);

impl Store {
    /// Opens a connection that hears acknowledgements of the changes that begin from now on. For a
    /// process that holds no lease: without acknowledgements its changes wait until the leases of
    /// all other nodes have ended.
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
        // A node acknowledges a change on the server where it has heard it, which is the one that
        // committed it. So this connection hears nothing if it leads to another server, and the
        // servers need not be compared. If it is lost, the changes wait for the ends of the leases.
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
