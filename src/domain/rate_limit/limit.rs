use std::{fmt, str::FromStr};

use serde_json::Value;

use super::values::{CallLimit, LimitName, LimitNameError, OutOfRange, WindowSeconds};
use crate::domain::{
    scope::{Scope, ScopeError},
    seconds::parse_seconds,
};

/// Maximum number of calls in each window of time.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
#[cfg_attr(
    feature = "server",
    derive(utoipa::ToSchema),
    schema(as = NewRateLimit),
    serde(deny_unknown_fields)
)]
pub struct RateLimit {
    /// The name, which is unique in its list.
    pub name: LimitName,
    /// Maximum number of calls in a window. A call with a cost counts as that many calls.
    #[serde(rename = "limit")]
    pub calls: CallLimit,
    /// The length of a window.
    #[serde(rename = "window_seconds")]
    pub window: WindowSeconds,
    /// The limit counts calls that ask for this scope, or for a scope that it implies. Without a
    /// scope, the limit counts every call.
    pub scope: Option<Scope>,
}

/// An error from parsing the name of a rate limit, a rate limit or a list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RateLimitError {
    /// The text is not the name of a limit.
    #[error(transparent)]
    Name(#[from] LimitNameError),
    /// The list has more than [`MAX_RATE_LIMITS`](super::MAX_RATE_LIMITS) limits.
    #[error("a list has at most 8 rate limits")]
    TooMany,
    /// Two limits of the list have this name.
    #[error("two rate limits have the name {0}")]
    DuplicateName(LimitName),
    /// The text of a rate limit is not `NAME=CALLS/WINDOW` or `NAME=CALLS/WINDOW@SCOPE`.
    #[error(
        "a rate limit is NAME=CALLS/WINDOW or NAME=CALLS/WINDOW@SCOPE, such as default=1000/60s or \
         orders=10/1m@purchases:write. The window is a number of seconds, or a number followed by s, \
         m, h or d"
    )]
    Grammar,
    /// The number of calls is out of range.
    #[error("the number of calls {0}")]
    Calls(OutOfRange),
    /// The length of the window is out of range.
    #[error("the window in seconds {0}")]
    Window(OutOfRange),
    /// The text after `@` is not a scope.
    #[error(transparent)]
    Scope(#[from] ScopeError),
    /// The stored JSON is not a list of rate limits.
    #[error("the stored value is not a list of rate limits")]
    Stored,
}

impl RateLimit {
    /// Whether the limit counts a call that asks for these scopes.
    #[must_use]
    pub fn counts(&self, asked: &[Scope]) -> bool {
        self.scope.as_ref().is_none_or(|own| asked.iter().any(|scope| own.implies(scope)))
    }

    pub(super) fn from_stored(value: &Value) -> Option<Self> {
        let scope = match value.get("scope")? {
            Value::Null => None,
            scope => Some(scope.as_str()?.parse().ok()?),
        };
        Some(Self {
            name: value.get("name")?.as_str()?.parse().ok()?,
            calls: value.get("limit")?.as_i64()?.try_into().ok()?,
            window: value.get("window_seconds")?.as_i64()?.try_into().ok()?,
            scope,
        })
    }
}

/// Parses the form of the command line: `NAME=CALLS/WINDOW` or `NAME=CALLS/WINDOW@SCOPE`.
impl FromStr for RateLimit {
    type Err = RateLimitError;

    fn from_str(text: &str) -> Result<Self, RateLimitError> {
        let (name, rest) = text.split_once('=').ok_or(RateLimitError::Grammar)?;
        let (rest, scope) = match rest.split_once('@') {
            Some((rest, scope)) => (rest, Some(scope.parse()?)),
            None => (rest, None),
        };
        let (calls, window) = rest.split_once('/').ok_or(RateLimitError::Grammar)?;
        if calls.is_empty() || !calls.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(RateLimitError::Grammar);
        }
        // A number of calls that does not fit is out of range.
        let calls = calls.parse().unwrap_or(i64::MAX);
        let window = parse_seconds(window).ok_or(RateLimitError::Grammar)?;
        Ok(Self {
            name: name.parse()?,
            calls: calls.try_into().map_err(RateLimitError::Calls)?,
            window: window.try_into().map_err(RateLimitError::Window)?,
            scope,
        })
    }
}

/// Writes the form of the command line.
impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}/{}s", self.name, self.calls.get(), self.window.get())?;
        self.scope.as_ref().map_or(Ok(()), |scope| write!(f, "@{scope}"))
    }
}
