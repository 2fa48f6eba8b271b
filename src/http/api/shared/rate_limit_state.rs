//! A rate limit and its current window in responses.

use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::{rate_limit::LimitState, scope::Scope, timestamp::Timestamp};

/// A rate limit that applies to a call, and its current window.
#[derive(Serialize, ToSchema)]
pub struct RateLimitState {
    /// The name of the limit. The name of an account's limit begins with `account:`.
    #[schema(example = "default")]
    name: String,
    /// Maximum number of calls in a window.
    #[schema(minimum = 1)]
    limit: u32,
    /// The length of a window in seconds.
    #[schema(minimum = 1)]
    window_seconds: u32,
    /// The limit counts only calls that ask for this scope, or for a scope that it implies. `null`
    /// if it counts every call.
    #[schema(required = true)]
    scope: Option<Scope>,
    /// Number of calls that the window still allows, as far as the responding node knows.
    remaining: u32,
    /// Time at which the window ends. `null` if no window has begun.
    #[schema(required = true)]
    resets_at: Option<Timestamp>,
    /// Seconds until the window ends. `null` if no window has begun.
    #[schema(required = true)]
    resets_in: Option<u32>,
}

impl RateLimitState {
    /// `now` is the time by the database's clock.
    pub fn new(state: LimitState, now: Timestamp) -> Self {
        let resets_in = state.resets_in.map(i64::from);
        let resets_at = resets_in.and_then(|seconds| now.plus_seconds(seconds));
        Self {
            name: state.label(),
            limit: state.calls.get(),
            window_seconds: state.window.get(),
            scope: state.scope,
            remaining: state.remaining,
            resets_at: state.resets_at.or(resets_at),
            resets_in: state.resets_in,
        }
    }

    /// Returns the states of several limits.
    pub fn list(states: Vec<LimitState>, now: Timestamp) -> Vec<Self> {
        states.into_iter().map(|state| Self::new(state, now)).collect()
    }
}
