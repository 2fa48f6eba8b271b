//! What is said of a key that is presented.

use super::{account::AccountStatus, lifecycle::KeyStatus, timestamp::Timestamp};

/// Why a key does not pass.
///
/// A client is not told the first five apart; the operator is, by [`Denial::reason`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
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
