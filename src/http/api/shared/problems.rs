//! Problems in the OpenAPI document: a schema for each code, and a response for each group of codes
//! that an operation can return.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use utoipa::{
    IntoResponses,
    openapi::{
        AllOfBuilder, ArrayBuilder, ContentBuilder, ObjectBuilder, OneOfBuilder, Ref, RefOr,
        Response, ResponseBuilder, Schema, Type, schema::RefBuilder,
    },
};

use super::headers::ResponseHeader;
use crate::{
    auth::ProblemCode,
    domain::{
        schema::{Schemas, formatted, int32, string},
        tenant::MAX_KEYS_LIMIT,
    },
    http::problem::MAX_ERRORS,
};

/// A member of a problem that is always there.
type Member = (&'static str, RefOr<Schema>);

/// A response of the document: problems that share a status.
struct ProblemResponse {
    name: &'static str,
    codes: &'static [ProblemCode],
    description: &'static str,
}

macro_rules! responses {
    ($($constant:ident: $name:literal, [$($code:ident),+], $description:literal;)+) => {
        $(
            const $constant: ProblemResponse = ProblemResponse {
                name: $name,
                codes: &[$(ProblemCode::$code),+],
                description: $description,
            };
        )+

        const RESPONSES: &[ProblemResponse] = &[$($constant),+];
    };
}

responses! {
    MALFORMED_BODY: "MalformedBody", [MalformedBody],
        "The body is not one JSON object without duplicate members.";
    API_KEY_UNAUTHORIZED: "ApiKeyUnauthorized", [MissingApiKey, InvalidApiKey],
        "The API key is missing, or it is malformed, unknown, revoked, expired or disabled. The \
         response does not say which.";
    ADMIN_KEY_UNAUTHORIZED: "AdminKeyUnauthorized", [MissingAdminKey, InvalidAdminKey],
        "The admin key is missing or invalid.";
    DECLINED: "Declined", [InsufficientBalance, SpendLimitExceeded],
        "Nothing was deducted: the balance or the key's spend limit is too small.";
    API_KEY_FORBIDDEN: "ApiKeyForbidden", [AccountSuspended, InsufficientScope],
        "The account is suspended, or the API key lacks the scope.";
    ADMIN_KEY_FORBIDDEN: "AdminKeyForbidden", [InsufficientPermission],
        "The admin key lacks the permission.";
    NOT_FOUND: "NotFound", [NotFound],
        "No such resource, or it belongs to another tenant or account.";
    METHOD_NOT_ALLOWED: "MethodNotAllowed", [MethodNotAllowed],
        "The path does not support this method.";
    REQUEST_TIMEOUT: "RequestTimeout", [RequestTimeout],
        "The body did not arrive in time.";
    KEY_LIMIT_REACHED: "KeyLimitReached", [KeyLimitReached],
        "The account has as many live keys as it may have.";
    KEY_NOT_CHANGEABLE: "KeyNotChangeable", [KeyNotLive, KeyAlreadyRotated, KeyLimitReached],
        "The key is revoked, expired or already rotated, or too many rotated keys are in their \
         grace period.";
    HOLD_LIMIT_REACHED: "HoldLimitReached", [HoldLimitReached],
        "The key or its account has as many open holds as it may have.";
    HOLD_NOT_CAPTURABLE: "HoldNotCapturable", [HoldNotOpen, HoldTooSmall],
        "The hold is closed, or smaller than the amount to capture.";
    HOLD_NOT_OPEN: "HoldNotOpen", [HoldNotOpen],
        "The hold is closed.";
    REFUND_TOO_LARGE: "RefundTooLarge", [RefundTooLarge],
        "The amount is larger than the part of the purchase that was not refunded yet.";
    BODY_TOO_LARGE: "BodyTooLarge", [BodyTooLarge],
        "The body is too large.";
    UNSUPPORTED_MEDIA_TYPE: "UnsupportedMediaType", [UnsupportedMediaType],
        "The body is not `application/json`.";
    VALIDATION_FAILED: "ValidationFailed", [ValidationFailed],
        "The request is invalid. `errors` lists everything that is wrong.";
    IDEMPOTENT_REQUEST_INVALID: "IdempotentRequestInvalid", [ValidationFailed, IdempotencyMismatch],
        "The request is invalid, or the `Idempotency-Key` was used for a different request.";
    TOO_MANY_IN_FLIGHT: "TooManyInFlight", [TooManyInFlight],
        "The API key has as many requests in flight as it may have. Wait for their responses.";
    INTERNAL_ERROR: "InternalError", [InternalError],
        "An internal error. The body is always the same; the request id identifies the log entry.";
    UNAVAILABLE: "Unavailable", [Unavailable],
        "The service cannot answer now, for example because it cannot reach its database. Retry \
         later.";
}

macro_rules! groups {
    ($($(#[$doc:meta])+ $group:ident: $($response:ident),+;)+) => {
        $(
            $(#[$doc])+
            pub struct $group;

            impl IntoResponses for $group {
                fn responses() -> BTreeMap<String, RefOr<Response>> {
                    [$($response.reference()),+].into()
                }
            }
        )+
    };
}

groups! {
    /// Of every route.
    AnyRoute: INTERNAL_ERROR, UNAVAILABLE;
    /// Of a route without a credential.
    OpenRoute: METHOD_NOT_ALLOWED;
    /// Of a route that requires an API key.
    WithApiKey: API_KEY_UNAUTHORIZED, API_KEY_FORBIDDEN;
    /// Of a route that requires an admin key.
    WithAdminKey: ADMIN_KEY_UNAUTHORIZED, ADMIN_KEY_FORBIDDEN;
    /// Of a route that bounds an API key's requests in flight.
    WithBoundInFlight: TOO_MANY_IN_FLIGHT;
    /// Of a route with parameters that can be invalid.
    WithParameters: VALIDATION_FAILED;
    /// Of a route that reads a body.
    WithBody: MALFORMED_BODY, REQUEST_TIMEOUT, BODY_TOO_LARGE, UNSUPPORTED_MEDIA_TYPE,
        VALIDATION_FAILED;
    /// Of a route that takes an idempotency key. It stands after [`WithBody`], whose 422 it widens.
    WithIdempotencyKey: IDEMPOTENT_REQUEST_INVALID;
    /// Of a route about something that may not exist.
    WithTarget: NOT_FOUND;
    /// Of a purchase, a hold or a capture.
    Declined: DECLINED;
    /// Of a new key.
    KeyLimitReached: KEY_LIMIT_REACHED;
    /// Of a change or a rotation of a key.
    KeyNotChangeable: KEY_NOT_CHANGEABLE;
    /// Of a new hold.
    HoldLimitReached: HOLD_LIMIT_REACHED;
    /// Of a capture.
    HoldNotCapturable: HOLD_NOT_CAPTURABLE;
    /// Of voiding a hold.
    HoldNotOpen: HOLD_NOT_OPEN;
    /// Of a refund.
    RefundTooLarge: REFUND_TOO_LARGE;
}

impl ProblemResponse {
    fn status(&self) -> StatusCode {
        self.codes[0].status()
    }

    /// The header that a problem with this status has; a 402 only if it is a replay.
    fn header(&self) -> Option<ResponseHeader> {
        match self.status() {
            StatusCode::UNAUTHORIZED => Some(ResponseHeader::WwwAuthenticate),
            StatusCode::PAYMENT_REQUIRED => Some(ResponseHeader::IdempotentReplayed),
            StatusCode::METHOD_NOT_ALLOWED => Some(ResponseHeader::Allow),
            StatusCode::SERVICE_UNAVAILABLE => Some(ResponseHeader::RetryAfter),
            _ => None,
        }
    }

    /// An operation's entry for the response.
    fn reference(&self) -> (String, RefOr<Response>) {
        (self.status().as_str().to_owned(), RefOr::Ref(Ref::from_response_name(self.name)))
    }

    fn definition(&self) -> Response {
        let schema: RefOr<Schema> = match self.codes {
            [code] => schema_of(*code).into(),
            codes => {
                let empty = OneOfBuilder::new();
                codes.iter().fold(empty, |one_of, code| one_of.item(schema_of(*code))).into()
            }
        };
        let content = ContentBuilder::new().schema(Some(schema)).build();
        let response = ResponseBuilder::new()
            .description(self.description)
            .content("application/problem+json", content);
        let response = match self.header() {
            Some(header) => response.header_ref(header.name(), header.reference()),
            None => response,
        };
        response.build()
    }
}

/// Every response of the document that is a problem, by its name.
pub fn responses() -> impl Iterator<Item = (&'static str, Response)> {
    RESPONSES.iter().map(|response| (response.name, response.definition()))
}

/// The schemas that these responses refer to, by their names.
pub fn schemas() -> Schemas {
    let mut schemas = vec![
        ("Problem".to_owned(), problem()),
        ("ProblemCode".to_owned(), problem_code()),
        ("FieldError".to_owned(), field_error()),
    ];
    schemas.extend(ProblemCode::ALL.iter().map(|code| (schema_name(*code), problem_with(*code))));
    schemas
}

/// `invalid_api_key`: `InvalidApiKeyProblem`.
fn schema_name(code: ProblemCode) -> String {
    let mut name = String::new();
    for word in code.as_str().split('_') {
        let (initial, rest) = word.split_at(1);
        name.push_str(&initial.to_ascii_uppercase());
        name.push_str(rest);
    }
    name + "Problem"
}

fn schema_of(code: ProblemCode) -> Ref {
    Ref::from_schema_name(schema_name(code))
}

/// What all problems share.
fn problem() -> RefOr<Schema> {
    let uri = formatted("uri", "`urn:tollgate:problem:` and the code.")
        .pattern(Some("^urn:tollgate:problem:[a-z_]+$"));
    let status =
        int32().description(Some("The HTTP status.")).minimum(Some(400)).maximum(Some(599));
    let object = with_members(
        ObjectBuilder::new(),
        vec![
            ("type", uri.into()),
            ("title", string("The kind of problem, for people.").into()),
            ("status", status.into()),
            ("detail", string("What happened and what the client can do, for people.").into()),
            ("code", Ref::from_schema_name("ProblemCode").into()),
            ("request_id", Ref::from_schema_name("RequestId").into()),
        ],
    );
    let page = formatted(
        "uri",
        "The page of the documentation about the `code`: what happened, and how to fix it. Absent \
         if the service runs without its documentation.",
    );
    let description = "An error: problem details (RFC 9457). `code` says which members follow.";
    object.property("documentation_url", page).description(Some(description)).into()
}

fn problem_code() -> RefOr<Schema> {
    string("What is wrong, for programs. The meaning of a code never changes.")
        .enum_values(Some(ProblemCode::ALL.iter().map(|code| code.as_str())))
        .into()
}

fn field_error() -> RefOr<Schema> {
    let pointer = string("A JSON pointer (RFC 6901) into the body.");
    ObjectBuilder::new()
        .description(Some(
            "Something that is wrong, and where: in a member of the body, a parameter or a header.",
        ))
        .property("pointer", pointer.examples(["/name"]))
        .property("parameter", string("The name of a parameter."))
        .property("header", string("The name of a header."))
        .property("detail", string("What is wrong, for people."))
        .required("detail")
        .into()
}

/// The schema of the problems with this code.
fn problem_with(code: ProblemCode) -> RefOr<Schema> {
    let only = ObjectBuilder::new().schema_type(Type::String).enum_values(Some([code.as_str()]));
    let own = with_members(ObjectBuilder::new(), vec![("code", only.into())]);
    AllOfBuilder::new()
        .description(Some(format!("{}: {}.", code.title(), code.status().as_u16())))
        .item(Ref::from_schema_name("Problem"))
        .item(with_members(own, members(code)))
        .into()
}

/// The members that problems with this code have beside the shared ones, every time.
fn members(code: ProblemCode) -> Vec<Member> {
    let currency = || reference("CurrencyCode", "The currency of the amounts.");
    match code {
        ProblemCode::InsufficientBalance => vec![
            ("required", reference("Amount", "The amount of the purchase or hold.")),
            ("available", reference("Amount", "The balance without the part that is held.")),
            ("currency", currency()),
        ],
        ProblemCode::SpendLimitExceeded => vec![
            ("limit", reference("Amount", "The key's spend limit.")),
            ("period", reference("SpendPeriod", "The period of the limit.")),
            ("required", reference("Amount", "The amount of the purchase or hold.")),
            ("available", reference("Amount", "The rest of the limit.")),
            ("currency", currency()),
        ],
        ProblemCode::InsufficientScope => {
            vec![("required_scope", reference("Scope", "The scope that the key lacks."))]
        }
        ProblemCode::InsufficientPermission => vec![(
            "required_permission",
            reference("Permission", "The permission that the admin key lacks."),
        )],
        ProblemCode::KeyLimitReached => {
            let max_keys = int32()
                .description(Some("Live keys that an account may have."))
                .minimum(Some(1))
                .maximum(Some(MAX_KEYS_LIMIT));
            vec![("max_keys", max_keys.into())]
        }
        ProblemCode::HoldNotOpen => {
            vec![("hold_status", reference("HoldStatus", "The status of the hold."))]
        }
        ProblemCode::HoldTooSmall => {
            vec![("held", reference("Amount", "The amount of the hold.")), ("currency", currency())]
        }
        ProblemCode::RefundTooLarge => vec![
            ("refundable", reference("Amount", "The part that was not refunded yet.")),
            ("currency", currency()),
        ],
        ProblemCode::ValidationFailed => {
            let errors = ArrayBuilder::new()
                .items(Ref::from_schema_name("FieldError"))
                .min_items(Some(1))
                .max_items(Some(MAX_ERRORS))
                .description(Some("Everything that is wrong."));
            vec![("errors", errors.into())]
        }
        ProblemCode::MalformedBody
        | ProblemCode::MissingApiKey
        | ProblemCode::InvalidApiKey
        | ProblemCode::MissingAdminKey
        | ProblemCode::InvalidAdminKey
        | ProblemCode::AccountSuspended
        | ProblemCode::NotFound
        | ProblemCode::MethodNotAllowed
        | ProblemCode::RequestTimeout
        | ProblemCode::KeyNotLive
        | ProblemCode::KeyAlreadyRotated
        | ProblemCode::HoldLimitReached
        | ProblemCode::BodyTooLarge
        | ProblemCode::UnsupportedMediaType
        | ProblemCode::IdempotencyMismatch
        | ProblemCode::TooManyInFlight
        | ProblemCode::InternalError
        | ProblemCode::Unavailable => Vec::new(),
    }
}

fn with_members(object: ObjectBuilder, members: Vec<Member>) -> ObjectBuilder {
    let add = |object: ObjectBuilder, (name, schema): Member| {
        object.property(name, schema).required(name)
    };
    members.into_iter().fold(object, add)
}

fn reference(schema: &str, description: &str) -> RefOr<Schema> {
    RefBuilder::new().ref_location_from_schema_name(schema).description(Some(description)).into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_problems_of_a_response_share_a_status() {
        for response in RESPONSES {
            for code in response.codes {
                assert_eq!(code.status(), response.status(), "{code} of {}", response.name);
            }
        }
    }

    #[test]
    fn every_code_is_in_a_response() {
        let documented: BTreeSet<&str> = RESPONSES
            .iter()
            .flat_map(|response| response.codes)
            .map(|code| code.as_str())
            .collect();
        let all: BTreeSet<&str> = ProblemCode::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(documented, all);
    }

    #[test]
    fn a_schema_is_named_after_its_code() {
        assert_eq!(schema_name(ProblemCode::InvalidApiKey), "InvalidApiKeyProblem");
        assert_eq!(schema_name(ProblemCode::NotFound), "NotFoundProblem");
    }
}
