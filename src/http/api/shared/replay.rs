//! Repeated requests: the `Idempotency-Key` that is required, and the mark of an answer that was given before.

use axum::{
    http::{HeaderMap, HeaderName, HeaderValue},
    response::Response,
};

use super::fields::Fields;
use crate::domain::idempotency::IdempotencyKey;

/// Reads the header where it has to be there: what gives money must not do so twice.
pub fn idempotency_key(fields: &mut Fields, headers: &HeaderMap) -> Option<IdempotencyKey> {
    let key = fields.header(headers, "Idempotency-Key", IdempotencyKey::parse_header);
    if !headers.contains_key("Idempotency-Key") {
        fields.wrong_header("Idempotency-Key", "is required");
    }
    key
}

/// Marks a response that repeats one that was given before.
pub fn mark_replayed(mut response: Response, replayed: bool) -> Response {
    if replayed {
        let name = HeaderName::from_static("idempotent-replayed");
        response.headers_mut().insert(name, HeaderValue::from_static("true"));
    }
    response
}
