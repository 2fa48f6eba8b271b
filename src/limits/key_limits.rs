use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use smallvec::SmallVec;
use tokio::time::{sleep, timeout};

use super::{
    cell::{Slot, Take},
    share::{Next, Share},
};
use crate::{
    auth::{
        KeyLimits, RateLimitFields, RateLimited, ShownLimit, Taken, Taking, Waited,
        rate_limit_fields,
    },
    domain::{
        rate_limit::{Cost, LimitLevel, LimitState, RateLimit},
        scope::Scope,
    },
    store::LimitSet,
};

/// How long a request waits for an answer from the database.
const MAX_WAIT: Duration = Duration::from_secs(3);

/// Pause before the key is looked up again, because its limits have changed.
const READ_AGAIN_AFTER: Duration = Duration::from_millis(10);

/// The rate limits of one key, and this node's shares of them.
pub struct Limits {
    source: Arc<dyn ShareSource>,
    set: LimitSet,
    /// The share of each limit of the set.
    shares: SmallVec<[CurrentShare; 3]>,
}

/// A share, and the generation of the settings that its limit has.
#[derive(Clone)]
pub struct CurrentShare {
    pub generation: i64,
    pub share: Arc<Share>,
}

/// Requests shares for the requests that need them. [`Limiter`](super::Limiter) requests them from
/// the database.
pub trait ShareSource: Send + Sync {
    /// Returns this machine's time since boot.
    fn now(&self) -> Duration;

    /// Requests calls of a limit, for a waiting request with this cost, or in advance. Returns the
    /// number of answers so far.
    fn request(&self, limit: Limit<'_>, cost: Option<u32>) -> u64;

    /// Waits until the other nodes have returned the calls of this limit that they have not spent.
    fn recall_from_others<'a>(
        &'a self,
        share: &'a Arc<Share>,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;
}

/// One rate limit of a key, its account or its tenant.
#[derive(Clone, Copy)]
pub struct Limit<'a> {
    pub level: LimitLevel,
    pub limit: &'a RateLimit,
    pub generation: i64,
    pub share: &'a Arc<Share>,
}

impl Limits {
    /// Combines the limits of a key with this node's share of each of them.
    #[must_use]
    pub fn new(
        source: Arc<dyn ShareSource>,
        set: LimitSet,
        shares: impl IntoIterator<Item = CurrentShare>,
    ) -> Self {
        let shares: SmallVec<_> = shares.into_iter().collect();
        debug_assert_eq!(set.len(), shares.len(), "each limit has a share");
        Self { source, set, shares }
    }

    fn limits(&self) -> impl Iterator<Item = Limit<'_>> {
        self.set.iter().zip(&self.shares).map(
            |((level, limit), CurrentShare { generation, share })| Limit {
                level: *level,
                limit,
                generation: *generation,
                share,
            },
        )
    }

    /// Returns the limits that count a request with these scopes.
    fn counting(&self, scopes: &[Scope]) -> impl Iterator<Item = Limit<'_>> {
        self.limits().filter(|limit| limit.limit.counts(scopes))
    }

    /// Returns the state of each limit, whether or not it counts a request, except the tenant's
    /// limits.
    pub fn all_states(&self) -> Vec<LimitState> {
        let now = self.source.now();
        self.limits().filter_map(|limit| limit.state(now)).collect()
    }

    /// Builds the reason for a refusal. The limits that refuse the request are `by`, limits that
    /// are smaller than the cost, and limits whose windows are known to lack calls.
    fn refused(&self, scopes: &[Scope], cost: u32, by: Option<Limit<'_>>) -> RateLimited {
        let now = self.source.now();
        let is_too_small = |limit: &Limit<'_>| limit.limit.calls.get() < cost;
        let mut refusing: Vec<(bool, u32, String)> = self
            .counting(scopes)
            .filter(|limit| {
                is_too_small(limit)
                    || by.is_some_and(|by| Arc::ptr_eq(by.share, limit.share))
                    || limit.share.cell.is_exhausted(limit.generation, cost, now)
            })
            .map(|limit| (is_too_small(&limit), limit.share.cell.resets_in(now), limit.label()))
            .collect();
        // A limit that is smaller than the cost comes first, because waiting does not help.
        refusing.sort_by(|one, other| other.cmp(one));
        let latest = match refusing.first() {
            Some((true, ..)) => None,
            // A window that is about to end has zero seconds left.
            first => Some(first.map_or(1, |(_, resets_in, _)| (*resets_in).max(1))),
        };
        let limits = refusing.into_iter().map(|(.., label)| label).collect();
        RateLimited::new(limits, latest, self.states(scopes))
    }

    async fn wait_for_calls(&self, scopes: &[Scope], cost: u32) -> Waited {
        let now = self.source.now();
        if self.counting(scopes).any(|limit| limit.limit.calls.get() < cost) {
            return Waited::Refused(self.refused(scopes, cost, None));
        }
        let lacks = |limit: &Limit<'_>| limit.share.lacks(limit.generation, cost, now);
        let Some(limit) = self.counting(scopes).find(lacks) else { return Waited::TryAgain };
        if limit.share.cell.is_exhausted(limit.generation, cost, now) {
            return Waited::Refused(self.refused(scopes, cost, Some(limit)));
        }
        let seen = self.source.request(limit, Some(cost));
        if timeout(MAX_WAIT, limit.share.answer_after(seen)).await.is_err() {
            return Waited::Unavailable;
        }
        match limit.share.next(limit.generation, cost, self.source.now()) {
            Next::TryAgain => Waited::TryAgain,
            Next::Refuse => Waited::Refused(self.refused(scopes, cost, Some(limit))),
            Next::ReadAgain => {
                // The node may look up the key before it can read the new settings.
                sleep(READ_AGAIN_AFTER).await;
                Waited::LookUpAgain
            }
            Next::Unavailable => Waited::Unavailable,
            Next::Recall => {
                self.source.recall_from_others(limit.share).await;
                Waited::TryAgain
            }
        }
    }
}

impl KeyLimits for Limits {
    fn take(&self, scopes: &[Scope], cost: Cost) -> Taking {
        let cost = cost.get();
        // The later limits are compared before a call is taken from the first one. A call that is
        // taken and put back would be missing for a moment, in other requests and in reports to the
        // database.
        let mut later = self.counting(scopes).skip(1);
        if let Some(limit) = later.find(|limit| !limit.share.cell.has(cost)) {
            return self.lacks_calls(scopes, cost, limit);
        }
        let mut taken = Taken::new();
        for limit in self.limits() {
            if !limit.limit.counts(scopes) {
                taken.push(NOT_COUNTED);
                continue;
            }
            match limit.share.cell.take(limit.generation, cost) {
                Take::Taken { slot, is_low } => {
                    taken.push(slot.number());
                    if is_low {
                        self.source.request(limit, None);
                    }
                }
                Take::TooFew => {
                    self.put_back_from(&taken, cost);
                    return self.lacks_calls(scopes, cost, limit);
                }
            }
        }
        Taking::Taken(taken)
    }

    fn may_spend(&self, taken: &Taken, now: Duration) -> bool {
        taken.iter().zip(&self.shares).all(|(&number, CurrentShare { share, .. })| {
            number == NOT_COUNTED || share.cell.may_spend(Slot::from_number(number), now)
        })
    }

    fn put_back(&self, taken: &Taken, cost: Cost) {
        self.put_back_from(taken, cost.get());
    }

    fn wait<'a>(
        &'a self,
        scopes: &'a [Scope],
        cost: Cost,
    ) -> Pin<Box<dyn Future<Output = Waited> + Send + 'a>> {
        Box::pin(self.wait_for_calls(scopes, cost.get()))
    }

    fn states(&self, scopes: &[Scope]) -> Vec<LimitState> {
        let now = self.source.now();
        self.counting(scopes).filter_map(|limit| limit.state(now)).collect()
    }

    fn fields(&self, scopes: &[Scope]) -> Option<RateLimitFields> {
        let now = self.source.now();
        rate_limit_fields(self.counting(scopes).filter_map(|limit| limit.shown(now)))
    }
}

/// The number in [`Taken`] for a limit that does not count the request. It is larger than the
/// number of any slot.
const NOT_COUNTED: u64 = u64::MAX;

impl Limits {
    /// Refuses a request if too few calls of this limit are known to be left. Otherwise the request
    /// waits.
    fn lacks_calls(&self, scopes: &[Scope], cost: u32, limit: Limit<'_>) -> Taking {
        let is_known = limit.limit.calls.get() < cost
            || limit.share.cell.is_exhausted(limit.generation, cost, self.source.now());
        if is_known {
            Taking::Refused(self.refused(scopes, cost, Some(limit)))
        } else {
            Taking::Wait
        }
    }

    fn put_back_from(&self, taken: &Taken, cost: u32) {
        for (&number, CurrentShare { share, .. }) in taken.iter().zip(&self.shares) {
            if number != NOT_COUNTED {
                share.put_back(Slot::from_number(number), cost);
            }
        }
    }
}

impl<'a> Limit<'a> {
    fn label(&self) -> String {
        LimitState::unused(self.level, self.limit).label()
    }

    /// Returns the state at `now`. `None` for a tenant's limit, because its remainder would reveal
    /// the traffic of the whole platform.
    fn state(&self, now: Duration) -> Option<LimitState> {
        let ShownLimit { remaining, resets_in, .. } = self.shown(now)?;
        let state = LimitState::unused(self.level, self.limit);
        Some(match resets_in {
            Some(resets_in) => state.running(remaining, resets_in),
            None => state,
        })
    }

    /// Returns what fields show of the state, as [`Self::state`] does.
    fn shown(&self, now: Duration) -> Option<ShownLimit<'a>> {
        let RateLimit { name, calls, window, .. } = self.limit;
        let cell = &self.share.cell;
        let (remaining, resets_in) = match cell.remaining(self.generation, now) {
            Some(remaining) => (remaining.min(calls.get()), Some(cell.resets_in(now))),
            None => (calls.get(), None),
        };
        let is_shown = self.level != LimitLevel::Tenant;
        is_shown.then_some(ShownLimit {
            level: self.level,
            name,
            calls: *calls,
            window: *window,
            remaining,
            resets_in,
        })
    }
}

impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limits = self.limits().map(|limit| format!("{}: {}", limit.label(), limit.limit));
        f.debug_list().entries(limits).finish()
    }
}
