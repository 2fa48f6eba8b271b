use std::pin::Pin;

use tokio::time::Instant;

use crate::domain::server::ServerId;

/// The lease of the node that uses a store.
pub trait NodeLease: Send + Sync {
    /// Waits for a lease until the deadline, and returns the server that granted it. `None` if the
    /// node has no lease by then, or if too many requests wait for one.
    fn server(
        &self,
        deadline: Instant,
    ) -> Pin<Box<dyn Future<Output = Option<ServerId>> + Send + '_>>;
}
