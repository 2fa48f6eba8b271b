use std::{
    future::poll_fn,
    sync::atomic::{AtomicU64, Ordering},
    task::Poll,
    time::Duration,
};

use super::{
    Denial, Denied, KeyVerifier, Limits, Presented, Principal, Taking, Verdict, Waited,
    key_cache::{Found, KeyCache, Ticket},
    key_lookup::{KeyLookup, NoVerdict},
    lease::Lease,
};
use crate::domain::{
    api_key::{KeyHash, KeyTag},
    key_group::KeyGroup,
    rate_limit::Cost,
    server::ServerId,
    timestamp::Timestamp,
};

/// Verifies keys from a bounded cache, and looks up keys that are not in the cache. It does so only
/// while it holds a lease. It looks up keys only on the server that granted the lease.
///
/// The lookup must depend on the key alone. It must ignore the tenant, the scopes, the cost and the
/// client's address in [`Presented`], because the cache stores a verdict under the key's hash and
/// uses it for every request with that key.
///
/// The caller that grants the lease guarantees the following. If a change could make this verifier
/// refuse a key that it accepts now, the caller applies the change with
/// [`invalidate`](Self::invalidate) or [`invalidate_group`](Self::invalidate_group) before the
/// operation that makes the change returns. This holds
/// until the lease ends. ARCHITECTURE.md contains the protocol and its proof.
pub struct LeasedVerifier<L> {
    lookup: L,
    cache: KeyCache,
    lease: Lease,
    since_boot: fn() -> Duration,
    counts: Counts,
}

/// The result of charging a request to rate limits.
enum Charged {
    /// The request was charged or refused, or no limit counts it.
    Decided(Verdict),
    /// A limit refuses the request. The verdict has not been checked again.
    Refused { verdict: Verdict, refusal: Denied },
    /// Something has changed since the key was verified.
    VerifyAgain,
    /// A limit has too few calls on this node.
    Waits { principal: Principal, limits: Limits, cost: Cost },
}

#[derive(Default)]
struct Counts {
    /// Number of cached verdicts that were found and not used, except in the loop of `ask`.
    unused: AtomicU64,
    misses: AtomicU64,
    without_lease: AtomicU64,
}

/// A snapshot of the cache, the lease and the counters of a [`LeasedVerifier`]. The counters begin
/// at zero when it is created.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct CacheState {
    /// Number of keys in the cache.
    pub keys: usize,
    /// Number of verifications that the cache served.
    pub hits: u64,
    /// Number of verifications that looked up the key, because the cache did not contain the key or
    /// because the key may have expired since it was cached.
    pub misses: u64,
    /// Number of attempts to verify a key without a lease.
    pub without_lease: u64,
    /// Whether the node holds its lease, so that it can accept keys.
    pub holds_lease: bool,
}

impl<L: KeyLookup> LeasedVerifier<L> {
    /// Creates a verifier without a lease. Its cache contains at most `capacity` keys. `lookup`
    /// must depend on the key alone. `since_boot` returns this machine's time since boot. That
    /// clock must never step, and must keep running while the machine sleeps.
    #[must_use]
    pub fn new(lookup: L, capacity: usize, since_boot: fn() -> Duration) -> Self {
        let (cache, lease) = (KeyCache::new(capacity), Lease::new());
        Self { lookup, cache, lease, since_boot, counts: Counts::default() }
    }

    /// Grants the lease for `length` from `sent`, a moment on this machine's clock. The cache must
    /// have applied every change that `server` had committed by `sent`.
    pub fn grant_lease(
        &self,
        sent: Duration,
        length: Duration,
        database_clock: Timestamp,
        server: ServerId,
    ) {
        self.lease.grant(sent, length, database_clock, server);
    }

    /// Whether the node holds its lease now.
    #[must_use]
    pub fn holds_lease(&self) -> bool {
        self.lease.holds((self.since_boot)())
    }

    /// Returns the server that granted the lease. `None` if the node does not hold its lease now.
    #[must_use]
    pub fn lease_server(&self) -> Option<ServerId> {
        self.lease.server((self.since_boot)())
    }

    /// Ends the lease early.
    pub fn end_lease(&self) {
        self.lease.end();
    }

    /// Applies a change to the keys with this tag. After it returns, no new request gets a verdict
    /// from before the change.
    pub fn invalidate(&self, tag: KeyTag) {
        self.cache.invalidate(tag);
    }

    /// Applies a change to all keys of a group. After it returns, no new request gets a verdict
    /// from before the change.
    pub fn invalidate_group(&self, group: KeyGroup) {
        self.cache.invalidate_group(group);
    }

    /// Clears the cache, which applies a change to all keys.
    pub fn clear(&self) {
        self.cache.clear();
    }

    /// Returns a snapshot of the cache, the lease and the counters, for metrics. Concurrent
    /// verifications may make the counters differ by a few, because they are read one after
    /// another.
    #[must_use]
    pub fn state(&self) -> CacheState {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let (keys, found) = self.cache.counts();
        CacheState {
            keys,
            // The two counters are not read at the same moment.
            hits: found.saturating_sub(count(&self.counts.unused)),
            misses: count(&self.counts.misses),
            without_lease: count(&self.counts.without_lease),
            holds_lease: self.holds_lease(),
        }
    }

    /// Returns the verdict, from the cache or from the server that granted the lease. Charges the
    /// request to the rate limits of the key.
    ///
    /// # Errors
    ///
    /// [`NoVerdict`] if there is no lease, or if another server answered. Wait, then ask again.
    pub async fn ask(&self, presented: &Presented<'_>) -> Result<Verdict, NoVerdict> {
        let hash = presented.key.hash();
        loop {
            let changes = self.cache.changes();
            let verdict = at_address(presented, self.find(presented, &hash).await?);
            if charged_limits(presented, &verdict).is_none() {
                return Ok(verdict);
            }
            // `find` has checked the lease and the expiry, so only later changes matter.
            let is_current =
                |_: &Verdict, now| self.lease.holds(now) && self.cache.changes() == changes;
            match self.charge(presented, verdict, is_current) {
                Charged::Decided(verdict) => return Ok(verdict),
                Charged::Refused { refusal, .. } => return Ok(Err(refusal)),
                Charged::VerifyAgain => let_others_run().await,
                Charged::Waits { principal, limits, cost } => {
                    match limits.wait(presented.scopes, cost).await {
                        Waited::TryAgain => let_others_run().await,
                        Waited::Refused(limited) => {
                            return Ok(Err(Denied::rate_limited(principal, limited)));
                        }
                        Waited::LookUpAgain => self.cache.invalidate(hash.tag()),
                        Waited::Unavailable => return Ok(Err(Denial::Unavailable.into())),
                    }
                }
            }
        }
    }

    /// Charges an accepted request to the rate limits of its key. `is_current` returns whether the
    /// verdict is current at a time since boot.
    ///
    /// The calls are taken first. Then this method reads the clock, and checks that the verdict is
    /// current and that the windows still run. So a call that was taken under older settings, or
    /// whose window is over, is not spent, however long this thread was suspended.
    fn charge(
        &self,
        presented: &Presented<'_>,
        verdict: Verdict,
        is_current: impl Fn(&Verdict, Duration) -> bool,
    ) -> Charged {
        let Some((principal, limits, cost)) = charged_limits(presented, &verdict) else {
            let is_current = is_current(&verdict, (self.since_boot)());
            return if is_current { Charged::Decided(verdict) } else { Charged::VerifyAgain };
        };
        let taken = match limits.take(presented.scopes, cost) {
            Taking::Taken(taken) => taken,
            Taking::Refused(limited) => {
                let refusal = Denied::rate_limited(principal.clone(), limited);
                return Charged::Refused { verdict, refusal };
            }
            Taking::Wait => {
                let (principal, limits) = (principal.clone(), limits.clone());
                return Charged::Waits { principal, limits, cost };
            }
        };
        let now = (self.since_boot)();
        let is_current = is_current(&verdict, now);
        if is_current && limits.may_spend(&taken, now) {
            return Charged::Decided(verdict);
        }
        limits.put_back(&taken, cost);
        if is_current {
            // A window is over, so the request needs a share of the next one.
            let (principal, limits) = (principal.clone(), limits.clone());
            return Charged::Waits { principal, limits, cost };
        }
        Charged::VerifyAgain
    }

    async fn find(&self, presented: &Presented<'_>, hash: &KeyHash) -> Result<Verdict, NoVerdict> {
        let ticket = match self.look_up(hash) {
            Ok(verdict) => return Ok(verdict),
            Err(ticket) => ticket,
        };
        // The server is read after the ticket was taken. A new session clears the cache before it
        // grants a lease, so the ticket excludes a row from the server of an earlier session.
        let Some(server) = self.lease_server() else {
            self.counts.without_lease.fetch_add(1, Ordering::Relaxed);
            return Err(NoVerdict::NoLease);
        };
        self.counts.misses.fetch_add(1, Ordering::Relaxed);
        let verdict = self.lookup.look_up(presented, server).await;
        let verdict = verdict.ok_or(NoVerdict::OtherServer)?;
        self.cache.insert(hash, ticket, &verdict);
        Ok(verdict)
    }

    fn look_up(&self, hash: &KeyHash) -> Result<Verdict, Ticket> {
        // The lease is checked before the cache is read. See `Lease::holds`.
        let now = (self.since_boot)();
        if !self.lease.holds(now) {
            return Err(self.cache.ticket(hash));
        }
        match self.cache.look_up(hash) {
            Found::Hit(verdict) if self.still_holds(&verdict, now) => Ok(verdict),
            Found::Hit(_) => {
                self.counts.unused.fetch_add(1, Ordering::Relaxed);
                Err(self.cache.ticket(hash))
            }
            Found::Miss(ticket) => Err(ticket),
        }
    }

    /// Whether the verdict is still valid at this time. If the key may have expired, the database
    /// decides. The cache keeps the database's answer, which is final.
    fn still_holds(&self, verdict: &Verdict, now: Duration) -> bool {
        let principal = match verdict {
            Ok(principal) => Some(principal),
            // A revoked or expired key stays refused.
            Err(Denied { reason: Denial::Revoked | Denial::Expired, .. }) => None,
            Err(denied) => denied.principal.as_ref(),
        };
        let expires_at = principal.and_then(|principal| principal.expires_at);
        expires_at.is_none_or(|end| !self.lease.may_have_come(end, now))
    }
}

/// Returns the verdict on the key at the client's address.
fn at_address(presented: &Presented<'_>, verdict: Verdict) -> Verdict {
    match verdict {
        Ok(principal) if !presented.is_from_allowed_address(&principal) => {
            Err(Denied::of(principal, Denial::IpNotAllowed))
        }
        verdict => verdict,
    }
}

/// Returns the principal, the rate limits and the cost of a request that is charged.
fn charged_limits<'a>(
    presented: &Presented<'_>,
    verdict: &'a Verdict,
) -> Option<(&'a Principal, &'a Limits, Cost)> {
    let (Ok(principal), Some(cost)) = (verdict, presented.cost) else { return None };
    let limits = principal.limits.as_ref()?;
    // The gate refuses all other requests after the verifier has returned, so they are not charged.
    let is_accepted =
        presented.is_served(principal) && presented.lacking_scope(principal).is_none();
    is_accepted.then_some((principal, limits, cost))
}

/// Returns to the runtime once, so that a request that is decided anew does not block its thread.
async fn let_others_run() {
    let mut has_run = false;
    poll_fn(|context| {
        if std::mem::replace(&mut has_run, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

impl<L: KeyLookup> KeyVerifier for LeasedVerifier<L> {
    /// Does not wait for a lease. Without one, the key is [`Denial::Unavailable`].
    async fn verify(&self, presented: &Presented<'_>) -> Verdict {
        let asked = self.ask(presented).await;
        asked.unwrap_or_else(|_| Err(Denial::Unavailable.into()))
    }

    fn verify_at_once(&self, presented: &Presented<'_>) -> Option<Verdict> {
        let changes = self.cache.changes();
        let Found::Hit(verdict) = self.cache.look_up(&presented.key.hash()) else { return None };
        let verdict = at_address(presented, verdict);
        // The lease is checked after the cache was read, and before the number of changes. See
        // `Lease::holds`.
        let is_current = |verdict: &Verdict, now| {
            self.lease.holds(now)
                && self.cache.changes() == changes
                && self.still_holds(verdict, now)
        };
        match self.charge(presented, verdict, is_current) {
            Charged::Decided(verdict) => Some(verdict),
            Charged::Refused { verdict, refusal } if is_current(&verdict, (self.since_boot)()) => {
                Some(Err(refusal))
            }
            Charged::Refused { .. } | Charged::VerifyAgain | Charged::Waits { .. } => {
                self.counts.unused.fetch_add(1, Ordering::Relaxed);
                None
            }
        }
    }
}
