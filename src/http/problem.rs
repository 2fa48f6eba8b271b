//! The errors of the contract, in one place: what the store refuses, and how a client reads it.

use axum::response::{IntoResponse as _, Response};
use serde_json::json;

use crate::{
    auth::{Problem, ProblemCode, chain},
    domain::scope::Scope,
    store::{Refusal, StoreError},
};

/// 404: absent, or not the caller's.
#[must_use]
pub fn not_found() -> Problem {
    Problem::new(ProblemCode::NotFound, "There is no such thing here.")
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
    Problem::new(ProblemCode::NotFound, "This path is not served. See /openapi.json.")
}

/// What answers a method that a path does not take.
pub async fn no_such_method() -> Problem {
    // The method is not repeated: it may be anything, a key in the wrong place too.
    Problem::new(
        ProblemCode::MethodNotAllowed,
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
                ProblemCode::KeyLimitReached,
                format!(
                    "An account may have {max_keys} live keys, and as many that were rotated out and \
                     are in their grace. Revoke one to make room."
                ),
            )
            .with("max_keys", max_keys),
            Refusal::KeyNotLive => Self::new(
                ProblemCode::KeyNotLive,
                "The key is revoked or expired: it cannot be changed or rotated. Create another.",
            ),
            Refusal::KeyAlreadyRotated => Self::new(
                ProblemCode::KeyAlreadyRotated,
                "The key was replaced and dies when its grace ends: it cannot be rotated again, \
                 and its end cannot be put off.",
            ),
            Refusal::ExpiryPassed => validation([json!({
                "pointer": "/expires_at",
                "detail": "the expiry lies in the past",
            })]),
            Refusal::IdempotencyMismatch => Self::new(
                ProblemCode::IdempotencyMismatch,
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
                ProblemCode::HoldLimitReached,
                "An account may have 1000 open holds. Capture or void one to make room.",
            ),
            Refusal::HoldNotOpen { status } => {
                let status = status.as_str();
                let detail = format!("The hold is {status}: it is captured or voided once.");
                Self::new(ProblemCode::HoldNotOpen, detail)
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
        ProblemCode::ValidationFailed,
        "Something in the request is not as it must be: see errors. Nothing was done.",
    )
    .with("errors", errors.into_iter().collect::<Vec<_>>())
}
