use std::error::Error;

use super::explain;
use crate::domain::{
    hold::{HoldLimit, HoldStatus},
    plan::PlanViolation,
    verification::Denial,
};

/// The SQLSTATE of a write on a server that refuses writes.
const READ_ONLY: &str = "25006";

/// The reason why an operation failed. A failed operation has not changed the database, with one
/// exception. After [`StoreError::Unavailable`], the operation may have taken effect if the
/// connection was lost during the commit.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operation is not allowed.
    #[error("refused: {0:?}")]
    Refused(Refusal),
    /// The database is not available. A retry may succeed.
    #[error("the database is unavailable")]
    Unavailable(#[source] Box<dyn Error + Send + Sync>),
    /// The program or the data has a fault.
    #[error("the database refused a statement")]
    Internal(#[source] Box<dyn Error + Send + Sync>),
}

/// The reason why an operation is not allowed, in the terms of the API.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The resource is absent, or belongs to another tenant or account.
    NotFound,
    /// The account has its maximum number of live keys.
    KeyLimitReached { max_keys: u16 },
    /// The tenant has no plan with this name.
    UnknownPlan,
    /// The settings of the key break rules of its account's plan.
    AgainstPlan(Vec<PlanViolation>),
    /// The plan is `default`, or an account has it, so it cannot be deleted.
    PlanInUse,
    /// The tenant has its maximum number of plans.
    PlanLimitReached,
    /// A revoked or expired key cannot be changed or rotated.
    KeyNotLive,
    /// The key was already rotated, and expires when its grace period ends.
    KeyAlreadyRotated,
    /// The expiry passed before the statement reached the database.
    ExpiryPassed,
    /// The Idempotency-Key was already used for a different request.
    IdempotencyMismatch,
    /// The balance would not fit in 64 bits.
    BalanceOverflow,
    /// The refund is larger than the rest of the purchase.
    RefundTooLarge { refundable: i64 },
    /// The key or its account has its maximum number of open holds.
    HoldLimitReached(HoldLimit),
    /// The hold is closed, so it cannot be captured or voided.
    HoldNotOpen { status: HoldStatus },
    /// The capture is larger than the hold.
    HoldTooSmall { held: i64 },
    /// The key of the operation is now refused.
    KeyDenied(Denial),
    /// The key of the operation no longer has the required scope.
    ScopeLost,
    /// The form has already created a key. Submitting it again creates no second key.
    FormSpent,
    /// The dashboard session was closed in the meantime, or has created its maximum number of keys.
    /// The owner has to open a new session.
    SessionOver,
    /// Another tenant has this slug in this environment.
    TenantExists,
    /// The prefix collides with another tenant's prefix.
    PrefixTaken,
}

impl From<Refusal> for StoreError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl StoreError {
    /// Creates an error for a stored value that the program would never write.
    pub(super) fn corrupt(column: &'static str, error: impl std::fmt::Display) -> Self {
        Self::Internal(format!("{column} has an invalid value: {error}").into())
    }
}

impl From<crate::entropy::EntropyError> for StoreError {
    fn from(error: crate::entropy::EntropyError) -> Self {
        Self::Internal(error.into())
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match refusal_of(&error) {
            Some(refusal) => Self::Refused(refusal),
            None if is_transient(&error) => Self::Unavailable(cause(error)),
            None => Self::Internal(cause(error)),
        }
    }
}

/// Converts an error for the log.
fn cause(error: sqlx::Error) -> Box<dyn Error + Send + Sync> {
    match error {
        sqlx::Error::Database(_) | sqlx::Error::PoolTimedOut => explain::message(&error).into(),
        other => other.into(),
    }
}

/// Maps the constraints that a client can violate to refusals. Earlier checks prevent all
/// violations except in races.
fn refusal_of(error: &sqlx::Error) -> Option<Refusal> {
    match error.as_database_error()?.constraint()? {
        "api_keys_dead_stays_dead" => Some(Refusal::KeyNotLive),
        "api_keys_rotated_once" => Some(Refusal::KeyAlreadyRotated),
        "api_keys_expiry_after_creation" => Some(Refusal::ExpiryPassed),
        "accounts_plan" => Some(Refusal::UnknownPlan),
        "plans_in_use" => Some(Refusal::PlanInUse),
        "tenants_slug_environment" => Some(Refusal::TenantExists),
        "tenants_prefix" => Some(Refusal::PrefixTaken),
        _ => None,
    }
}

/// Whether the connection failed, so that the statement may be repeated on another connection.
pub(super) fn is_lost_connection(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(error) => {
            // These states mean a shutdown by an administrator, a crash, an idle-session timeout, a
            // write on a standby, or a connection exception.
            error.code().is_some_and(|code| {
                matches!(&*code, "57P01" | "57P02" | "57P05" | "25P03" | READ_ONLY)
                    || code.starts_with("08")
            })
        }
        _ => false,
    }
}

/// Whether another transaction held a lock for too long. The statement had no effect.
pub(super) fn is_lock_timeout(error: &sqlx::Error) -> bool {
    has_state(error, "55P03")
}

/// Whether the server refuses writes because it is a standby.
pub(super) fn is_read_only(error: &sqlx::Error) -> bool {
    has_state(error, READ_ONLY)
}

fn has_state(error: &sqlx::Error, state: &str) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| code == state)
}

fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::Tls(_) => true,
        sqlx::Error::Database(database) => {
            database.code().is_some_and(|code| is_transient_state(&code))
        }
        _ => is_lost_connection(error),
    }
}

/// Whether an SQLSTATE means a temporary failure, which does not depend on the statement.
fn is_transient_state(code: &str) -> bool {
    // The classes are connection exceptions, invalid authorization, missing database, insufficient
    // resources, operator intervention and system errors.
    let classes = ["08", "28", "3D", "53", "57", "58"];
    // The states mean that the server accepts no connections, that a lock took too long, that there
    // was a deadlock, that a standby refused a write, or that a newer node replaced a function
    // while this statement waited.
    let states = ["55000", "55P03", "40P01", "40001", READ_ONLY, "42883"];
    classes.iter().any(|class| code.starts_with(class)) || states.contains(&code)
}
