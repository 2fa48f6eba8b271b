use std::{future::Future, sync::Arc};

use super::{
    Challenge, Presented, Principal, Problem, ProblemCode, RateLimited,
    rate_limit_fields::fields_of_states, rate_limit_refusal::rate_limited,
};
use crate::domain::verification::{Denial, GateDecision};

/// The only port of the gate. It verifies a key and returns its principal.
///
/// The gate presents only well-formed keys. An implementation accepts or refuses a key, depending
/// on the key and its account. It returns the key's tenant and scopes in the principal, and the
/// gate compares them with the tenant and the scope that the route requires.
///
/// The verdict may also depend on the tenant, the scopes, the cost or the client's address in
/// [`Presented`].
///
/// [The module](super) contains an example with its own implementation.
pub trait KeyVerifier: Send + Sync + 'static {
    /// Returns the principal of the key, or the reason why the key is refused.
    ///
    /// # Errors
    ///
    /// [`Denied`] if the key is refused, and also if no verdict is available. In the second case
    /// the reason is [`Denial::Unavailable`].
    fn verify(&self, presented: &Presented<'_>) -> impl Future<Output = Verdict> + Send;

    /// Returns the verdict if it is available without waiting. `None` means that the caller has to
    /// call [`Self::verify`].
    fn verify_at_once(&self, _presented: &Presented<'_>) -> Option<Verdict> {
        None
    }
}

/// The result of a verification.
pub type Verdict = Result<Principal, Denied>;

/// The reason why a key is refused, and the principal if the key is known.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Denied {
    /// Why the key is refused, or [`Denial::Unavailable`] if no verdict is available.
    pub reason: Denial,
    /// The owner of the key, if the key is known. The log and the usage counts use it. No response
    /// contains it.
    pub principal: Option<Principal>,
    /// The limits that refuse the request, if the reason is [`Denial::RateLimited`].
    pub rate_limited: Option<Box<RateLimited>>,
}

impl Denied {
    /// Creates a denial of an unknown key.
    #[must_use]
    pub fn new(reason: Denial) -> Self {
        Self { reason, principal: None, rate_limited: None }
    }

    /// Creates a denial of a known key.
    #[must_use]
    pub fn of(principal: Principal, reason: Denial) -> Self {
        Self { reason, principal: Some(principal), rate_limited: None }
    }

    /// Creates a denial of a request that is over a rate limit.
    #[must_use]
    pub fn rate_limited(principal: Principal, limited: RateLimited) -> Self {
        let rate_limited = Some(Box::new(limited));
        Self { reason: Denial::RateLimited, principal: Some(principal), rate_limited }
    }
}

impl<V: KeyVerifier> KeyVerifier for Arc<V> {
    fn verify(&self, presented: &Presented<'_>) -> impl Future<Output = Verdict> + Send {
        V::verify(self, presented)
    }

    fn verify_at_once(&self, presented: &Presented<'_>) -> Option<Verdict> {
        V::verify_at_once(self, presented)
    }
}

impl From<Denial> for Denied {
    fn from(reason: Denial) -> Self {
        Self::new(reason)
    }
}

impl From<Denied> for Problem {
    /// Returns the response to the client. A refusal by a rate limit names the limit.
    fn from(denied: Denied) -> Self {
        match denied.rate_limited {
            Some(limited) => {
                let problem = rate_limited(&limited);
                fields_of_states(&limited.states).into_iter().flatten().fold(problem, Self::header)
            }
            None => denied.reason.into(),
        }
    }
}

impl From<Denial> for Problem {
    /// Returns the response to the client: 401, 403 or 503.
    fn from(denial: Denial) -> Self {
        let problem = match denial {
            Denial::Malformed
            | Denial::NotFound
            | Denial::Revoked
            | Denial::Expired
            | Denial::Disabled
            | Denial::IpNotAllowed => Self::unauthorized(
                ProblemCode::InvalidApiKey,
                "The API key is unknown, revoked, disabled or expired, or it may not be used from \
                 this address. Check that you copied all of it.",
                Challenge::InvalidToken,
            ),
            Denial::TenantSuspended => Self::new(
                ProblemCode::TenantSuspended,
                "The API key is live, but its platform is suspended. Contact the issuer of the key.",
            ),
            Denial::AccountSuspended => Self::new(
                ProblemCode::AccountSuspended,
                "The API key is live, but its account is suspended. Contact the issuer of the key.",
            ),
            Denial::RateLimited => rate_limited(&RateLimited::new(Vec::new(), None, Vec::new())),
            Denial::Unavailable => Self::unavailable(
                "The API key could not be verified, and nothing was done. Send the request again.",
            ),
        };
        problem.decided(GateDecision::Denied(denial))
    }
}
