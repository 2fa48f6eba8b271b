//! What is said of a key that is presented.

use super::{account::AccountStatus, lifecycle::KeyStatus, timestamp::Timestamp, usage::Outcome};

/// Why a key does not pass.
///
/// A client is not told the first five apart; the operator is, by [`Denial::reason`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Denial {
    /// No key has such a text.
    Malformed,
    /// Well formed, but never given out.
    NotFound,
    Revoked,
    Expired,
    Disabled,
    /// The key is live, its account is not.
    AccountSuspended,
    /// It could not be found out: neither a refusal nor a pass.
    Unavailable,
}

impl Denial {
    /// Each of them, in their order.
    pub const ALL: [Self; 7] = [
        Self::Malformed,
        Self::NotFound,
        Self::Revoked,
        Self::Expired,
        Self::Disabled,
        Self::AccountSuspended,
        Self::Unavailable,
    ];

    /// The denial in one word, for logs and metrics.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::NotFound => "not_found",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
            Self::Disabled => "disabled",
            Self::AccountSuspended => "account_suspended",
            Self::Unavailable => "unavailable",
        }
    }
}

/// What the gate decided about a request: the one value that the log, the metrics and the counts of
/// use are made of.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum GateDecision {
    /// The request presents no key.
    Missing,
    /// It presents keys that differ.
    Conflicting,
    /// Its key does not pass.
    Denied(Denial),
    /// Its key passes, but none of its scopes implies the one that is needed.
    InsufficientScope,
    /// It passed.
    Passed,
}

impl GateDecision {
    /// Why the request did not pass, in one word for the log; `None`: it passed.
    #[must_use]
    pub fn reason(self) -> Option<&'static str> {
        match self {
            Self::Missing => Some("missing"),
            Self::Conflicting => Some("conflicting"),
            Self::Denied(denial) => Some(denial.reason()),
            Self::InsufficientScope => Some("insufficient_scope"),
            Self::Passed => None,
        }
    }

    /// As what it is counted in the use of the key; `None`: no key is known.
    #[must_use]
    pub fn usage(self) -> Option<Outcome> {
        match self {
            Self::Passed => Some(Outcome::Valid),
            Self::InsufficientScope => Some(Outcome::InsufficientScope),
            Self::Denied(Denial::Revoked) => Some(Outcome::Revoked),
            Self::Denied(Denial::Expired) => Some(Outcome::Expired),
            Self::Denied(Denial::Disabled) => Some(Outcome::Disabled),
            Self::Denied(Denial::AccountSuspended) => Some(Outcome::AccountSuspended),
            Self::Denied(Denial::Malformed | Denial::NotFound | Denial::Unavailable)
            | Self::Missing
            | Self::Conflicting => None,
        }
    }
}

/// All of a key and its account that decides whether it passes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyState {
    pub revoked_at: Option<Timestamp>,
    pub expires_at: Option<Timestamp>,
    pub enabled: bool,
    pub account: AccountStatus,
}

impl KeyState {
    /// Whether the key passes at `now`, by the database's clock. A dead key is dead before its
    /// account is looked at: a 403 is only for who holds a live one.
    pub fn judge(&self, now: Timestamp) -> Result<(), Denial> {
        match KeyStatus::at(now, self.revoked_at, self.expires_at) {
            KeyStatus::Revoked => Err(Denial::Revoked),
            KeyStatus::Expired => Err(Denial::Expired),
            KeyStatus::Live if !self.enabled => Err(Denial::Disabled),
            KeyStatus::Live if self.account == AccountStatus::Suspended => {
                Err(Denial::AccountSuspended)
            }
            KeyStatus::Live => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_of_a_known_key_is_counted_by_its_reason_and_others_not_at_all() {
        for denial in Denial::ALL {
            let decision = GateDecision::Denied(denial);
            assert_eq!(decision.reason(), Some(denial.reason()));
            if let Some(outcome) = decision.usage() {
                assert_eq!(outcome.as_str(), denial.reason());
            }
        }
        let counted =
            Denial::ALL.into_iter().filter_map(|denial| GateDecision::Denied(denial).usage());
        assert_eq!(counted.count(), Outcome::ALL.len() - 2, "all but those of a key that is live");
        assert_eq!(GateDecision::Passed.usage(), Some(Outcome::Valid));
        assert_eq!(GateDecision::Passed.reason(), None);
        assert_eq!(GateDecision::Missing.usage(), None);
    }

    #[test]
    fn the_first_reason_counts() {
        let at = |second: i64| Timestamp::from_unix_micros(second * 1_000_000).expect("in range");
        let mut state = KeyState {
            revoked_at: Some(at(5)),
            expires_at: Some(at(10)),
            enabled: false,
            account: AccountStatus::Suspended,
        };
        assert_eq!(state.judge(at(20)), Err(Denial::Revoked));
        state.revoked_at = None;
        assert_eq!(state.judge(at(10)), Err(Denial::Expired));
        assert_eq!(state.judge(at(9)), Err(Denial::Disabled));
        state.enabled = true;
        assert_eq!(state.judge(at(9)), Err(Denial::AccountSuspended));
        state.account = AccountStatus::Active;
        assert_eq!(state.judge(at(9)), Ok(()));
    }
}
