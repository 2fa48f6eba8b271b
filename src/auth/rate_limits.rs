use std::{fmt, future::Future, pin::Pin, time::Duration};

use smallvec::SmallVec;

use super::rate_limit_fields::{RateLimitFields, fields_of_states};
use crate::domain::{
    rate_limit::{Cost, LimitState},
    scope::Scope,
};

/// The rate limits of a key, its account and its tenant, for a
/// [`LeasedVerifier`](super::LeasedVerifier).
///
/// A [`KeyLookup`](super::KeyLookup) attaches them to the principal of a key
/// ([`PrincipalParts::limited`](super::PrincipalParts::limited)). The verifier charges each request
/// to them.
pub trait KeyLimits: fmt::Debug + Send + Sync {
    /// Takes `cost` calls from every limit that counts a request with these scopes, without
    /// waiting. Takes from all of them or from none.
    fn take(&self, scopes: &[Scope], cost: Cost) -> Taking;

    /// Whether taken calls may be spent at `now`, a time since boot that was read after they were
    /// taken.
    fn may_spend(&self, taken: &Taken, now: Duration) -> bool;

    /// Puts back calls that were taken and not spent.
    fn put_back(&self, taken: &Taken, cost: Cost);

    /// Waits until the next attempt to take calls may have another result.
    fn wait<'a>(
        &'a self,
        scopes: &'a [Scope],
        cost: Cost,
    ) -> Pin<Box<dyn Future<Output = Waited> + Send + 'a>>;

    /// Returns the state of each limit that counts a request with these scopes, except the tenant's
    /// limits.
    fn states(&self, scopes: &[Scope]) -> Vec<LimitState>;

    /// Returns the fields `RateLimit-Policy` and `RateLimit` of a response to a request with these
    /// scopes. `None` if no limit is shown.
    fn fields(&self, scopes: &[Scope]) -> Option<RateLimitFields> {
        fields_of_states(&self.states(scopes))
    }
}

/// The result of [`KeyLimits::take`].
#[derive(Debug)]
#[non_exhaustive]
pub enum Taking {
    /// The calls were taken.
    Taken(Taken),
    /// A limit refuses the request.
    Refused(RateLimited),
    /// A limit has too few calls on this node. Call [`KeyLimits::wait`].
    Wait,
}

/// The result of [`KeyLimits::wait`].
#[derive(Debug)]
#[non_exhaustive]
pub enum Waited {
    /// Calls may have become available.
    TryAgain,
    /// A limit refuses the request.
    Refused(RateLimited),
    /// The limits have changed since the key was looked up. Look it up again.
    LookUpAgain,
    /// The database gave no answer.
    Unavailable,
}

/// Calls that were taken from shares. [`KeyLimits::take`] chooses the meaning of the numbers.
pub type Taken = SmallVec<[u64; 4]>;

/// Why a request is over a rate limit.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct RateLimited {
    /// The names of the limits that refuse the request. The limit that resets last comes first,
    /// but limits that are smaller than the cost precede all others.
    pub limits: Vec<String>,
    /// Seconds until all of these limits have reset. `None` if the request costs more than a limit
    /// allows in a window, so that waiting does not help.
    pub retry_after: Option<u32>,
    /// The state of each limit that counts the request, except the tenant's limits.
    pub states: Vec<LimitState>,
}

impl RateLimited {
    /// Creates the reason from the names of the limits that refuse the request.
    #[must_use]
    pub fn new(limits: Vec<String>, retry_after: Option<u32>, states: Vec<LimitState>) -> Self {
        Self { limits, retry_after, states }
    }
}
