use std::{sync::Arc, time::Duration};

use super::{keeper, verifier::StoreVerifier};
use crate::{auth::LeasedVerifier, clock, store::Store};

/// Settings of the cache and the lease.
#[derive(Clone, Copy, Debug)]
pub struct NodeSettings {
    /// Maximum number of cached keys. 0: no key is cached.
    pub cache_entries: usize,
    /// How long the node may answer from its cache without renewing its lease. A change waits this
    /// long for a node that is gone.
    pub lease: Duration,
}

impl Default for NodeSettings {
    fn default() -> Self {
        Self { cache_entries: 1_000_000, lease: Duration::from_secs(2) }
    }
}

/// A node. Cheap to clone.
#[derive(Clone)]
pub struct Node {
    store: Arc<Store>,
    verifier: Arc<LeasedVerifier<StoreVerifier>>,
    lease: Duration,
}

impl Node {
    /// A node on this database, with an empty cache. Until [`keep_lease`](Self::keep_lease) runs,
    /// it looks every key up in the database.
    ///
    /// # Panics
    ///
    /// If the store already belongs to a node.
    #[must_use]
    pub fn new(store: Arc<Store>, settings: NodeSettings) -> Self {
        let verifier = StoreVerifier::new(Arc::clone(&store));
        let verifier = LeasedVerifier::new(verifier, settings.cache_entries, clock::since_boot);
        let verifier = Arc::new(verifier);
        // A weak reference, because the verifier holds the store.
        let applied = Arc::downgrade(&verifier);
        store.on_change(move |tag| {
            if let Some(verifier) = applied.upgrade() {
                verifier.invalidate(tag);
            }
        });
        Self { store, verifier, lease: settings.lease }
    }

    /// The verifier of this node.
    #[must_use]
    pub fn verifier(&self) -> &Arc<LeasedVerifier<StoreVerifier>> {
        &self.verifier
    }

    #[must_use]
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Keeps the lease until `stop` is ready, then gives it back, so that changes no longer wait
    /// for this node.
    pub async fn keep_lease(self, stop: impl Future<Output = ()>) {
        keeper::keep(&self.store, &self.verifier, self.lease, stop).await;
    }
}
