use std::{future::Future, sync::Arc};

use super::{Presented, Verdict};
use crate::domain::server::ServerId;

/// Looks up keys in the database, for a [`LeasedVerifier`](super::LeasedVerifier).
///
/// The key is well formed. An implementation must decide by the key and its account alone, because
/// the cache stores its verdicts by the key's hash.
pub trait KeyLookup: Send + Sync + 'static {
    /// Returns the verdict on the key. The lookup reads the key on this server after the call
    /// began. `None` means that another server answered.
    fn look_up(
        &self,
        presented: &Presented<'_>,
        server: ServerId,
    ) -> impl Future<Output = Option<Verdict>> + Send;
}

impl<L: KeyLookup> KeyLookup for Arc<L> {
    fn look_up(
        &self,
        presented: &Presented<'_>,
        server: ServerId,
    ) -> impl Future<Output = Option<Verdict>> + Send {
        L::look_up(self, presented, server)
    }
}

/// The reason why no verdict is available yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum NoVerdict {
    /// The node holds no lease.
    NoLease,
    /// The answer came from a server that did not grant the lease.
    OtherServer,
}
