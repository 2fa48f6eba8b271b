//! Compares the claims of a form or a redirect about a key with the key's current state.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::session::Visitor;
use crate::{
    domain::lifecycle::KeyStatus,
    store::ApiKey,
    web::{forms::Form, guard::csrf_token},
};

/// Returns a digest of the settings that the form changes. A form carries the digest of the
/// settings that it showed. A redirect carries the digest of the saved settings. Only this session
/// can compute the digest.
pub fn seen(visitor: &Visitor, key: &ApiKey) -> String {
    let mut settings = key.settings.audited(visitor.currency());
    // This form does not contain the rate limits.
    settings.retain(|name, _| !matches!(name.as_str(), "rate_limits" | "owner_rate_limits"));
    digest(visitor, &json!([key.id, settings]))
}

/// Returns such a digest for the form that lowers rate limits.
pub fn seen_limits(visitor: &Visitor, key: &ApiKey) -> String {
    digest(visitor, &json!([key.id, key.settings.owner_limits.to_value()]))
}

fn digest(visitor: &Visitor, shown: &Value) -> String {
    let mut hasher = Sha256::new();
    hasher.update(b"tollgate seen\0");
    hasher.update(csrf_token(visitor.token()));
    hasher.update(shown.to_string());
    URL_SAFE_NO_PAD.encode(hasher.finalize())
}

/// Whether a redirect's claim about a key is true. Anyone can create a link with such a claim.
pub fn is_done(visitor: &Visitor, key: &ApiKey, query: &Form) -> bool {
    let live = key.status == KeyStatus::Live;
    match query.text("done") {
        "revoked" => key.status == KeyStatus::Revoked,
        "disabled" => live && !key.settings.enabled,
        "enabled" => live && key.settings.enabled && !visitor.is_suspended(),
        "changed" => live && query.text("seen") == seen(visitor, key),
        "limits" => live && query.text("seen") == seen_limits(visitor, key),
        _ => false,
    }
}
