//! Maps the refusals and failures of the store to the problems of the HTTP interface.

use axum::response::{IntoResponse as _, Response};
use serde_json::json;

use crate::{
    auth::{Problem, ProblemCode, chain},
    domain::{lifecycle::ExpiryError, plan::MAX_PLANS, scope::Scope},
    store::{Refusal, StoreError},
};

/// Maximum number of entries in `errors`, so that a body full of unknown members gets a short
/// response.
pub const MAX_ERRORS: usize = 50;

/// Returns a 404, because the resource does not exist or the caller may not see it.
#[must_use]
pub fn not_found() -> Problem {
    Problem::new(ProblemCode::NotFound, "No such resource, or it belongs to another account.")
}

/// Returns a 503 for a request that may or may not have taken effect.
#[must_use]
pub fn try_again(why: &str) -> Problem {
    Problem::unavailable(format!(
        "{why} If the request has an Idempotency-Key, send it again with the same key, because it \
         takes effect only once. Without this header, a purchase or hold may still take effect \
         within a few seconds. List the account's purchases or holds before you send it again."
    ))
}

/// Returns the response for a path that does not exist and resembles no route.
pub async fn no_such_path() -> Problem {
    Problem::new(ProblemCode::NotFound, "The service has no such path.")
}

/// Returns the response for a method that a path does not support.
pub async fn no_such_method() -> Problem {
    // The detail does not repeat the method, because a client may have put a key there by mistake.
    Problem::new(
        ProblemCode::MethodNotAllowed,
        "The path does not support this method. The Allow header lists the methods it supports.",
    )
}

/// Returns the response after a handler panicked.
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
                try_again("The service is temporarily unavailable.").because(chain(&*cause))
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
                ProblemCode::KeyLimitReached,
                format!(
                    "The account has {max_keys} live keys, or {max_keys} rotated keys in their \
                     grace period, and may not have more. Revoke one of them first."
                ),
            )
            .with("max_keys", max_keys),
            Refusal::UnknownPlan => validation([json!({
                "pointer": "/plan",
                "detail": "the tenant has no such plan",
            })]),
            Refusal::AgainstPlan(violations) => validation(violations.iter().map(|violation| {
                let pointer = format!("/{}", violation.setting());
                json!({"pointer": pointer, "detail": violation.to_string()})
            })),
            Refusal::PlanInUse => Self::new(
                ProblemCode::PlanInUse,
                "The plan cannot be deleted, because it is the plan default or an account has it. \
                 Give these accounts another plan first.",
            ),
            Refusal::PlanLimitReached => Self::new(
                ProblemCode::PlanLimitReached,
                format!(
                    "The tenant has {MAX_PLANS} plans and may not have more. Delete one first."
                ),
            ),
            Refusal::KeyNotLive => Self::new(
                ProblemCode::KeyNotLive,
                "The key is revoked or expired, so it cannot be changed or rotated. Create a new \
                 key.",
            ),
            Refusal::KeyAlreadyRotated => Self::new(
                ProblemCode::KeyAlreadyRotated,
                "The key was already rotated and expires when its grace period ends. It cannot be \
                 rotated again, and its expiry cannot be postponed. Use the key that replaced it.",
            ),
            Refusal::ExpiryPassed => validation([json!({
                "pointer": "/expires_at",
                "detail": ExpiryError::Past.to_string(),
            })]),
            Refusal::IdempotencyMismatch => Self::new(
                ProblemCode::IdempotencyMismatch,
                "The account has used this Idempotency-Key for a different request. Use a new key \
                 for a new request.",
            ),
            Refusal::BalanceOverflow => validation([json!({
                "pointer": "/amount",
                "detail": "the balance would exceed the maximum",
            })]),
            Refusal::RefundTooLarge { .. } => Self::internal("a refused refund has no currency"),
            Refusal::HoldTooSmall { .. } => Self::internal("a refused capture has no currency"),
            Refusal::HoldLimitReached(limit) => Self::new(
                ProblemCode::HoldLimitReached,
                format!(
                    "The {limit} has {} open holds and may not have more. Capture or void one of \
                     them first.",
                    limit.maximum()
                ),
            ),
            Refusal::HoldNotOpen { status } => {
                let status = status.as_str();
                let detail = format!(
                    "The hold is {status}. Only an open hold can be captured or voided. Create a \
                     new hold."
                );
                Self::new(ProblemCode::HoldNotOpen, detail).with("hold_status", status)
            }
            Refusal::KeyDenied(denial) => denial.into(),
            Refusal::ScopeLost => Self::insufficient_scope(&Scope::purchases_write()),
            Refusal::FormSpent | Refusal::SessionOver => {
                Self::internal("the API received a form of the dashboard")
            }
            Refusal::TenantExists | Refusal::PrefixTaken => {
                Self::internal("the API tried to create a tenant")
            }
        }
    }
}

/// Returns a 422 with all errors, up to [`MAX_ERRORS`].
#[must_use]
pub fn validation(errors: impl IntoIterator<Item = serde_json::Value>) -> Problem {
    Problem::new(
        ProblemCode::ValidationFailed,
        "The request is invalid and had no effect. Correct every error that errors lists.",
    )
    .with("errors", errors.into_iter().take(MAX_ERRORS).collect::<Vec<_>>())
}
