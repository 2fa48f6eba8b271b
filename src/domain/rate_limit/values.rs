use std::{fmt, str::FromStr, sync::Arc};

use crate::domain::lower_name::is_lower_name;

/// Maximum number of calls per window.
pub const MAX_CALLS: u32 = 10_000_000;

/// Maximum length of a window in seconds: 31 days.
pub const MAX_WINDOW_SECONDS: u32 = 2_678_400;

/// Maximum cost of a call.
pub const MAX_COST: u32 = 10_000;

/// Maximum number of characters of the name of a limit.
pub const MAX_LIMIT_NAME_LENGTH: usize = 32;

/// The name of a rate limit, which is unique in its list. It has 1 to 32 characters from a-z, 0-9,
/// _ and -, and begins with a letter.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct LimitName(Arc<str>);

/// Maximum number of calls in a window, from 1 to [`MAX_CALLS`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct CallLimit(u32);

/// The length of a window in seconds, from 1 to [`MAX_WINDOW_SECONDS`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct WindowSeconds(u32);

/// The number of calls that a call counts as, from 1 to [`MAX_COST`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Cost(u32);

#[cfg(feature = "server")]
crate::domain::schema::named!(
    Cost,
    "Cost",
    crate::domain::schema::int32()
        .description(Some("Number of calls that a call counts as in rate limits."))
        .minimum(Some(1))
        .maximum(Some(MAX_COST))
);

/// The text is not a [`LimitName`], because its length or a character is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a name has 1 to 32 characters from a-z, 0-9, _ and -, and begins with a letter, such as default"
)]
pub struct LimitNameError;

/// The number is outside the range of its type. The message names the range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be from 1 to {max}")]
pub struct OutOfRange {
    /// The largest valid number. The smallest is 1.
    pub max: u32,
}

fn in_range(number: i64, max: u32) -> Result<u32, OutOfRange> {
    u32::try_from(number).ok().filter(|number| (1..=max).contains(number)).ok_or(OutOfRange { max })
}

impl CallLimit {
    /// Returns the number of calls.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0
    }
}

impl WindowSeconds {
    /// Returns the number of seconds.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0
    }
}

impl Cost {
    /// The cost of a call that names no cost.
    pub const ONE: Self = Self(1);

    /// Returns the number of calls.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<i64> for CallLimit {
    type Error = OutOfRange;

    fn try_from(number: i64) -> Result<Self, OutOfRange> {
        in_range(number, MAX_CALLS).map(Self)
    }
}

impl TryFrom<i64> for WindowSeconds {
    type Error = OutOfRange;

    fn try_from(number: i64) -> Result<Self, OutOfRange> {
        in_range(number, MAX_WINDOW_SECONDS).map(Self)
    }
}

impl TryFrom<i64> for Cost {
    type Error = OutOfRange;

    fn try_from(number: i64) -> Result<Self, OutOfRange> {
        in_range(number, MAX_COST).map(Self)
    }
}

/// Parses the cost in a query.
impl FromStr for Cost {
    type Err = OutOfRange;

    fn from_str(text: &str) -> Result<Self, OutOfRange> {
        let out_of_range = OutOfRange { max: MAX_COST };
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse::<i64>().ok().filter(|_| digits);
        number.ok_or(out_of_range).and_then(Self::try_from)
    }
}

impl LimitName {
    /// Returns the name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for LimitName {
    type Err = LimitNameError;

    fn from_str(text: &str) -> Result<Self, LimitNameError> {
        if is_lower_name(text, MAX_LIMIT_NAME_LENGTH) {
            Ok(Self(text.into()))
        } else {
            Err(LimitNameError)
        }
    }
}

impl fmt::Display for LimitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl serde::Serialize for LimitName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl serde::Serialize for CallLimit {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(self.0)
    }
}

impl serde::Serialize for WindowSeconds {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(self.0)
    }
}

#[cfg(feature = "server")]
crate::domain::schema::named!(
    LimitName,
    "RateLimitName",
    crate::domain::schema::string("The name of a rate limit, which is unique in its list.")
        .pattern(Some(format!("^[a-z][a-z0-9_-]{{0,{}}}$", MAX_LIMIT_NAME_LENGTH - 1)))
        .max_length(Some(MAX_LIMIT_NAME_LENGTH))
        .examples(["default"])
);

#[cfg(feature = "server")]
crate::domain::schema::named!(
    CallLimit,
    "CallLimit",
    crate::domain::schema::int32()
        .description(Some("Maximum number of calls in a window."))
        .minimum(Some(1))
        .maximum(Some(MAX_CALLS))
);

#[cfg(feature = "server")]
crate::domain::schema::named!(
    WindowSeconds,
    "WindowSeconds",
    crate::domain::schema::int32()
        .description(Some("The length of a window in seconds."))
        .minimum(Some(1))
        .maximum(Some(MAX_WINDOW_SECONDS))
);
