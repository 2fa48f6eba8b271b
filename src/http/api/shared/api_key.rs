//! An API key as clients read it.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::amounts::SpendLimitBody;
use crate::{
    domain::{amount::Currency, id::KeyId, timestamp::Timestamp},
    store,
};

/// An API key: all but its text.
#[derive(Serialize, ToSchema)]
pub struct ApiKey {
    #[schema(value_type = String, example = "key_01h455vb4pex5vsknk084sn02q")]
    id: KeyId,
    /// Prefix, first four characters, last four: enough to recognise it.
    #[schema(example = "ta_aBcD…_-ab")]
    hint: String,
    name: String,
    scopes: Vec<String>,
    /// The tenant's own: at most 4096 bytes.
    #[schema(value_type = Object)]
    metadata: Value,
    /// `null`: every key has the whole balance.
    #[schema(required = true)]
    spend_limit: Option<SpendLimitBody>,
    /// A disabled key does not pass, but counts toward the cap and can be enabled.
    enabled: bool,
    /// `live`, `revoked` or `expired`. Only a live key passes, if it is enabled.
    #[schema(pattern = "^(live|revoked|expired)$")]
    status: &'static str,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When it last passed the gate, to the minute and some seconds late; `null`: never.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    last_used_at: Option<Timestamp>,
    /// At exactly this time the key dies; `null`: never.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    expires_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    revoked_at: Option<Timestamp>,
    #[schema(required = true)]
    revoked_reason: Option<String>,
    /// The key that this one replaced.
    #[schema(value_type = Option<String>, required = true)]
    rotated_from: Option<KeyId>,
    /// The key that replaced this one.
    #[schema(value_type = Option<String>, required = true)]
    rotated_to: Option<KeyId>,
}

impl ApiKey {
    pub fn new(key: store::ApiKey, currency: &Currency) -> Self {
        Self {
            id: key.id,
            hint: key.hint,
            name: key.name,
            scopes: key.scopes.to_strings(),
            metadata: key.metadata.to_value(),
            spend_limit: key.spend_limit.map(|limit| SpendLimitBody::new(limit, currency)),
            enabled: key.enabled,
            status: key.status.as_str(),
            created_at: key.created_at,
            last_used_at: key.last_used_at,
            expires_at: key.expires_at,
            revoked_at: key.revoked_at,
            revoked_reason: key.revoked_reason,
            rotated_from: key.rotated_from,
            rotated_to: key.rotated_to,
        }
    }
}
