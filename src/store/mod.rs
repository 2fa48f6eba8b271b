//! Postgres: a file a noun, one method a business operation, one operation a transaction.
//!
//! Nothing else names sqlx. Every method takes the tenant or the account first. Every change of
//! an account or its keys locks the account's row first and reads what it decides on in *later*
//! statements, which see what was committed while it waited. The clock is the database's.

mod accounts;
mod activity;
mod admin_keys;
mod api_key_changes;
mod api_keys;
mod audit;
mod batches;
mod changes;
mod clock;
mod credits;
mod error;
mod holds;
mod idempotency;
mod ledger;
mod ledger_check;
mod lookups;
mod nodes;
mod pool;
mod portal_forms;
mod portal_links;
mod portal_sessions;
mod portal_settings;
mod purchases;
mod refunds;
mod scope_sets;
mod sign_ins;
mod tenant_directory;
mod tenants;
mod usage;
mod verifications;

pub use accounts::Account;
pub use activity::{ACTIVITY_HOURS, KeyActivity, SpendByHour};
pub use admin_keys::{AdminKey, AdminVerification};
pub use api_key_changes::KeyChange;
pub use api_keys::{ApiKey, KeyFilter, NewApiKey};
pub use audit::{AuditEvent, AuditFilter};
pub use batches::{
    Batch, BatchConnection, Decline, Done, DoneNow, MAX_BATCH, Operation, OperationAction, Outcome,
};
pub use changes::ChangeId;
pub use credits::{Credit, Credited};
pub use error::{Refusal, StoreError};
pub use holds::{Hold, HoldStatus};
pub use ledger::{BalanceThen, Direction, EntryFilter, EntryKind, EntryRange, LedgerEntry};
pub use ledger_check::LedgerCheck;
pub use nodes::{LEASE_BOUNDS, NodeSession, Notice, Renewal};
pub use pool::{ConnectError, PoolSettings, PoolState};
pub use portal_forms::FormClaim;
pub use portal_links::{LinkTarget, PortalLink};
pub use portal_sessions::{PortalSession, SignInWay};
pub use portal_settings::PortalChange;
pub use purchases::Purchase;
pub use refunds::{Refund, Refunded};
pub use sign_ins::{NewSignIn, SignInAttempt, SignInOutcome};
pub use usage::KeyUse;
pub use verifications::{OwnKey, Verification};

use std::{sync::Arc, time::Duration};

use changes::Changes;
use lookups::Lookups;
use pool::Listener;
use scope_sets::ScopeSets;
use sqlx::PgPool;
use tenant_directory::TenantDirectory;

/// The database. Cheap to share behind an `Arc`; holds the pool of connections.
pub struct Store {
    pool: PgPool,
    /// Connections of their own: a look-up waits for no purchase.
    lookups: Arc<Lookups>,
    /// So does a batch for no list.
    batches: PgPool,
    listener: Listener,
    changes: Arc<Changes>,
    max_connections: u32,
    /// For a read, with the wait for a connection.
    read_timeout: Duration,
    tenants: TenantDirectory,
    scope_sets: ScopeSets,
}
