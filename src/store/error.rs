use std::error::Error;

use super::explain;
use crate::domain::{hold::HoldStatus, verification::Denial};

/// Why an operation did not happen. Nothing of it is left in the database.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// What was asked may not be done.
    #[error("refused: {0:?}")]
    Refused(Refusal),
    /// The database cannot be asked now; later it may.
    #[error("the database cannot be asked")]
    Unavailable(#[source] Box<dyn Error + Send + Sync>),
    /// A fault of the program or of the data.
    #[error("the database refused what it was asked")]
    Internal(#[source] Box<dyn Error + Send + Sync>),
}

/// What may not be done, in the words of the contract.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// Absent, or another tenant's or account's.
    NotFound,
    /// The account has as many live keys as it may.
    KeyLimitReached { max_keys: u16 },
    /// A dead key cannot be changed or rotated.
    KeyNotLive,
    /// The key was rotated out already: it dies when its grace ends.
    KeyAlreadyRotated,
    /// The expiry passed on the way to the database.
    ExpiryPassed,
    /// The same Idempotency-Key came before with another body.
    IdempotencyMismatch,
    /// The balance would not fit in 64 bits.
    BalanceOverflow,
    /// More was to be given back than is left of the purchase.
    RefundTooLarge { refundable: i64 },
    /// The account has as many open holds as it may.
    HoldLimitReached,
    /// A hold that is closed cannot be captured or voided.
    HoldNotOpen { status: HoldStatus },
    /// More was to be captured than is held.
    HoldTooSmall { held: i64 },
    /// The key that buys does not pass any more.
    KeyDenied(Denial),
    /// The key that buys lost the scope for it.
    ScopeLost,
    /// The form made a key already: sent again it makes no second one.
    FormSpent,
    /// The dashboard's session was closed meanwhile, or has made as many keys by forms as one may: it
    /// takes a new session to go on.
    SessionOver,
    /// Another tenant has this slug in this environment.
    TenantExists,
    /// The prefix collides with that of another tenant.
    PrefixTaken,
}

impl From<Refusal> for StoreError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl StoreError {
    /// What is stored is not what the program stores.
    pub(super) fn corrupt(column: &'static str, error: impl std::fmt::Display) -> Self {
        Self::Internal(format!("{column} holds what it must not: {error}").into())
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

/// What the log says of an error.
fn cause(error: sqlx::Error) -> Box<dyn Error + Send + Sync> {
    if error.as_database_error().is_some() { explain::message(&error).into() } else { error.into() }
}

/// The constraints that a client can run into, by name. The checks before them make all but
/// races go another way.
fn refusal_of(error: &sqlx::Error) -> Option<Refusal> {
    match error.as_database_error()?.constraint()? {
        "api_keys_dead_stays_dead" => Some(Refusal::KeyNotLive),
        "api_keys_rotated_once" => Some(Refusal::KeyAlreadyRotated),
        "api_keys_expiry_after_creation" => Some(Refusal::ExpiryPassed),
        "tenants_slug_environment" => Some(Refusal::TenantExists),
        "tenants_prefix" => Some(Refusal::PrefixTaken),
        _ => None,
    }
}

/// Whether the connection failed, so that the same may be asked on another.
pub(super) fn is_lost_connection(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(error) => {
            // Shut down by the administrator, crashed, or a connection exception.
            error.code().is_some_and(|code| {
                matches!(&*code, "57P01" | "57P02" | "57P05") || code.starts_with("08")
            })
        }
        _ => false,
    }
}

/// Whether somebody else held a lock for too long: nothing was done.
pub(super) fn is_lock_timeout(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| code == "55P03")
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

/// SQLSTATEs that say nothing of what was asked, only that it cannot be asked now.
fn is_transient_state(code: &str) -> bool {
    // Connection, authorization, database gone, resources, operator intervention, system.
    let classes = ["08", "28", "3D", "53", "57", "58"];
    // Not accepting connections; a lock took too long; a deadlock; a standby that does not write.
    let states = ["55000", "55P03", "40P01", "40001", "25006"];
    classes.iter().any(|class| code.starts_with(class)) || states.contains(&code)
}
