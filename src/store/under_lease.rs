//! Reads that decide whether a request is accepted. The node uses only results from the server that
//! granted its lease, because another server may lack an acknowledged change.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use super::{
    Store, StoreError,
    lookups::{Gathered, Row},
    node_lease::NodeLease,
};
use crate::domain::server::ServerId;

/// Pause before a read is repeated because another server responded.
pub(super) const ASK_AGAIN_AFTER: Duration = Duration::from_millis(10);

impl Store {
    /// Sets the lease for all later reads. Without a lease, as in a command, a read uses the result
    /// of any primary.
    ///
    /// # Panics
    ///
    /// If a lease is already set. A store belongs to one node.
    pub fn use_lease(&self, lease: impl NodeLease + 'static) {
        let set = self.lease.set(Box::new(lease));
        assert!(set.is_ok(), "a store belongs to one node");
    }

    /// Finds the row with this hash, if it exists. The row is read after this call began.
    pub(super) async fn find_under_lease<R: Row>(
        &self,
        lookups: &Arc<Gathered<R>>,
        hash: [u8; 32],
    ) -> Result<Option<Arc<R>>, StoreError> {
        self.under_lease(|server| async move {
            let found = lookups.find(hash, server).await?;
            Ok((found.server, found.row))
        })
        .await
    }

    /// Repeats a read until its result comes from the server that granted the lease. `read` returns
    /// its result and the server that responded.
    pub(super) async fn under_lease<T, F, Fut>(&self, read: F) -> Result<T, StoreError>
    where
        F: Fn(Option<ServerId>) -> Fut,
        Fut: Future<Output = Result<(ServerId, T), StoreError>>,
    {
        let deadline = Instant::now() + self.acquire_timeout();
        loop {
            let wanted = match self.lease.get() {
                Some(lease) => Some(lease.server(deadline).await.ok_or_else(no_lease)?),
                None => None,
            };
            let (server, answer) = read(wanted).await?;
            if wanted.is_none_or(|wanted| wanted == server) {
                return Ok(answer);
            }
            if Instant::now() >= deadline {
                let reason = "the responses do not come from the server that granted the lease";
                return Err(StoreError::Unavailable(reason.into()));
            }
            sleep(ASK_AGAIN_AFTER).await;
        }
    }
}

pub(super) fn no_lease() -> StoreError {
    StoreError::Unavailable("this node holds no lease".into())
}
