//! Reads the keys of the visitor's account, their maximum number and their last uses, for several
//! pages.

use std::{collections::BTreeMap, error::Error, future::Future, time::Duration};

use super::session::Visitor;
use crate::{
    domain::{id::KeyId, lifecycle::KeyStatusFilter, tenant::MAX_KEYS_LIMIT, timestamp::Timestamp},
    state::AppState,
    store::{ApiKey, StoreError},
};

/// Maximum number of live keys of an account. It is the highest cap, plus as many rotated keys in a
/// grace period.
pub const MAX_LISTED: i64 = 2 * MAX_KEYS_LIMIT as i64;

/// Maximum number of keys that other pages show by name. Older keys appear with their ids.
const NAMED: i64 = 200;

/// Returns all live keys, newest first. The tenant's cap limits their number. In addition, as many
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

/// Counts the live keys that count toward the cap. A rotated key does not count.
pub fn count_toward_cap(live: &[ApiKey]) -> usize {
    live.iter().filter(|key| key.rotated_to.is_none()).count()
}

/// Time limit for reading details that a page about keys can omit.
const PATIENCE: Duration = Duration::from_secs(2);

/// Reads `details` that a page about keys can omit. Owners revoke keys on these pages, so the pages
/// must not fail with the details. If the read fails or takes too long, logs that and returns `None`.
pub async fn read_or_omit<T>(
    visitor: &Visitor,
    details: &str,
    reading: impl Future<Output = Result<T, StoreError>>,
) -> Option<T> {
    let error: Box<dyn Error + Send + Sync> = match tokio::time::timeout(PATIENCE, reading).await {
        Ok(Ok(read)) => return Some(read),
        Ok(Err(error)) => error.into(),
        Err(late) => late.into(),
    };
    let (tenant, error) = (visitor.tenant().slug.as_str(), &*error as &dyn Error);
    tracing::warn!(
        tenant,
        details,
        error,
        "failed to read details of keys, so the page omits them"
    );
    None
}

/// When keys were last used. Contains the time of each key's newest purchase, if there is one.
pub struct LastUses(BTreeMap<KeyId, Timestamp>);

impl LastUses {
    /// Reads the last uses of these keys. If the newest purchases cannot be read, only the recorded
    /// uses count.
    pub async fn read(state: &AppState, visitor: &Visitor, keys: &[ApiKey]) -> Self {
        let (tenant, account) = (visitor.tenant(), visitor.account());
        let ids: Vec<KeyId> = keys.iter().map(|key| key.id).collect();
        let reading = state.store().newest_purchases(tenant, account, &ids);
        Self(read_or_omit(visitor, "newest purchases", reading).await.unwrap_or_default())
    }

    /// Returns the time of the last recorded use or of the newest purchase, whichever is later.
    /// Nodes record uses a few seconds late.
    pub fn of(&self, key: &ApiKey) -> Option<Timestamp> {
        key.last_used_at.max(self.0.get(&key.id).copied())
    }
}

/// Returns the account's cap, which is the maximum number of live keys, not counting rotated keys.
pub fn cap(visitor: &Visitor) -> usize {
    usize::from(visitor.plan().max_keys.get())
}
