//! Reads the keys of the visitor's account and their maximum number, for several pages.

use super::session::Visitor;
use crate::{
    domain::{lifecycle::KeyStatusFilter, tenant::MAX_KEYS_LIMIT},
    state::AppState,
    store::{ApiKey, StoreError},
};

/// Maximum number of live keys of an account: the highest cap, and the same number of keys in their
/// grace period.
const MAX_LISTED: i64 = 2 * MAX_KEYS_LIMIT as i64;

/// Maximum number of keys that other pages show by name. Older keys appear with their ids.
const NAMED: i64 = 200;

/// Returns all live keys, newest first. The tenant's cap limits their number. The same number of
/// rotated keys may be in a grace period.
pub async fn live_keys(state: &AppState, visitor: &Visitor) -> Result<Vec<ApiKey>, StoreError> {
    let (tenant, account, live) = (visitor.tenant(), visitor.account(), KeyStatusFilter::Live);
    state.store().list_api_keys(tenant, account, live, None, MAX_LISTED).await
}

/// Returns up to 2,000 keys, newest first, including revoked and expired keys.
pub async fn newest_keys(state: &AppState, visitor: &Visitor) -> Result<Vec<ApiKey>, StoreError> {
    let (tenant, account, all) = (visitor.tenant(), visitor.account(), KeyStatusFilter::All);
    state.store().list_api_keys(tenant, account, all, None, MAX_LISTED).await
}

/// Returns the newest keys, including revoked and expired keys, for pages that show names or offer
/// a choice of keys.
pub async fn named_keys(state: &AppState, visitor: &Visitor) -> Result<Vec<ApiKey>, StoreError> {
    let (tenant, account, all) = (visitor.tenant(), visitor.account(), KeyStatusFilter::All);
    state.store().list_api_keys(tenant, account, all, None, NAMED).await
}

/// Counts the live keys that count toward the cap. A key that was rotated out does not.
pub fn count_toward_cap(live: &[ApiKey]) -> usize {
    live.iter().filter(|key| key.rotated_to.is_none()).count()
}

/// Returns the maximum number of live keys.
pub fn cap(visitor: &Visitor) -> usize {
    usize::from(visitor.tenant().policy.max_keys.get())
}
