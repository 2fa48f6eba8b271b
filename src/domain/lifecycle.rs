//! The life of an API key: live, then revoked or expired, and never live again.

use std::str::FromStr;

use super::timestamp::Timestamp;

/// Seconds that a key may live at the most: ten years.
pub const MAX_LIFETIME_SECONDS: i64 = 3653 * 86_400;

/// Seconds that a rotated key may live on at the most: a week.
pub const MAX_GRACE_SECONDS: i64 = 604_800;

/// Whether a key can still pass the gate. A disabled key is live: it can be enabled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyStatus {
    Live,
    Revoked,
    Expired,
}

impl KeyStatus {
    /// The status at `now`. At exactly `expires_at` the key is dead; one that was revoked stays
    /// revoked when its expiry passes.
    #[must_use]
    pub fn at(
        now: Timestamp,
        revoked_at: Option<Timestamp>,
        expires_at: Option<Timestamp>,
    ) -> Self {
        if revoked_at.is_some() {
            Self::Revoked
        } else if expires_at.is_some_and(|end| end <= now) {
            Self::Expired
        } else {
            Self::Live
        }
    }

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
        }
    }
}

impl FromStr for KeyStatus {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "live" => Ok(Self::Live),
            "revoked" => Ok(Self::Revoked),
            "expired" => Ok(Self::Expired),
            _ => Err("the status of a key is live, revoked or expired"),
        }
    }
}

/// When a key is to die: after now, at most ten years ahead.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Expiry(Timestamp);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ExpiryError {
    #[error("the expiry lies in the past")]
    Past,
    #[error("the expiry lies over 10 years ahead")]
    TooFar,
}

impl Expiry {
    pub fn at(moment: Timestamp, now: Timestamp) -> Result<Self, ExpiryError> {
        let latest = now.plus_seconds(MAX_LIFETIME_SECONDS);
        if moment <= now {
            Err(ExpiryError::Past)
        } else if latest.is_some_and(|latest| moment > latest) {
            Err(ExpiryError::TooFar)
        } else {
            Ok(Self(moment))
        }
    }

    pub fn after_seconds(seconds: i64, now: Timestamp) -> Result<Self, ExpiryError> {
        let moment = now.plus_seconds(seconds).ok_or(ExpiryError::TooFar)?;
        Self::at(moment, now)
    }

    #[must_use]
    pub fn timestamp(self) -> Timestamp {
        self.0
    }
}

/// When a key that is rotated out at `now` dies: the grace never makes its life longer.
#[must_use]
pub fn end_of_grace(
    now: Timestamp,
    grace_seconds: i64,
    expires_at: Option<Timestamp>,
) -> Timestamp {
    let end = now.plus_seconds(grace_seconds).unwrap_or(now);
    expires_at.map_or(end, |expires_at| expires_at.min(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_unix_micros(second * 1_000_000).expect("in range")
    }

    #[test]
    fn a_key_is_dead_at_exactly_its_expiry() {
        assert_eq!(KeyStatus::at(at(9), None, Some(at(10))), KeyStatus::Live);
        assert_eq!(KeyStatus::at(at(10), None, Some(at(10))), KeyStatus::Expired);
        assert_eq!(KeyStatus::at(at(11), None, Some(at(10))), KeyStatus::Expired);
        assert_eq!(KeyStatus::at(at(11), Some(at(5)), Some(at(10))), KeyStatus::Revoked);
        assert_eq!(KeyStatus::at(at(11), None, None), KeyStatus::Live);
    }

    #[test]
    fn an_expiry_lies_ahead_but_not_over_ten_years() {
        assert_eq!(Expiry::at(at(10), at(10)), Err(ExpiryError::Past));
        assert!(Expiry::at(at(11), at(10)).is_ok());
        assert!(Expiry::after_seconds(MAX_LIFETIME_SECONDS, at(10)).is_ok());
        assert_eq!(
            Expiry::after_seconds(MAX_LIFETIME_SECONDS + 1, at(10)),
            Err(ExpiryError::TooFar)
        );
        assert_eq!(Expiry::after_seconds(i64::MAX, at(10)), Err(ExpiryError::TooFar));
        assert_eq!(Expiry::after_seconds(0, at(10)), Err(ExpiryError::Past));
    }

    #[test]
    fn a_grace_never_lengthens_a_life() {
        assert_eq!(end_of_grace(at(10), 60, None), at(70));
        assert_eq!(end_of_grace(at(10), 60, Some(at(20))), at(20));
        assert_eq!(end_of_grace(at(10), 0, Some(at(20))), at(10));
    }
}
