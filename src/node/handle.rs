use std::{
    pin::Pin,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use super::{held_session::HeldSession, keeper::Keeper, lookup::StoreLookup};
use crate::{
    auth::{Denial, LeasedVerifier, NoVerdict, Presented, Verdict},
    clock,
    domain::server::ServerId,
    limits::Limiter,
    store::{Affected, NodeLease, Store},
};

/// Pause before the node looks up a key again, after a server responded that did not grant the
/// lease.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(10);

/// Settings of the cache and the lease.
#[derive(Clone, Copy, Debug)]
pub struct NodeSettings {
    /// Maximum number of cached keys. With 0, no key is cached.
    pub cache_entries: usize,
    /// Time for which the node accepts keys without renewing its lease. A change waits this long
    /// for a node that no longer responds.
    pub lease: Duration,
}

impl Default for NodeSettings {
    fn default() -> Self {
        Self { cache_entries: 1_000_000, lease: Duration::from_secs(2) }
    }
}

/// A node, which verifies keys from a cache while it holds its lease. Cheap to clone.
#[derive(Clone)]
pub struct Node {
    store: Arc<Store>,
    limiter: Arc<Limiter>,
    verifier: Arc<LeasedVerifier<StoreLookup>>,
    session: Arc<HeldSession>,
    lease: Duration,
}

impl Node {
    /// Creates a node on this database, with an empty cache. The node accepts no key before
    /// [`keep_lease`](Self::keep_lease) runs.
    ///
    /// # Panics
    ///
    /// If the store already belongs to a node.
    #[must_use]
    pub fn new(store: Arc<Store>, settings: NodeSettings) -> Self {
        let limiter = Limiter::new(Arc::clone(&store), clock::since_boot);
        let verifier = StoreLookup::new(Arc::clone(&store), Arc::clone(&limiter));
        let verifier = LeasedVerifier::new(verifier, settings.cache_entries, clock::since_boot);
        let verifier = Arc::new(verifier);
        // The reference is weak, because the verifier owns the store.
        let applied = Arc::downgrade(&verifier);
        store.on_change(move |affected| {
            let Some(verifier) = applied.upgrade() else { return };
            match affected {
                Affected::Key(tag) => verifier.invalidate(tag),
                Affected::Group(group) => verifier.invalidate_group(group),
                Affected::Everything => verifier.clear(),
            }
        });
        let session = Arc::<HeldSession>::default();
        let (held, ended) = (Arc::clone(&session), Arc::downgrade(&verifier));
        store.on_commit(move |server| {
            held.committed_on(server, || {
                if let Some(verifier) = ended.upgrade() {
                    verifier.end_lease();
                }
            });
        });
        Self { store, limiter, verifier, session, lease: settings.lease }
    }

    /// Verifies a key. If the node holds no lease, waits for one. The time limit of this wait is
    /// the time limit for getting a connection to the database.
    pub async fn verify(&self, presented: &Presented<'_>) -> Verdict {
        match self.verifier.ask(presented).await {
            Ok(verdict) => verdict,
            Err(reason) => self.verify_later(presented, reason).await,
        }
    }

    async fn verify_later(&self, presented: &Presented<'_>, mut reason: NoVerdict) -> Verdict {
        let deadline = Instant::now() + self.store.acquire_timeout();
        let unavailable = || Err(Denial::Unavailable.into());
        let Some(waiting) = self.session.wait() else { return unavailable() };
        while Instant::now() < deadline {
            match reason {
                NoVerdict::OtherServer => sleep(ASK_AGAIN_AFTER).await,
                _ => {
                    if !waiting.until(|| self.verifier.holds_lease(), deadline).await {
                        break;
                    }
                }
            }
            match self.verifier.ask(presented).await {
                Ok(verdict) => return verdict,
                Err(again) => reason = again,
            }
        }
        unavailable()
    }

    /// Returns the verifier of this node.
    #[must_use]
    pub fn verifier(&self) -> &Arc<LeasedVerifier<StoreLookup>> {
        &self.verifier
    }

    /// Returns the rate limits of this node.
    #[must_use]
    pub fn limiter(&self) -> &Arc<Limiter> {
        &self.limiter
    }

    #[must_use]
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Keeps the lease until `stop` is ready, then returns the shares of rate limits and releases
    /// the lease, so that changes no longer wait for this node. After this call, the store uses
    /// only results from the server that granted the lease.
    ///
    /// # Panics
    ///
    /// If this method has already been called.
    pub fn keep_lease(self, stop: impl Future<Output = ()>) -> impl Future<Output = ()> {
        self.store.use_lease(LeaseOfNode {
            verifier: Arc::downgrade(&self.verifier),
            session: Arc::clone(&self.session),
        });
        async move {
            let Self { store, limiter, verifier, session, lease } = self;
            let stop = async {
                stop.await;
                limiter.return_all().await;
            };
            let keeper = Keeper { store: &store, limiter: &limiter, verifier: &verifier };
            tokio::select! {
                () = keeper.keep(&session, lease, stop) => {}
                never = Arc::clone(&limiter).run() => match never {},
            }
        }
    }
}

/// The lease of a node, for its store. The reference is weak, because the verifier owns the store.
struct LeaseOfNode {
    verifier: Weak<LeasedVerifier<StoreLookup>>,
    session: Arc<HeldSession>,
}

impl NodeLease for LeaseOfNode {
    fn server(
        &self,
        deadline: Instant,
    ) -> Pin<Box<dyn Future<Output = Option<ServerId>> + Send + '_>> {
        Box::pin(async move {
            let verifier = self.verifier.upgrade()?;
            if let Some(server) = verifier.lease_server() {
                return Some(server);
            }
            let waiting = self.session.wait()?;
            waiting.until(|| verifier.holds_lease(), deadline).await;
            verifier.lease_server()
        })
    }
}
