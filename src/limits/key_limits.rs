use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use smallvec::SmallVec;
use tokio::time::{sleep, timeout};

use super::{
    cell::{Slot, Take},
    limit_list::{LimitList, ListedLimit},
    share::{Next, Share},
};
use crate::{
    auth::{
        KeyLimits, RateLimitFields, RateLimited, ShownLimit, Taken, Taking, Waited,
        rate_limit_fields,
    },
    domain::{
        rate_limit::{Cost, LimitState, RateLimit},
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
    list: Arc<LimitList>,
    /// The share of each limit of the list.
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
    listed: ListedLimit<'a>,
    pub generation: i64,
    pub share: &'a Arc<Share>,
}

impl Limits {
    /// Combines the limits of a key with this node's share of each of them.
    #[must_use]
    pub fn new(
        source: Arc<dyn ShareSource>,
        list: Arc<LimitList>,
        shares: impl IntoIterator<Item = CurrentShare>,
    ) -> Self {
        let shares: SmallVec<_> = shares.into_iter().collect();
        debug_assert_eq!(list.len(), shares.len(), "each limit has a share");
        Self { source, list, shares }
    }

    fn limits(&self) -> impl Iterator<Item = Limit<'_>> {
        let shares = self.list.iter().zip(&self.shares);
        shares.map(|(listed, CurrentShare { generation, share })| Limit {
            listed,
            generation: *generation,
            share,
        })
    }

    /// Returns the limits that count a request with these scopes.
    fn counting(&self, scopes: &[Scope]) -> impl Iterator<Item = Limit<'_>> {
        self.limits().filter(|limit| limit.limit().counts(scopes))
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
        let is_too_small = |limit: &Limit<'_>| limit.limit().calls.get() < cost;
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
        if self.counting(scopes).any(|limit| limit.limit().calls.get() < cost) {
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
        // All limits are compared before a call is taken from the first one. A call that is taken and
        // put back would be missing for a moment, in other requests and in reports to the database.
        // Also, the processor reads the shares from memory concurrently here, but not below.
        let mut counting = self.counting(scopes);
        if let Some(limit) = counting.find(|limit| !limit.share.cell.has(cost)) {
            return self.lacks_calls(scopes, cost, limit);
        }
        let mut taken = Taken::new();
        for limit in self.limits() {
            if !limit.limit().counts(scopes) {
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
        let shown = self.counting(scopes).filter_map(|limit| limit.shown(now));
        rate_limit_fields(self.list.policy(), shown)
    }
}

/// The number in [`Taken`] for a limit that does not count the request. It is larger than the
/// number of any slot.
const NOT_COUNTED: u64 = u64::MAX;

impl Limits {
    /// Refuses a request if too few calls of this limit are known to be left. Otherwise the request
    /// waits.
    fn lacks_calls(&self, scopes: &[Scope], cost: u32, limit: Limit<'_>) -> Taking {
        let is_known = limit.limit().calls.get() < cost
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
    /// Returns the settings.
    #[must_use]
    pub fn limit(&self) -> &'a RateLimit {
        self.listed.limit
    }

    fn label(&self) -> String {
        self.unused().label()
    }

    fn unused(&self) -> LimitState {
        LimitState::unused(self.listed.level, self.listed.limit)
    }

    /// Returns the state at `now`, if responses show it.
    fn state(&self, now: Duration) -> Option<LimitState> {
        let ShownLimit { remaining, resets_in, .. } = self.shown(now)?;
        Some(match resets_in {
            Some(resets_in) => self.unused().running(remaining, resets_in),
            None => self.unused(),
        })
    }

    /// Returns what fields show of the state, if responses show it.
    fn shown(&self, now: Duration) -> Option<ShownLimit<'a>> {
        let shown = self.listed.shown()?;
        let cell = &self.share.cell;
        Some(match cell.remaining(self.generation, now) {
            Some(remaining) => ShownLimit {
                remaining: remaining.min(shown.calls.get()),
                resets_in: Some(cell.resets_in(now)),
                ..shown
            },
            None => shown,
        })
    }
}

impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limits = self.limits().map(|limit| format!("{}: {}", limit.label(), limit.limit()));
        f.debug_list().entries(limits).finish()
    }
}
