//! Reads the keys of the visitor's account, and how many the account may have, for several pages.

use super::session::Visitor;
use crate::{
    domain::{lifecycle::KeyStatusFilter, tenant::MAX_KEYS_LIMIT},
    state::AppState,
    store::{ApiKey, StoreError},
};

/// Maximum number of live keys of an account: the highest cap, and as many in their grace period.
const MAX_LISTED: i64 = 2 * MAX_KEYS_LIMIT as i64;

/// Keys that are called by their names elsewhere; older ones by their ids.
const NAMED: i64 = 200;

/// The live keys, newest first: all of them, since a tenant's cap bounds them, and as many more may
/// be in their grace.
pub async fn live_keys(state: &AppState, visitor: &Visitor) -> Result<Vec<ApiKey>, StoreError> {
    let (tenant, account, live) = (visitor.tenant(), visitor.account(), KeyStatusFilter::Live);
    state.store().list_api_keys(tenant, account, live, None, MAX_LISTED).await
}

/// The newest keys, dead ones too: up to 2,000.
pub async fn newest_keys(state: &AppState, visitor: &Visitor) -> Result<Vec<ApiKey>, StoreError> {
    let (tenant, account, all) = (visitor.tenant(), visitor.account(), KeyStatusFilter::All);
    state.store().list_api_keys(tenant, account, all, None, MAX_LISTED).await
}

/// The newest keys, dead ones too: those that a page calls by their names, or offers in a list.
pub async fn named_keys(state: &AppState, visitor: &Visitor) -> Result<Vec<ApiKey>, StoreError> {
    let (tenant, account, all) = (visitor.tenant(), visitor.account(), KeyStatusFilter::All);
    state.store().list_api_keys(tenant, account, all, None, NAMED).await
}

/// How many of these live keys count toward the cap: one that was rotated out does not.
pub fn count_toward_cap(live: &[ApiKey]) -> usize {
    live.iter().filter(|key| key.rotated_to.is_none()).count()
}

/// How many there may be.
pub fn cap(visitor: &Visitor) -> usize {
    usize::from(visitor.tenant().policy.max_keys.get())
}
