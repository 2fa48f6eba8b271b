//! The life cycle of an API key. A key is live until it is revoked or expires. After that, it can
//! never become live again.

use super::{text_enum::text_enum, timestamp::Timestamp};

/// Maximum lifetime of a key in seconds: ten years.
pub const MAX_LIFETIME_SECONDS: i64 = 3653 * 86_400;

/// Maximum grace period of a rotated key in seconds: one week.
pub const MAX_GRACE_SECONDS: i64 = 604_800;

text_enum! {
    /// The status of a key. A key is accepted only if it is live and enabled, and its account is
    /// active.
    pub enum KeyStatus {
        /// The key is neither revoked nor expired.
        Live = "live",
        /// The key was revoked. It may also have expired since.
        Revoked = "revoked",
        /// The key has expired and was not revoked.
        Expired = "expired",
    }
}

text_enum! {
    /// A filter for lists of keys.
    pub enum KeyStatusFilter: Default(Live) {
        /// Only live keys.
        Live = "live",
        /// Only revoked keys.
        Revoked = "revoked",
        /// Only expired keys.
        Expired = "expired",
        /// Keys of every status.
        All = "all",
    }
}

impl KeyStatusFilter {
    /// Returns the status that the filter requires. `None` means that any status matches.
    #[must_use]
    pub fn status(self) -> Option<KeyStatus> {
        match self {
            Self::Live => Some(KeyStatus::Live),
            Self::Revoked => Some(KeyStatus::Revoked),
            Self::Expired => Some(KeyStatus::Expired),
            Self::All => None,
        }
    }
}

impl KeyStatus {
    /// Returns the status at `now`. At exactly `expires_at` the key is expired. A revoked key stays
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
}

/// The moment when a key expires. It is in the future, and at most [`MAX_LIFETIME_SECONDS`] ahead.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Expiry(Timestamp);

/// The reason why an expiry or a lifetime is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExpiryError {
    /// The expiry is not in the future, or the lifetime is not positive.
    #[error("the expiry is in the past")]
    Past,
    /// The expiry is more than [`MAX_LIFETIME_SECONDS`] ahead, or after the year 9999.
    #[error("the expiry is more than 10 years ahead")]
    TooFar,
}

impl Expiry {
    /// Creates the expiry at `moment`, for a key that is created or changed at `now`.
    ///
    /// # Errors
    ///
    /// [`ExpiryError::Past`] if `moment` is not later than `now`, and [`ExpiryError::TooFar`] if it
    /// is more than [`MAX_LIFETIME_SECONDS`] later.
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

    /// Creates the expiry `seconds` after `now`.
    ///
    /// # Errors
    ///
    /// [`ExpiryError::Past`] if `seconds` is not positive, and [`ExpiryError::TooFar`] if it is
    /// more than [`MAX_LIFETIME_SECONDS`] or the expiry is after the year 9999.
    pub fn after_seconds(seconds: i64, now: Timestamp) -> Result<Self, ExpiryError> {
        match seconds {
            ..1 => Err(ExpiryError::Past),
            1..=MAX_LIFETIME_SECONDS => {
                now.plus_seconds(seconds).map(Self).ok_or(ExpiryError::TooFar)
            }
            _ => Err(ExpiryError::TooFar),
        }
    }

    /// Returns the moment from which the key is expired.
    #[must_use]
    pub fn timestamp(self) -> Timestamp {
        self.0
    }
}

#[cfg(feature = "server")]
super::schema::same_as!(Expiry, Timestamp);

/// The expiry of a new key, given as its lifetime in seconds: 1 to [`MAX_LIFETIME_SECONDS`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lifetime(Expiry);

impl Lifetime {
    /// Creates the lifetime of a key that is created at `now`.
    ///
    /// # Errors
    ///
    /// [`ExpiryError`] in the cases that [`Expiry::after_seconds`] lists.
    pub fn from_seconds(seconds: i64, now: Timestamp) -> Result<Self, ExpiryError> {
        Expiry::after_seconds(seconds, now).map(Self)
    }

    /// Returns the moment when the key expires.
    #[must_use]
    pub fn expiry(self) -> Expiry {
        self.0
    }
}

#[cfg(feature = "server")]
super::schema::named!(
    Lifetime,
    "Lifetime",
    super::schema::int64()
        .description(Some("Seconds from now, at most ten years."))
        .minimum(Some(1))
        .maximum(Some(MAX_LIFETIME_SECONDS))
);

/// Time in seconds for which a rotated key is still accepted, from 0 to [`MAX_GRACE_SECONDS`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct GraceSeconds(i64);

/// The grace period is negative or longer than a week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be from 0 to {}", MAX_GRACE_SECONDS)]
pub struct GraceSecondsError;

impl GraceSeconds {
    /// Returns the grace period in seconds, from 0 to [`MAX_GRACE_SECONDS`].
    #[must_use]
    pub fn get(self) -> i64 {
        self.0
    }
}

impl TryFrom<i64> for GraceSeconds {
    type Error = GraceSecondsError;

    fn try_from(seconds: i64) -> Result<Self, GraceSecondsError> {
        match seconds {
            0..=MAX_GRACE_SECONDS => Ok(Self(seconds)),
            _ => Err(GraceSecondsError),
        }
    }
}

#[cfg(feature = "server")]
super::schema::named!(
    GraceSeconds,
    "GraceSeconds",
    super::schema::int64()
        .description(Some("Seconds for which a rotated key is still accepted."))
        .minimum(Some(0))
        .maximum(Some(MAX_GRACE_SECONDS))
        .default(Some(GraceSeconds::default().get().into()))
);

/// Returns the expiry of a key that is rotated at `now`. If the key would expire before the grace
/// period ends, its expiry does not change.
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
    fn key_is_expired_at_exactly_its_expiry() {
        assert_eq!(KeyStatus::at(at(9), None, Some(at(10))), KeyStatus::Live);
        assert_eq!(KeyStatus::at(at(10), None, Some(at(10))), KeyStatus::Expired);
        assert_eq!(KeyStatus::at(at(11), None, Some(at(10))), KeyStatus::Expired);
        assert_eq!(KeyStatus::at(at(11), Some(at(5)), Some(at(10))), KeyStatus::Revoked);
        assert_eq!(KeyStatus::at(at(11), None, None), KeyStatus::Live);
    }

    #[test]
    fn expiry_must_be_in_the_future_and_within_ten_years() {
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
    fn lifetimes_and_grace_periods_have_a_maximum() {
        let expires_at = |seconds| {
            Lifetime::from_seconds(seconds, at(10)).map(|lifetime| lifetime.expiry().timestamp())
        };
        assert_eq!(expires_at(5), Ok(at(15)));
        assert_eq!(expires_at(0), Err(ExpiryError::Past));
        assert_eq!(expires_at(i64::MIN), Err(ExpiryError::Past));
        assert_eq!(expires_at(MAX_LIFETIME_SECONDS + 1), Err(ExpiryError::TooFar));
        assert_eq!(GraceSeconds::try_from(MAX_GRACE_SECONDS).map(GraceSeconds::get), Ok(604_800));
        for seconds in [-1, MAX_GRACE_SECONDS + 1] {
            let error = GraceSeconds::try_from(seconds).expect_err("outside the limits");
            assert_eq!(error.to_string(), "must be from 0 to 604800");
        }
    }

    #[test]
    fn grace_period_never_extends_the_expiry() {
        assert_eq!(end_of_grace(at(10), 60, None), at(70));
        assert_eq!(end_of_grace(at(10), 60, Some(at(20))), at(20));
        assert_eq!(end_of_grace(at(10), 0, Some(at(20))), at(10));
    }
}
