//! An API key in responses.

use serde::Serialize;
use utoipa::ToSchema;

use super::{
    amounts::SpendLimitBody, rate_limit_state::RateLimitState, rate_limits::RateLimitBody,
};
use crate::{
    domain::{
        allowed_ips::AllowedIps,
        amount::Currency,
        id::KeyId,
        lifecycle::KeyStatus,
        rate_limit::LimitState,
        scope::ScopeSet,
        text::{Metadata, Name, Reason},
        timestamp::Timestamp,
    },
    store,
};

/// An API key, without its plaintext.
#[derive(Serialize, ToSchema)]
pub struct ApiKey {
    id: KeyId,
    /// The prefix, the first four characters and the last four characters of the key, by which
    /// people recognize it.
    #[schema(example = "ta_aBcD…_-ab")]
    hint: String,
    name: Name,
    scopes: ScopeSet,
    metadata: Metadata,
    /// The spend limit of the key. `null` if the key may spend the whole balance.
    #[schema(required = true)]
    spend_limit: Option<SpendLimitBody>,
    /// The key's own rate limits. `null` if the key has none, so that only the plan's defaults
    /// apply.
    #[schema(required = true)]
    rate_limits: Option<Vec<RateLimitBody>>,
    /// The rate limits that apply to the key's calls, with their current windows: the key's limits,
    /// the plan's defaults for keys, and the limits of the account. `null` in the response to a
    /// change if they could not be read.
    #[schema(required = true)]
    effective_rate_limits: Option<Vec<RateLimitState>>,
    /// Networks from which Tollgate accepts the key. `null` if Tollgate accepts the key from any
    /// address that the account allows.
    #[schema(required = true)]
    allowed_ips: Option<AllowedIps>,
    /// Whether the key is enabled. Tollgate refuses a disabled key. A disabled key still counts
    /// toward the account's maximum number of keys, and you can enable it again.
    enabled: bool,
    status: KeyStatus,
    created_at: Timestamp,
    /// Time of the last accepted request with the key, to the minute. Updated with a delay of a few
    /// seconds. `null` if the key was never used.
    #[schema(required = true)]
    last_used_at: Option<Timestamp>,
    /// Time at which the key expires. `null` if the key does not expire.
    #[schema(required = true)]
    expires_at: Option<Timestamp>,
    #[schema(required = true)]
    revoked_at: Option<Timestamp>,
    #[schema(required = true)]
    revoked_reason: Option<Reason>,
    /// The key that this one replaced.
    #[schema(required = true)]
    rotated_from: Option<KeyId>,
    /// The key that replaced this one.
    #[schema(required = true)]
    rotated_to: Option<KeyId>,
}

impl ApiKey {
    pub fn new(
        key: store::ApiKey,
        limits: Option<Vec<LimitState>>,
        now: Timestamp,
        currency: &Currency,
    ) -> Self {
        Self {
            id: key.id,
            hint: key.hint,
            name: key.settings.name,
            scopes: key.settings.scopes,
            metadata: key.settings.metadata,
            spend_limit: key.settings.spend_limit.map(|limit| SpendLimitBody::new(limit, currency)),
            rate_limits: key.settings.rate_limits.as_ref().map(RateLimitBody::list),
            effective_rate_limits: limits.map(|limits| RateLimitState::list(limits, now)),
            allowed_ips: key.settings.allowed_ips,
            enabled: key.settings.enabled,
            status: key.status,
            created_at: key.created_at,
            last_used_at: key.last_used_at,
            expires_at: key.settings.expires_at,
            revoked_at: key.revoked_at,
            revoked_reason: key.revoked_reason,
            rotated_from: key.rotated_from,
            rotated_to: key.rotated_to,
        }
    }
}
