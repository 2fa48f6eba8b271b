//! Access to Postgres. Each noun of the domain has a file. Each method is one business operation
//! and one transaction.
//!
//! Only this module and `schema` use sqlx. Every method takes the tenant or the account as its
//! first argument. Every change to an account or its keys first locks the account's row. *Later*
//! statements read the data on which the change depends, so they see everything that was committed
//! during the wait for the lock. Times come from the database's clock.

mod accounts;
mod acknowledged;
mod audit;
mod changes;
mod clock;
mod connection;
mod connection_limits;
mod connection_url;
mod dashboard;
mod database;
mod error;
mod explain;
mod external_ids;
mod hold_voids;
mod host_choice;
mod hosts;
mod keys;
mod limit_sets;
mod lookups;
mod lost_tail;
mod money;
mod node_lease;
mod nodes;
mod percent;
mod pinned_schema;
mod pool;
mod pooler;
mod primary;
mod rate_limits;
mod readiness;
mod scope_sets;
mod servers;
mod stored_allowed_ips;
mod stored_limits;
mod tenant_directory;
mod tls;
mod transaction;
mod turns;
mod under_lease;
mod unreachable;
mod url_parameters;
mod window_tag;

pub use accounts::admin_keys::{AdminKey, AdminVerification};
pub use accounts::{
    account::{Account, AccountChange},
    handle::AccountHandle,
    plans::PlanLimits,
    tenants::NewTenant,
};
pub use acknowledged::{Acknowledged, AcknowledgedEntry, AcknowledgedRevoke, AcknowledgedTail};
pub use audit::{AuditEvent, AuditFilter};
pub use changes::{Affected, ChangeId};
pub use dashboard::forms::FormClaim;
pub use dashboard::links::{DashboardLink, FoundLink, LinkTarget};
pub use dashboard::sessions::DashboardSession;
pub use dashboard::settings::DashboardChange;
pub use dashboard::sign_ins::{NewSignIn, SignInAttempt, SignInOutcome};
pub use database::Store;
pub use error::{Refusal, StoreError};
pub use keys::activity::{ACTIVITY_HOURS, KeyActivity, PurchasesByHour};
pub use keys::api_keys::NoExpiry;
pub use keys::clients::{
    ClientCursor, KeyClients, KeyNetwork, KeyRefusal, LastClient, RefusedClient, StoredClient,
    UsedClient, UsedClients,
};
pub use keys::row::ApiKey;
pub use keys::usage::KeyUse;
pub use keys::verifications::{KeyRead, OwnKey, Verification, VerifiedLimits};
pub use limit_sets::{LimitGenerations, LimitSet};
pub use lost_tail::MAX_LOOKED_FOR;
pub use money::batches::{Batch, BatchConnection, MAX_BATCH};
pub use money::composites::COMPOSITES;
pub use money::credits::{Credit, Credited};
pub use money::entries::{BalanceThen, EntryFilter, EntryRange, LedgerEntry};
pub use money::holds::{Hold, HoldFilter};
pub use money::ledger_check::LedgerCheck;
pub use money::operations::{
    BatchOutcome, Decline, Done, DoneNow, Operation, OperationAction, OperationKind,
};
pub use money::purchases::Purchase;
pub use money::refunds::{Refund, Refunded};
pub use node_lease::NodeLease;
pub use nodes::acknowledgements::Acknowledgements;
pub use nodes::notices::Notice;
pub use nodes::sessions::{LEASE_BOUNDS, NodeSession, Renewal};
pub use pool::{ConnectError, PoolSettings, PoolState};
pub use rate_limits::recalls::MAX_RECALLED;
pub use rate_limits::shares::{LimitRow, ShareAnswer, ShareAsk};
pub use rate_limits::windows::{LimitWindow, WindowCursor};
pub use readiness::NotReady;
pub use tls::SSL_MODES;
pub use turns::{Places, Turn, of_request, set_tenant};
pub use window_tag::WindowTag;
