use std::{future::Future, sync::Arc};

use super::{Challenge, Principal, Problem};
use crate::domain::{api_key::KeyText, verification::Denial};

/// The one port of the gate: who is it that holds this key?
///
/// The key is well formed when it comes here. An implementation answers for the key and its
/// account; what the key may do is in the principal's scopes, for the gate to compare.
pub trait KeyVerifier: Send + Sync + 'static {
    fn verify(&self, key: &KeyText) -> impl Future<Output = Verdict> + Send;

    /// The same where the answer is known without waiting for anything; `None`: [`Self::verify`]
    /// has to be asked.
    fn verify_at_once(&self, _key: &KeyText) -> Option<Verdict> {
        None
    }
}

/// What is said of a key.
pub type Verdict = Result<Principal, Denied>;

/// A key does not pass.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Denied {
    pub reason: Denial,
    /// Who would have passed, where a key of this text is known: for the log and the counts, never
    /// for the client.
    pub principal: Option<Principal>,
}

impl<V: KeyVerifier> KeyVerifier for Arc<V> {
    fn verify(&self, key: &KeyText) -> impl Future<Output = Verdict> + Send {
        V::verify(self, key)
    }

    fn verify_at_once(&self, key: &KeyText) -> Option<Verdict> {
        V::verify_at_once(self, key)
    }
}

impl From<Denial> for Denied {
    fn from(reason: Denial) -> Self {
        Self { reason, principal: None }
    }
}

impl From<Denial> for Problem {
    /// What the client is told: 401, 403 or 503.
    fn from(denial: Denial) -> Self {
        let problem = match denial {
            Denial::Malformed
            | Denial::NotFound
            | Denial::Revoked
            | Denial::Expired
            | Denial::Disabled => Self::unauthorized(
                "invalid_api_key",
                "The API key is not valid",
                "No API key that passes has this text. It may not have been copied whole; or the \
                 key was revoked or disabled, or has expired.",
                Challenge::InvalidToken,
            ),
            Denial::AccountSuspended => Self::new(
                403,
                "account_suspended",
                "The account is suspended",
                "The API key is live, but its account is suspended.",
            ),
            Denial::Unavailable => Self::unavailable(
                "The API key could not be looked up. Nothing was done; send the request again.",
            ),
        };
        problem.because(denial.reason())
    }
}
