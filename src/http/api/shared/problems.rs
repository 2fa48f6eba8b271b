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

/// The name and the schema of a required member of a problem.
type Member = (&'static str, RefOr<Schema>);

/// A response in the document. It describes problems that share a status.
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
        "The body is not a JSON object, or it has duplicate members.";
    API_KEY_UNAUTHORIZED: "ApiKeyUnauthorized", [MissingApiKey, InvalidApiKey],
        "The API key is missing, or it is malformed, unknown, revoked, expired or disabled, or it may \
         not be used from the client's address. The response does not say which.";
    ADMIN_KEY_UNAUTHORIZED: "AdminKeyUnauthorized", [MissingAdminKey, InvalidAdminKey],
        "The admin key is missing or invalid.";
    DECLINED: "Declined", [InsufficientBalance, SpendLimitExceeded],
        "The balance or the key's spend limit is too small. Nothing was deducted.";
    API_KEY_FORBIDDEN: "ApiKeyForbidden",
        [TenantSuspended, AccountSuspended, InsufficientScope],
        "The tenant or the account is suspended, or the API key lacks the scope.";
    ADMIN_KEY_FORBIDDEN: "AdminKeyForbidden", [TenantSuspended, InsufficientPermission],
        "The tenant is suspended, or the admin key lacks the permission.";
    NOT_FOUND: "NotFound", [NotFound],
        "No such resource, or it belongs to another tenant or account.";
    METHOD_NOT_ALLOWED: "MethodNotAllowed", [MethodNotAllowed],
        "The path does not support this method.";
    REQUEST_TIMEOUT: "RequestTimeout", [RequestTimeout],
        "The body did not arrive in time.";
    KEY_LIMIT_REACHED: "KeyLimitReached", [KeyLimitReached],
        "The account has reached its maximum number of live keys.";
    PLAN_IN_USE: "PlanInUse", [PlanInUse],
        "An account has the plan, or the plan is `default`.";
    PLAN_LIMIT_REACHED: "PlanLimitReached", [PlanLimitReached],
        "The tenant has the maximum number of plans.";
    KEY_NOT_CHANGEABLE: "KeyNotChangeable", [KeyNotLive, KeyAlreadyRotated, KeyLimitReached],
        "The key is revoked, expired or already rotated, or too many rotated keys are in their \
         grace period.";
    HOLD_LIMIT_REACHED: "HoldLimitReached", [HoldLimitReached],
        "The key or its account has reached its maximum number of open holds.";
    HOLD_NOT_CAPTURABLE: "HoldNotCapturable", [HoldNotOpen, HoldTooSmall],
        "The hold is closed, or its amount is smaller than the amount to capture.";
    HOLD_NOT_OPEN: "HoldNotOpen", [HoldNotOpen],
        "The hold is closed.";
    REFUND_TOO_LARGE: "RefundTooLarge", [RefundTooLarge],
        "The amount is larger than the part of the purchase that has not been refunded yet.";
    BODY_TOO_LARGE: "BodyTooLarge", [BodyTooLarge],
        "The body is too large.";
    UNSUPPORTED_MEDIA_TYPE: "UnsupportedMediaType", [UnsupportedMediaType],
        "The body is not `application/json`.";
    VALIDATION_FAILED: "ValidationFailed", [ValidationFailed],
        "The request is invalid. `errors` lists the errors.";
    IDEMPOTENT_REQUEST_INVALID: "IdempotentRequestInvalid", [ValidationFailed, IdempotencyMismatch],
        "The request is invalid, or the `Idempotency-Key` was used for a different request.";
    RATE_LIMITED: "RateLimited", [RateLimited],
        "The request is over a rate limit of the API key, of its account or of its tenant.";
    TOO_MANY_IN_FLIGHT: "TooManyInFlight", [TooManyInFlight],
        "The API key has the maximum number of requests in flight. Wait for a response.";
    INTERNAL_ERROR: "InternalError", [InternalError],
        "The service failed to process the request. Its log contains the cause and the request id.";
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
    /// Problems of every route.
    AnyRoute: INTERNAL_ERROR, UNAVAILABLE;
    /// Problems of a route without a credential.
    OpenRoute: METHOD_NOT_ALLOWED;
    /// Problems of a route that requires an API key.
    WithApiKey: API_KEY_UNAUTHORIZED, API_KEY_FORBIDDEN;
    /// Problems of a route that requires an admin key.
    WithAdminKey: ADMIN_KEY_UNAUTHORIZED, ADMIN_KEY_FORBIDDEN;
    /// Problems of a route whose requests are charged to rate limits.
    Charged: RATE_LIMITED;
    /// Problems of a route that limits an API key's requests in flight.
    WithBoundInFlight: TOO_MANY_IN_FLIGHT;
    /// Problems of a route with parameters that can be invalid.
    WithParameters: VALIDATION_FAILED;
    /// Problems of a route that reads a body.
    WithBody: MALFORMED_BODY, REQUEST_TIMEOUT, BODY_TOO_LARGE, UNSUPPORTED_MEDIA_TYPE,
        VALIDATION_FAILED;
    /// Problems of a route that takes an idempotency key. Must follow [`WithBody`], whose 422 it
    /// replaces.
    WithIdempotencyKey: IDEMPOTENT_REQUEST_INVALID;
    /// Problems of a route whose resource may not exist.
    WithTarget: NOT_FOUND;
    /// Problems of a purchase, a hold or a capture that is declined.
    Declined: DECLINED;
    /// Problems specific to creating a key.
    KeyLimitReached: KEY_LIMIT_REACHED;
    /// Problems specific to deleting a plan.
    PlanInUse: PLAN_IN_USE;
    /// Problems specific to creating a plan.
    PlanLimitReached: PLAN_LIMIT_REACHED;
    /// Problems specific to changing or rotating a key.
    KeyNotChangeable: KEY_NOT_CHANGEABLE;
    /// Problems specific to creating a hold.
    HoldLimitReached: HOLD_LIMIT_REACHED;
    /// Problems specific to capturing a hold.
    HoldNotCapturable: HOLD_NOT_CAPTURABLE;
    /// Problems specific to voiding a hold.
    HoldNotOpen: HOLD_NOT_OPEN;
    /// Problems specific to refunding a purchase.
    RefundTooLarge: REFUND_TOO_LARGE;
}

impl ProblemResponse {
    fn status(&self) -> StatusCode {
        self.codes[0].status()
    }

    /// Returns the header of problems with this status. A 402 response contains its header only if
    /// it is a replay.
    fn header(&self) -> Option<ResponseHeader> {
        match self.status() {
            StatusCode::UNAUTHORIZED => Some(ResponseHeader::WwwAuthenticate),
            StatusCode::PAYMENT_REQUIRED => Some(ResponseHeader::IdempotentReplayed),
            StatusCode::METHOD_NOT_ALLOWED => Some(ResponseHeader::Allow),
            StatusCode::SERVICE_UNAVAILABLE => Some(ResponseHeader::RetryAfter),
            _ => None,
        }
    }

    /// Returns an operation's entry for the response.
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

/// Returns all problem responses of the document, by name.
pub fn responses() -> impl Iterator<Item = (&'static str, Response)> {
    RESPONSES.iter().map(|response| (response.name, response.definition()))
}

/// Returns the schemas that these responses refer to, by name.
pub fn schemas() -> Schemas {
    let mut schemas = vec![
        ("Problem".to_owned(), problem()),
        ("ProblemCode".to_owned(), problem_code()),
        ("FieldError".to_owned(), field_error()),
    ];
    schemas.extend(ProblemCode::ALL.iter().map(|code| (schema_name(*code), problem_with(*code))));
    schemas
}

/// Converts a code such as `invalid_api_key` to a schema name such as `InvalidApiKeyProblem`.
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

/// Returns the schema of the members that all problems share.
fn problem() -> RefOr<Schema> {
    let uri = formatted("uri", "`urn:tollgate:problem:`, followed by the code.")
        .pattern(Some("^urn:tollgate:problem:[a-z_]+$"));
    let status =
        int32().description(Some("The HTTP status.")).minimum(Some(400)).maximum(Some(599));
    let object = with_members(
        ObjectBuilder::new(),
        vec![
            ("type", uri.into()),
            ("title", string("The kind of problem, for people.").into()),
            ("status", status.into()),
            ("detail", string("An explanation for people: the cause, then the remedy.").into()),
            ("code", Ref::from_schema_name("ProblemCode").into()),
            ("request_id", Ref::from_schema_name("RequestId").into()),
        ],
    );
    let page = formatted(
        "uri",
        "The address of the documentation page about the `code`, which says what happened and how to \
         fix it. Absent if the service does not serve its documentation.",
    );
    let description =
        "An error as problem details (RFC 9457). `code` determines the additional members.";
    object.property("documentation_url", page).description(Some(description)).into()
}

fn problem_code() -> RefOr<Schema> {
    string("The kind of problem, for programs. The meaning of a code never changes.")
        .enum_values(Some(ProblemCode::ALL.iter().map(|code| code.as_str())))
        .into()
}

fn field_error() -> RefOr<Schema> {
    let pointer = string("JSON pointer (RFC 6901) to the invalid member of the body.");
    ObjectBuilder::new()
        .description(Some("An error in a member of the body, in a parameter or in a header."))
        .property("pointer", pointer.examples(["/name"]))
        .property("parameter", string("Name of the invalid parameter."))
        .property("header", string("Name of the invalid header."))
        .property("detail", string("Description of the error, for people."))
        .required("detail")
        .into()
}

/// Returns the schema of the problems with this code.
fn problem_with(code: ProblemCode) -> RefOr<Schema> {
    let only = ObjectBuilder::new().schema_type(Type::String).enum_values(Some([code.as_str()]));
    let own = with_members(ObjectBuilder::new(), vec![("code", only.into())]);
    AllOfBuilder::new()
        .description(Some(format!("{}: {}.", code.title(), code.status().as_u16())))
        .item(Ref::from_schema_name("Problem"))
        .item(with_members(own, members(code)))
        .into()
}

/// Returns the required members of problems with this code, in addition to the shared members.
fn members(code: ProblemCode) -> Vec<Member> {
    let currency = || reference("CurrencyCode", "The currency of the amounts.");
    match code {
        ProblemCode::InsufficientBalance => vec![
            ("required", reference("Amount", "The amount of the purchase or hold.")),
            ("available", reference("Amount", "The balance minus the amounts of open holds.")),
            ("currency", currency()),
        ],
        ProblemCode::SpendLimitExceeded => vec![
            ("limit", reference("Amount", "The key's spend limit.")),
            ("period", reference("SpendPeriod", "The period of the limit.")),
            ("required", reference("Amount", "The amount of the purchase or hold.")),
            ("available", reference("Amount", "The remaining part of the limit.")),
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
                .description(Some("Maximum number of live keys of the account."))
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
            ("refundable", reference("Amount", "The amount that can still be refunded.")),
            ("currency", currency()),
        ],
        ProblemCode::ValidationFailed => {
            let errors = ArrayBuilder::new()
                .items(Ref::from_schema_name("FieldError"))
                .min_items(Some(1))
                .max_items(Some(MAX_ERRORS))
                .description(Some("The errors in the request."));
            vec![("errors", errors.into())]
        }
        ProblemCode::RateLimited => vec![
            (
                "limit",
                string(
                    "A limit that is smaller than the cost, or else the refusing limit that resets \
                     last.",
                )
                .into(),
            ),
            (
                "limits",
                ArrayBuilder::new()
                    .items(string("The name of a limit."))
                    .description(Some("The limits that refuse the request."))
                    .into(),
            ),
        ],
        ProblemCode::MalformedBody
        | ProblemCode::MissingApiKey
        | ProblemCode::InvalidApiKey
        | ProblemCode::MissingAdminKey
        | ProblemCode::InvalidAdminKey
        | ProblemCode::TenantSuspended
        | ProblemCode::AccountSuspended
        | ProblemCode::NotFound
        | ProblemCode::MethodNotAllowed
        | ProblemCode::RequestTimeout
        | ProblemCode::PlanInUse
        | ProblemCode::PlanLimitReached
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
    fn problems_of_a_response_share_a_status() {
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
    fn schema_is_named_after_its_code() {
        assert_eq!(schema_name(ProblemCode::InvalidApiKey), "InvalidApiKeyProblem");
        assert_eq!(schema_name(ProblemCode::NotFound), "NotFoundProblem");
    }
}
