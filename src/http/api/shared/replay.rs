//! Repeated requests: the header `Idempotency-Key`, and the header that marks a response as a
//! repetition of an earlier response.

use axum::{
    http::{HeaderMap, HeaderValue},
    response::Response,
};
use utoipa::{
    IntoParams,
    openapi::{
        ObjectBuilder, Required, Type,
        path::{Parameter, ParameterBuilder, ParameterIn},
    },
};

use super::{fields::Fields, headers::ResponseHeader};
use crate::domain::idempotency::IdempotencyKey;

const HEADER: &str = "Idempotency-Key";

/// The optional header `Idempotency-Key`.
pub struct OptionalIdempotencyKey;

/// The required header `Idempotency-Key`, for requests that add money and must not take effect
/// twice.
pub struct RequiredIdempotencyKey;

impl OptionalIdempotencyKey {
    pub fn read(fields: &mut Fields, headers: &HeaderMap) -> Option<IdempotencyKey> {
        fields.header(headers, HEADER, IdempotencyKey::parse_header)
    }
}

impl RequiredIdempotencyKey {
    pub fn read(fields: &mut Fields, headers: &HeaderMap) -> Option<IdempotencyKey> {
        let key = fields.header(headers, HEADER, IdempotencyKey::parse_header);
        if !headers.contains_key(HEADER) {
            fields.wrong_header(HEADER, "is required");
        }
        key
    }
}

impl IntoParams for OptionalIdempotencyKey {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![parameter(Required::False)]
    }
}

impl IntoParams for RequiredIdempotencyKey {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![parameter(Required::True)]
    }
}

fn parameter(required: Required) -> Parameter {
    let max_length = IdempotencyKey::MAX_LENGTH;
    // The header may contain quotes around the key.
    let schema = ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(1))
        .max_length(Some(max_length + 2));
    ParameterBuilder::new()
        .name(HEADER)
        .parameter_in(ParameterIn::Header)
        .description(Some(format!(
            "Requests with the same key take effect only once. The key consists of 1 to \
             {max_length} visible ASCII characters without spaces, with or without double quotes \
             around them."
        )))
        .required(required)
        .schema(Some(schema))
        .build()
}

/// Marks the response if it repeats an earlier response.
pub fn mark_replayed(mut response: Response, replayed: bool) -> Response {
    if replayed {
        let name = ResponseHeader::IdempotentReplayed.name();
        response.headers_mut().insert(name, HeaderValue::from_static("true"));
    }
    response
}
