//! The response headers of the OpenAPI document.

use utoipa::openapi::{Header, HeaderBuilder, ObjectBuilder, Ref, RefOr, Schema, Type};

/// A header that the document defines once and responses refer to.
#[derive(Clone, Copy)]
pub enum ResponseHeader {
    RequestId,
    RetryAfter,
    WwwAuthenticate,
    IdempotentReplayed,
    Allow,
}

impl ResponseHeader {
    pub const ALL: [Self; 5] = [
        Self::RequestId,
        Self::RetryAfter,
        Self::WwwAuthenticate,
        Self::IdempotentReplayed,
        Self::Allow,
    ];

    /// Returns the name in a response.
    pub fn name(self) -> &'static str {
        match self {
            Self::RequestId => "X-Request-Id",
            Self::RetryAfter => "Retry-After",
            Self::WwwAuthenticate => "WWW-Authenticate",
            Self::IdempotentReplayed => "Idempotent-Replayed",
            Self::Allow => "Allow",
        }
    }

    /// Returns the name in the document.
    pub fn component(self) -> &'static str {
        match self {
            Self::RequestId => "RequestId",
            Self::RetryAfter => "RetryAfter",
            Self::WwwAuthenticate => "WwwAuthenticate",
            Self::IdempotentReplayed => "IdempotentReplayed",
            Self::Allow => "Allow",
        }
    }

    pub fn reference(self) -> Ref {
        Ref::new(format!("#/components/headers/{}", self.component()))
    }

    pub fn definition(self) -> Header {
        let string = ObjectBuilder::new().schema_type(Type::String);
        let integer = ObjectBuilder::new().schema_type(Type::Integer);
        let (schema, description): (RefOr<Schema>, &str) = match self {
            Self::RequestId => (Ref::from_schema_name("RequestId").into(), "Id of the request."),
            Self::RetryAfter => {
                (integer.minimum(Some(0)).into(), "Seconds to wait before a retry.")
            }
            Self::WwwAuthenticate => (string.into(), "The authentication scheme (RFC 6750)."),
            Self::IdempotentReplayed => (
                string.enum_values(Some(["true"])).into(),
                "`true` if the response repeats the response to an earlier request with the same \
                 `Idempotency-Key`, or to an earlier capture or void of the same hold.",
            ),
            Self::Allow => (string.into(), "Methods that the path supports."),
        };
        HeaderBuilder::new().schema(Some(schema)).description(Some(description)).build()
    }
}
