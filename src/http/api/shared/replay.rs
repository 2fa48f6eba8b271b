//! Repeated requests: the `Idempotency-Key` of a request, and the header of a repeated response.

use axum::{
    http::{HeaderMap, HeaderName, HeaderValue},
    response::Response,
};
use utoipa::{
    IntoParams,
    openapi::{
        ObjectBuilder, Required, Type,
        path::{Parameter, ParameterBuilder, ParameterIn},
    },
};

use super::fields::Fields;
use crate::domain::idempotency::IdempotencyKey;

/// Bytes of the header: a key of 128 characters, and its quotes.
const MAX_HEADER_LENGTH: usize = 130;

/// The parameter of an operation that takes an `Idempotency-Key`, for the OpenAPI document.
pub struct OptionalIdempotencyKey;

/// The parameter of an operation that requires an `Idempotency-Key`, for the OpenAPI document.
pub struct RequiredIdempotencyKey;

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
    let schema = ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(1))
        .max_length(Some(MAX_HEADER_LENGTH));
    ParameterBuilder::new()
        .name("Idempotency-Key")
        .parameter_in(ParameterIn::Header)
        .required(required)
        .description(Some("1 to 128 visible ASCII characters without spaces, bare or quoted."))
        .schema(Some(schema))
        .build()
}

/// Reads the header where it is required: a credit or a refund must not take effect twice.
pub fn idempotency_key(fields: &mut Fields, headers: &HeaderMap) -> Option<IdempotencyKey> {
    let key = fields.header(headers, "Idempotency-Key", IdempotencyKey::parse_header);
    if !headers.contains_key("Idempotency-Key") {
        fields.wrong_header("Idempotency-Key", "is required");
    }
    key
}

/// Marks a response that repeats an earlier one.
pub fn mark_replayed(mut response: Response, replayed: bool) -> Response {
    if replayed {
        let name = HeaderName::from_static("idempotent-replayed");
        response.headers_mut().insert(name, HeaderValue::from_static("true"));
    }
    response
}
