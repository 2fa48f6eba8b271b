//! Deletes clients of keys that are stored for longer than necessary.

use std::{pin::pin, sync::Arc, time::Duration};

use tokio::time::sleep;
use tracing::debug;

use crate::store::{ClientCursor, Store};

/// Interval between two passes. Each pass covers a limited number of keys.
const SWEEP_AFTER: Duration = Duration::from_secs(60);

/// Deletes old networks and refusals of keys, part by part, until `stop` is ready.
pub async fn delete_old_clients(store: Arc<Store>, stop: impl Future<Output = ()>) {
    let mut stop = pin!(stop);
    let mut cursor = ClientCursor::default();
    loop {
        tokio::select! {
            () = sleep(SWEEP_AFTER) => {}
            () = &mut stop => return,
        }
        match store.delete_old_clients(cursor).await {
            Ok(next) => cursor = next,
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                debug!(error, "old clients of keys could not be deleted");
            }
        }
    }
}
