//! Rate limits in requests and responses.

use serde::Serialize;
use utoipa::ToSchema;

use super::fields::{Fields, Patch, integer, text};
use crate::domain::{
    rate_limit::{CallLimit, LimitName, RateLimit, RateLimits, WindowSeconds},
    scope::Scope,
};

/// Maximum number of calls in each window of time.
#[derive(Serialize, ToSchema)]
#[schema(as = RateLimit)]
pub struct RateLimitBody {
    name: LimitName,
    limit: CallLimit,
    window_seconds: WindowSeconds,
    /// The limit counts calls that ask for this scope, or for a scope that it implies. `null` if
    /// the limit counts every call.
    #[schema(required = true)]
    scope: Option<Scope>,
}

impl RateLimitBody {
    /// Returns the limits of a list, in their order.
    pub fn list(limits: &RateLimits) -> Vec<Self> {
        let body = |limit: &RateLimit| Self {
            name: limit.name.clone(),
            limit: limit.calls,
            window_seconds: limit.window,
            scope: limit.scope.clone(),
        };
        limits.iter().map(body).collect()
    }
}

/// Reads an optional list of rate limits.
pub fn rate_limits(fields: &mut Fields, name: &'static str) -> Option<RateLimits> {
    let limits = fields.objects(name, rate_limit)?;
    RateLimits::new(limits).map_err(|error| fields.wrong(name, error.to_string())).ok()
}

/// Reads a list of rate limits in a PATCH. An absent list keeps the old list, and `null` clears it.
pub fn patch_rate_limits(fields: &mut Fields, name: &'static str) -> Patch<RateLimits> {
    fields.patch_with(name, |fields| rate_limits(fields, name))
}

fn rate_limit(fields: &mut Fields) -> Option<RateLimit> {
    let name = fields.required("name", text(str::parse));
    let calls = fields.required("limit", integer(CallLimit::try_from));
    let window = fields.required("window_seconds", integer(WindowSeconds::try_from));
    let scope = fields.optional("scope", text(str::parse));
    Some(RateLimit { name: name?, calls: calls?, window: window?, scope })
}
