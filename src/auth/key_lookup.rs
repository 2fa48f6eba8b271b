use std::{future::Future, sync::Arc};

use super::{Presented, Verdict};
use crate::domain::server::ServerId;

/// Looks keys up in the database, for a [`LeasedVerifier`](super::LeasedVerifier).
///
/// The key is well formed. An implementation decides by the key and its account alone, because its
/// verdicts are cached by the key's hash.
pub trait KeyLookup: Send + Sync + 'static {
    /// The verdict on the key, read on this server after the call began. `None`: another server
    /// answered.
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

/// Why there is no verdict yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum NoVerdict {
    /// There is no lease.
    NoLease,
    /// The answer came from another server than the one that granted the lease.
    OtherServer,
}
