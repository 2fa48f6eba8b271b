//! What the OpenAPI document says of errors.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::{
    IntoResponses, PartialSchema, ToSchema,
    openapi::{ContentBuilder, Ref, RefOr, ResponseBuilder},
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
