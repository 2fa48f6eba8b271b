//! Checks after a failover that the database still contains all entries and revocations that this
//! node acknowledged.

use std::{collections::HashSet, slice::from_ref, sync::Arc, time::Duration};

use metrics::{Counter, counter};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tracing::{debug, error, warn};

use crate::{
    domain::server::ServerId,
    store::{
        AcknowledgedEntry, AcknowledgedRevoke, AcknowledgedTail, MAX_LOOKED_FOR, Store, StoreError,
    },
};

/// Time limit for retrying a statement while the database does not respond.
const GIVE_UP_AFTER: Duration = Duration::from_secs(60);

/// The pause between two attempts.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Starts a check when a different server grants the lease. Dropping this value stops the check.
pub(super) struct LostTail {
    store: Arc<Store>,
    counters: Counters,
    /// The server that granted the last lease.
    server: Option<ServerId>,
    check: JoinSet<()>,
}

#[derive(Clone)]
struct Counters {
    entries: Counter,
    revokes: Counter,
}

impl LostTail {
    pub fn new(store: &Arc<Store>) -> Self {
        // The counters are registered here, so that the metrics show 0 before the first failover.
        let counters = Counters {
            entries: counter!("tollgate_lost_entries_total"),
            revokes: counter!("tollgate_lost_revokes_total"),
        };
        Self { store: Arc::clone(store), counters, server: None, check: JoinSet::new() }
    }

    /// Call this after each renewal of the lease, with the server that granted it. If the server
    /// has changed, a separate task checks everything that the node has acknowledged until now. The
    /// task does not check later acknowledgements.
    pub fn lease_granted(&mut self, server: ServerId) {
        let before = self.server.replace(server);
        if before.is_none_or(|before| before == server) {
            while self.check.try_join_next().is_some() {}
            // If another failover interrupts a check, the next check needs the same data again.
            if self.check.is_empty() {
                self.store.acknowledged().forget_old();
            }
            return;
        }
        let (store, counters) = (Arc::clone(&self.store), self.counters.clone());
        let tail = store.acknowledged().tail();
        // An earlier check that is still running is stopped, because its server no longer matters.
        self.check = JoinSet::new();
        self.check.spawn(Check { store, counters, server, tail }.run());
    }
}

/// A check of all entries and revocations from before this server granted the lease.
struct Check {
    store: Arc<Store>,
    counters: Counters,
    server: ServerId,
    tail: AcknowledgedTail,
}

impl Check {
    async fn run(self) {
        // The check begins with revocations, because a key is accepted until its revocation is
        // repeated.
        if let Err(error) = self.check_revokes().await {
            let error = &error as &dyn std::error::Error;
            error!(
                error,
                "cannot check whether the database lost acknowledged revocations in a failover. \
                 Repeat the revocations from the last minute"
            );
        }
        if let Err(error) = self.check_entries().await {
            let error = &error as &dyn std::error::Error;
            warn!(
                error,
                "cannot check whether the database lost acknowledged ledger entries in a failover"
            );
        }
        let AcknowledgedTail { entries, revokes } = &self.tail;
        debug!(entries = entries.len(), revokes = revokes.len(), "checked for lost commits");
    }

    async fn check_revokes(&self) -> Result<(), StoreError> {
        let mut lost: Vec<AcknowledgedRevoke> = Vec::new();
        // A key counts once, even if it was revoked repeatedly.
        let mut key_ids = HashSet::new();
        for some in self.tail.revokes.chunks(MAX_LOOKED_FOR) {
            let found = retried(|| self.store.find_lost_revokes(self.server, some)).await?;
            lost.extend(found.into_iter().filter(|revoke| key_ids.insert(revoke.key_id)));
        }
        let Some(first) = lost.first() else { return Ok(()) };
        self.counters.revokes.increment(lost.len() as u64);
        error!(
            "the database lost {} acknowledged revocations from the last minute. This node repeats \
             them. The first one revoked the key {}",
            lost.len(),
            first.key_id
        );
        for revoke in &lost {
            if let Err(error) = retried(|| self.repeat(revoke)).await {
                let (error, key_id) = (&error as &dyn std::error::Error, revoke.key_id);
                error!(error, %key_id, "repeating a lost revocation failed. Revoke the key again");
            }
        }
        Ok(())
    }

    /// Repeats a revocation. Fails if the server still lacks the revocation afterwards, because the
    /// connection may have been to the old server.
    async fn repeat(&self, revoke: &AcknowledgedRevoke) -> Result<(), StoreError> {
        self.store.repeat_revoke(revoke).await?;
        let lost = self.store.find_lost_revokes(self.server, from_ref(revoke)).await?;
        if lost.is_empty() {
            return Ok(());
        }
        Err(StoreError::Unavailable("the revocation was committed on a different server".into()))
    }

    async fn check_entries(&self) -> Result<(), StoreError> {
        let mut lost: Vec<AcknowledgedEntry> = Vec::new();
        for some in self.tail.entries.chunks(MAX_LOOKED_FOR) {
            lost.extend(retried(|| self.store.find_lost_entries(self.server, some)).await?);
        }
        let Some(AcknowledgedEntry { account_id, seq, cause }) = lost.first() else {
            return Ok(());
        };
        self.store.acknowledged().forget_entries(&lost);
        self.counters.entries.increment(lost.len() as u64);
        error!(
            "the database lost {} acknowledged ledger entries from the last minute. The first is \
             entry {seq} ({cause}) of the account {}",
            lost.len(),
            account_id.uuid()
        );
        Ok(())
    }
}

/// Retries an operation while the database does not respond.
async fn retried<T, F>(operation: impl Fn() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let give_up = Instant::now() + GIVE_UP_AFTER;
    loop {
        match operation().await {
            Err(StoreError::Unavailable(_)) if Instant::now() < give_up => sleep(RETRY_AFTER).await,
            result => return result,
        }
    }
}
