use std::pin::Pin;

use tokio::time::Instant;

use crate::domain::server::ServerId;

/// The lease of the node that a store belongs to.
pub trait NodeLease: Send + Sync {
    /// Waits for a lease until the deadline. Returns the server that granted it. `None`: the node
    /// has no lease, or too many requests wait for one.
    fn server(
        &self,
        deadline: Instant,
    ) -> Pin<Box<dyn Future<Output = Option<ServerId>> + Send + '_>>;
}
