use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use tokio::time::{sleep, timeout};

use super::{
    cell::{Slot, Take},
    share::{Next, Share},
};
use crate::{
    auth::{KeyLimits, RateLimited, Taken, Taking, Waited},
    domain::{
        rate_limit::{Cost, LimitLevel, LimitState, RateLimit},
        scope::Scope,
    },
};

/// How long a request waits for an answer from the database.
const MAX_WAIT: Duration = Duration::from_secs(3);

/// Pause before the key is looked up again, because its limits have changed.
const READ_AGAIN_AFTER: Duration = Duration::from_millis(10);

/// The rate limits of one key, and this node's shares of them.
pub struct Limits {
    source: Arc<dyn ShareSource>,
    limits: Box<[Limit]>,
}

/// Requests shares for the requests that need them. [`Limiter`](super::Limiter) requests them from
/// the database.
pub trait ShareSource: Send + Sync {
    /// Returns this machine's time since boot.
    fn now(&self) -> Duration;

    /// Requests calls of a limit, for a waiting request with this cost, or in advance. Returns the
    /// number of answers so far.
    fn request(&self, limit: &Limit, cost: Option<u32>) -> u64;

    /// Waits until the other nodes have returned the calls of this limit that they have not spent.
    fn recall_from_others<'a>(
        &'a self,
        share: &'a Arc<Share>,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;
}

/// One rate limit of a key, its account or its tenant.
pub struct Limit {
    pub level: LimitLevel,
    pub limit: RateLimit,
    pub generation: i64,
    pub share: Arc<Share>,
}

impl Limits {
    /// Combines the limits of a key.
    #[must_use]
    pub fn new(source: Arc<dyn ShareSource>, limits: Vec<Limit>) -> Self {
        Self { source, limits: limits.into() }
    }

    /// Returns the limits that count a request with these scopes.
    fn counting(&self, scopes: &[Scope]) -> impl Iterator<Item = &Limit> {
        self.limits.iter().filter(|limit| limit.limit.counts(scopes))
    }

    /// Returns the state of each limit, whether or not it counts a request, except the tenant's
    /// limits.
    pub fn all_states(&self) -> Vec<LimitState> {
        let now = self.source.now();
        self.limits.iter().filter_map(|limit| limit.state(now)).collect()
    }

    /// Builds the reason for a refusal. The limits that refuse the request are `by`, limits that
    /// are smaller than the cost, and limits whose windows are known to lack calls.
    fn refused(&self, scopes: &[Scope], cost: u32, by: Option<&Limit>) -> RateLimited {
        let now = self.source.now();
        let is_too_small = |limit: &Limit| limit.limit.calls.get() < cost;
        let mut refusing: Vec<(bool, u32, String)> = self
            .counting(scopes)
            .filter(|limit| {
                is_too_small(limit)
                    || by.is_some_and(|by| std::ptr::eq(by, *limit))
                    || limit.share.cell.is_exhausted(limit.generation, cost, now)
            })
            .map(|limit| (is_too_small(limit), limit.share.resets_in(now), limit.label()))
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
        let lacks = |limit: &&Limit| limit.share.lacks(limit.generation, cost, now);
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
                self.source.recall_from_others(&limit.share).await;
                Waited::TryAgain
            }
        }
    }
}

impl KeyLimits for Limits {
    fn take(&self, scopes: &[Scope], cost: Cost) -> Taking {
        let cost = cost.get();
        let mut taken = Taken::new();
        for limit in &self.limits {
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
                    let now = self.source.now();
                    let is_known = limit.limit.calls.get() < cost
                        || limit.share.cell.is_exhausted(limit.generation, cost, now);
                    return if is_known {
                        Taking::Refused(self.refused(scopes, cost, Some(limit)))
                    } else {
                        Taking::Wait
                    };
                }
            }
        }
        Taking::Taken(taken)
    }

    fn may_spend(&self, taken: &Taken, now: Duration) -> bool {
        taken.iter().zip(&self.limits).all(|(&number, limit)| {
            number == NOT_COUNTED || limit.share.cell.may_spend(Slot::from_number(number), now)
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
}

/// The number in [`Taken`] for a limit that does not count the request. It is larger than the
/// number of any slot.
const NOT_COUNTED: u64 = u64::MAX;

impl Limits {
    fn put_back_from(&self, taken: &Taken, cost: u32) {
        for (&number, limit) in taken.iter().zip(&self.limits) {
            if number != NOT_COUNTED {
                limit.share.put_back(Slot::from_number(number), cost);
            }
        }
    }
}

impl Limit {
    fn label(&self) -> String {
        LimitState::unused(self.level, &self.limit).label()
    }

    /// Returns the state at `now`. `None` for a tenant's limit, because its remainder would reveal
    /// the traffic of the whole platform.
    fn state(&self, now: Duration) -> Option<LimitState> {
        if self.level == LimitLevel::Tenant {
            return None;
        }
        let state = LimitState::unused(self.level, &self.limit);
        Some(match self.share.cell.remaining(self.generation, now) {
            Some(remaining) => {
                state.running(remaining.min(self.limit.calls.get()), self.share.resets_in(now))
            }
            None => state,
        })
    }
}

impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limits = self.limits.iter().map(|limit| format!("{}: {}", limit.label(), limit.limit));
        f.debug_list().entries(limits).finish()
    }
}
