use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::{
    Denial, Denied, KeyVerifier, Presented, Verdict,
    key_cache::{Found, KeyCache, Ticket},
    lease::Lease,
};
use crate::domain::{
    api_key::{KeyHash, KeyTag},
    timestamp::Timestamp,
};

/// Answers out of a bounded cache while it holds a lease, and asks another verifier otherwise.
///
/// The inner verifier must decide by the key alone, not by the tenant, the scope or the client's
/// address in [`Presented`]. The cache finds a verdict by the key's hash, and uses it for every request with
/// that key.
///
/// Who grants the lease promises: until it is over, every change of a key that could turn a pass
/// into a refusal is applied here, by [`invalidate`](Self::invalidate), before the change is said
/// to be done. ARCHITECTURE.md has the protocol and why it is right.
pub struct LeasedVerifier<V> {
    inner: V,
    cache: KeyCache,
    lease: Lease,
    since_boot: fn() -> Duration,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    /// Found, but asked about all the same: it may have expired.
    doubtful: AtomicU64,
    misses: AtomicU64,
    without_lease: AtomicU64,
}

/// A snapshot of a [`LeasedVerifier`]: its cache, its lease, and its counters since it was created.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct CacheState {
    /// Number of keys in the cache.
    pub keys: usize,
    /// Verifications that the cache answered.
    pub hits: u64,
    /// Verifications that went to the inner verifier because the key was not in the cache, or may
    /// have expired since it was cached.
    pub misses: u64,
    /// Verifications that went to the inner verifier because there was no lease.
    pub without_lease: u64,
    /// Whether the lease runs, so that the cache may answer.
    pub holds_lease: bool,
}

impl<V: KeyVerifier> LeasedVerifier<V> {
    /// A cache of at most `capacity` keys, without a lease yet. `inner` must decide by the key
    /// alone. `since_boot` is this machine's clock: it never steps, and goes on while the machine
    /// sleeps.
    #[must_use]
    pub fn new(inner: V, capacity: usize, since_boot: fn() -> Duration) -> Self {
        let (cache, lease) = (KeyCache::new(capacity), Lease::new());
        Self { inner, cache, lease, since_boot, counts: Counts::default() }
    }

    /// Grants the lease from `sent`, a moment of this machine's clock, for `length`. Every change
    /// up to then has been applied.
    pub fn grant_lease(&self, sent: Duration, length: Duration, database_clock: Timestamp) {
        self.lease.grant(sent, length, database_clock);
    }

    /// Ends the lease before its time.
    pub fn end_lease(&self) {
        self.lease.end();
    }

    /// Applies a change of the keys with this tag. Once it returns, no request that comes is
    /// answered by what was so before the change.
    pub fn invalidate(&self, tag: KeyTag) {
        self.cache.invalidate(tag);
    }

    /// Applies changes of which it is not known what they were.
    pub fn clear(&self) {
        self.cache.clear();
    }

    /// A snapshot of the cache, the lease and the counters, for metrics. The counters are read one
    /// after another, so concurrent verifications may make them differ by a few.
    #[must_use]
    pub fn state(&self) -> CacheState {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let (keys, found) = self.cache.counts();
        CacheState {
            keys,
            // The two are not read at one moment.
            hits: found.saturating_sub(count(&self.counts.doubtful)),
            misses: count(&self.counts.misses),
            without_lease: count(&self.counts.without_lease),
            holds_lease: self.lease.holds((self.since_boot)()),
        }
    }

    fn look_up(&self, hash: &KeyHash) -> Result<Verdict, (Ticket, &AtomicU64)> {
        // The lease first: see `Lease::holds`.
        let now = (self.since_boot)();
        if !self.lease.holds(now) {
            return Err((self.cache.ticket(hash), &self.counts.without_lease));
        }
        match self.cache.look_up(hash) {
            Found::Hit(verdict) if self.still_holds(&verdict, now) => Ok(verdict),
            Found::Hit(_) => {
                self.counts.doubtful.fetch_add(1, Ordering::Relaxed);
                Err((self.cache.ticket(hash), &self.counts.misses))
            }
            Found::Miss(ticket) => Err((ticket, &self.counts.misses)),
        }
    }

    /// Whether time alone has changed nothing. When the key may have expired the database is
    /// asked, which knows; its answer is kept, and final.
    fn still_holds(&self, verdict: &Verdict, now: Duration) -> bool {
        let principal = match verdict {
            Ok(principal) => Some(principal),
            // Dead already.
            Err(Denied { reason: Denial::Revoked | Denial::Expired, .. }) => None,
            Err(denied) => denied.principal.as_ref(),
        };
        let expires_at = principal.and_then(|principal| principal.expires_at);
        expires_at.is_none_or(|end| !self.lease.may_have_come(end, now))
    }
}

impl<V: KeyVerifier> KeyVerifier for LeasedVerifier<V> {
    async fn verify(&self, presented: &Presented<'_>) -> Verdict {
        let hash = presented.key.hash();
        match self.look_up(&hash) {
            Ok(verdict) => verdict,
            Err((ticket, count)) => {
                count.fetch_add(1, Ordering::Relaxed);
                let verdict = self.inner.verify(presented).await;
                self.cache.insert(&hash, ticket, &verdict);
                verdict
            }
        }
    }

    fn verify_at_once(&self, presented: &Presented<'_>) -> Option<Verdict> {
        self.look_up(&presented.key.hash()).ok()
    }
}
