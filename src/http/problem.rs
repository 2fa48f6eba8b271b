//! The errors of the contract, in one place: what the store refuses, and how a client reads it.

use std::collections::BTreeMap;

use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use serde_json::json;
use utoipa::{
    IntoResponses, PartialSchema, ToSchema,
    openapi::{ContentBuilder, Ref, RefOr, ResponseBuilder},
};

use crate::{
    auth::{Problem, chain},
    domain::scope::Scope,
    store::{Refusal, StoreError},
};

/// An error: problem details (RFC 9457). Members beside these depend on `code`.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemSchema {
    /// `urn:tollgate:problem:` and the code.
    r#type: String,
    title: String,
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// What is wrong with this request, for people.
    detail: String,
    /// What is wrong, for programs: it never changes.
    #[schema(example = "insufficient_balance")]
    code: String,
    request_id: String,
    /// With `validation_failed`: everything that is wrong, at once.
    #[schema(required = false)]
    errors: Option<Vec<FieldErrorSchema>>,
    /// With `insufficient_scope`.
    #[schema(required = false)]
    required_scope: Option<String>,
    /// With `insufficient_permission`.
    #[schema(required = false)]
    required_permission: Option<String>,
    /// With `insufficient_balance` and `spend_limit_exceeded`: the amount that was asked for.
    #[schema(required = false)]
    required: Option<String>,
    /// With `insufficient_balance`: the balance less what is held; with `spend_limit_exceeded`: what is
    /// left of the limit.
    #[schema(required = false)]
    available: Option<String>,
    /// With `spend_limit_exceeded`.
    #[schema(required = false)]
    limit: Option<String>,
    /// With `spend_limit_exceeded`: `day`, `month` or `total`.
    #[schema(required = false)]
    period: Option<String>,
    /// With `refund_too_large`: what can still be given back.
    #[schema(required = false)]
    refundable: Option<String>,
    /// With `hold_too_small`: the amount of the hold.
    #[schema(required = false)]
    held: Option<String>,
    /// With `hold_not_open`: what the hold is.
    #[schema(required = false)]
    hold_status: Option<String>,
    /// Wherever there is an amount.
    #[schema(required = false)]
    currency: Option<String>,
    /// With `key_limit_reached`.
    #[schema(required = false)]
    max_keys: Option<u16>,
}

/// One thing that is wrong, and where: a JSON pointer into the body, the name of a parameter, or
/// that of a header.
#[derive(Serialize, ToSchema)]
#[schema(as = FieldError)]
pub struct FieldErrorSchema {
    #[schema(required = false, example = "/name")]
    pointer: Option<String>,
    #[schema(required = false)]
    parameter: Option<String>,
    #[schema(required = false)]
    header: Option<String>,
    detail: String,
}

/// 404: absent, or not the caller's.
#[must_use]
pub fn not_found() -> Problem {
    Problem::new(404, "not_found", "Not found", "There is no such thing here.")
}

/// 503 for a request of which it is not known whether it was done.
#[must_use]
pub fn try_again(why: &str) -> Problem {
    Problem::unavailable(format!(
        "{why} With an Idempotency-Key, send the request again with the same one: it is done \
         once. A purchase or a hold without one may have been made, or be made within some seconds: \
         look at them first."
    ))
}

/// What answers a path that is not served.
pub async fn no_such_path() -> Problem {
    Problem::new(404, "not_found", "Not found", "This path is not served. See /openapi.json.")
}

/// What answers a method that a path does not take.
pub async fn no_such_method() -> Problem {
    // The method is not repeated: it may be anything, a key in the wrong place too.
    Problem::new(
        405,
        "method_not_allowed",
        "Method not allowed",
        "This path does not take this method. The header Allow says what it takes.",
    )
}

/// The answer when a handler panicked.
pub fn panicked(payload: Box<dyn std::any::Any + Send + 'static>) -> Response {
    let message = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_default();
    Problem::internal(format!("panic: {message}")).into_response()
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Refused(refusal) => refusal.into(),
            StoreError::Unavailable(cause) => {
                try_again("The database cannot be asked now.").because(chain(&*cause))
            }
            StoreError::Internal(cause) => Self::internal(chain(&*cause)),
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotFound => not_found(),
            Refusal::KeyLimitReached { max_keys } => Self::new(
                409,
                "key_limit_reached",
                "The account has all the keys it may have",
                format!(
                    "An account may have {max_keys} live keys, and as many that were rotated out and \
                     are in their grace. Revoke one to make room."
                ),
            )
            .with("max_keys", max_keys),
            Refusal::KeyNotLive => Self::new(
                409,
                "key_not_live",
                "The key is dead",
                "The key is revoked or expired: it cannot be changed or rotated. Create another.",
            ),
            Refusal::KeyAlreadyRotated => Self::new(
                409,
                "key_already_rotated",
                "The key was rotated out",
                "The key was replaced and dies when its grace ends: it cannot be rotated again, \
                 and its end cannot be put off.",
            ),
            Refusal::ExpiryPassed => validation([json!({
                "pointer": "/expires_at",
                "detail": "the expiry lies in the past",
            })]),
            Refusal::IdempotencyMismatch => Self::new(
                422,
                "idempotency_mismatch",
                "The Idempotency-Key was used for another request",
                "The account has used this Idempotency-Key with another body. Use a new key for \
                 a new request.",
            ),
            Refusal::BalanceOverflow => validation([json!({
                "pointer": "/amount",
                "detail": "the balance would be larger than can be kept",
            })]),
            Refusal::RefundTooLarge { .. } => Self::internal("a refund without a currency"),
            Refusal::HoldTooSmall { .. } => Self::internal("a hold without a currency"),
            Refusal::HoldLimitReached => Self::new(
                409,
                "hold_limit_reached",
                "The account has all the open holds it may have",
                "An account may have 1000 open holds. Capture or void one to make room.",
            ),
            Refusal::HoldNotOpen { status } => {
                let status = status.as_str();
                let detail = format!("The hold is {status}: it is captured or voided once.");
                Self::new(409, "hold_not_open", "The hold is not open", detail)
                    .with("hold_status", status)
            }
            Refusal::KeyDenied(denial) => denial.into(),
            Refusal::ScopeLost => Self::insufficient_scope(&Scope::purchases_write()),
            Refusal::FormSpent | Refusal::SessionOver => {
                Self::internal("a form of the dashboard was sent over the interface")
            }
            Refusal::TenantExists | Refusal::PrefixTaken => {
                Self::internal("a tenant was made over HTTP")
            }
        }
    }
}

/// 422 with all that is wrong.
#[must_use]
pub fn validation(errors: impl IntoIterator<Item = serde_json::Value>) -> Problem {
    Problem::new(
        422,
        "validation_failed",
        "The request is not valid",
        "Something in the request is not as it must be: see errors. Nothing was done.",
    )
    .with("errors", errors.into_iter().collect::<Vec<_>>())
}

/// That of a new key.
pub struct KeyLimitReached;
/// Those of a change of a key.
pub struct NotLive;
/// Those of what takes from the balance.
pub struct Declined;
/// That of a new hold.
pub struct HoldLimitReached;
/// Those of a hold that is to be closed.
pub struct NotOpen;
/// That of a refund.
pub struct RefundTooLarge;
/// The problems that every route can answer with.
pub struct AnyRoute;
/// Those of a route that asks for an API key.
pub struct WithApiKey;
/// Those of a route that asks for an admin key.
pub struct WithAdminKey;
/// Those of a route that reads a body.
pub struct WithBody;
/// That of a route with parameters that can be wrong.
pub struct WithParameters;
/// That of a route about something that may be absent.
pub struct WithTarget;

macro_rules! problem_responses {
    ($name:ty, $(($status:literal, $description:literal)),+) => {
        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
                [$(($status.to_owned(), problem_response($description))),+].into()
            }
        }
    };
}

problem_responses!(
    AnyRoute,
    ("500", "`internal_error`: a fault here. The body is fixed; the request id leads to the log."),
    (
        "503",
        "`unavailable`, with `Retry-After`: the database cannot be asked, or no answer came in time."
    )
);
problem_responses!(
    WithApiKey,
    (
        "401",
        "`missing_api_key` or `invalid_api_key` (malformed, unknown, revoked, expired, disabled: not told apart), with `WWW-Authenticate`."
    ),
    ("403", "`account_suspended` or `insufficient_scope`.")
);
problem_responses!(
    WithAdminKey,
    ("401", "`missing_admin_key` or `invalid_admin_key`, with `WWW-Authenticate`."),
    ("403", "`insufficient_permission`: the admin key lacks the permission that is named.")
);
problem_responses!(
    WithBody,
    ("400", "`malformed_body`: the body is not one JSON object without duplicate members."),
    ("408", "`request_timeout`: the body did not come whole in time."),
    ("413", "`body_too_large`."),
    ("415", "`unsupported_media_type`: the body is not `application/json`."),
    ("422", "`validation_failed`: `errors` says all that is wrong, and where.")
);
problem_responses!(
    WithParameters,
    ("422", "`validation_failed`: `errors` says all that is wrong, and where.")
);
problem_responses!(KeyLimitReached, ("409", "`key_limit_reached`: revoke a key to make room."));
problem_responses!(
    NotLive,
    (
        "409",
        "`key_not_live`: a dead key cannot be changed; `key_already_rotated`: its end cannot be put off; `key_limit_reached`: as many are in their grace."
    )
);
problem_responses!(
    Declined,
    ("402", "`insufficient_balance` or `spend_limit_exceeded`: nothing was deducted.")
);
problem_responses!(HoldLimitReached, ("409", "`hold_limit_reached`: too many holds are open."));
problem_responses!(
    NotOpen,
    (
        "409",
        "`hold_not_open`: it is closed; `hold_too_small`: more was to be captured than is held."
    )
);
problem_responses!(
    RefundTooLarge,
    ("409", "`refund_too_large`: more than is left of the purchase.")
);
problem_responses!(WithTarget, ("404", "`not_found`: absent, or another tenant's or account's."));

fn problem_response(description: &str) -> RefOr<utoipa::openapi::Response> {
    let schema = RefOr::Ref(Ref::from_schema_name("Problem"));
    ResponseBuilder::new()
        .description(description)
        .content("application/problem+json", ContentBuilder::new().schema(Some(schema)).build())
        .build()
        .into()
}

/// Named so that the document has the schemas that [`problem_response`] refers to.
pub fn schemas() -> Vec<(String, RefOr<utoipa::openapi::Schema>)> {
    vec![
        (ProblemSchema::name().into(), ProblemSchema::schema()),
        (FieldErrorSchema::name().into(), FieldErrorSchema::schema()),
    ]
}
