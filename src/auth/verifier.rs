use std::{future::Future, sync::Arc};

use super::{Challenge, Presented, Principal, Problem, ProblemCode};
use crate::domain::verification::{Denial, GateDecision};

/// The one port of the gate: who is it that presents this key?
///
/// The key is well formed when it comes here. An implementation answers for the key and its
/// account. The principal has the key's tenant and scopes, for the gate to compare.
///
/// An implementation may also decide by the tenant, the scope or the client's address in
/// [`Presented`].
///
/// [The module](super) has a program with an implementation of its own.
pub trait KeyVerifier: Send + Sync + 'static {
    /// Says who presents the key, or why it does not pass.
    ///
    /// # Errors
    ///
    /// [`Denied`]: with [`Denial::Unavailable`] when no verdict could be had, which is neither a
    /// refusal nor a pass.
    fn verify(&self, presented: &Presented<'_>) -> impl Future<Output = Verdict> + Send;

    /// The same where the answer is known without waiting for anything; `None`: [`Self::verify`]
    /// has to be asked.
    fn verify_at_once(&self, _presented: &Presented<'_>) -> Option<Verdict> {
        None
    }
}

/// What is said of a key.
pub type Verdict = Result<Principal, Denied>;

/// A key does not pass.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Denied {
    /// Why.
    pub reason: Denial,
    /// Who would have passed, where a key of this text is known: for the log and the counts, never
    /// for the client.
    pub principal: Option<Principal>,
}

impl Denied {
    /// A denial of a key of which nothing is known but the reason.
    #[must_use]
    pub fn new(reason: Denial) -> Self {
        Self { reason, principal: None }
    }

    /// A denial of a known key.
    #[must_use]
    pub fn of(principal: Principal, reason: Denial) -> Self {
        Self { reason, principal: Some(principal) }
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

impl From<Denial> for Problem {
    /// The response to the client: 401, 403 or 503.
    fn from(denial: Denial) -> Self {
        let problem = match denial {
            Denial::Malformed
            | Denial::NotFound
            | Denial::Revoked
            | Denial::Expired
            | Denial::Disabled => Self::unauthorized(
                ProblemCode::InvalidApiKey,
                "The API key is unknown, revoked, disabled or expired. Check that you copied all \
                 of it.",
                Challenge::InvalidToken,
            ),
            Denial::AccountSuspended => Self::new(
                ProblemCode::AccountSuspended,
                "The API key is live, but its account is suspended. Contact the issuer of the key.",
            ),
            Denial::Unavailable => Self::unavailable(
                "The API key could not be verified, and nothing was done. Send the request again.",
            ),
        };
        problem.decided(GateDecision::Denied(denial))
    }
}
