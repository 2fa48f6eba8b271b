use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use serde_json::Value;

use super::{
    StoreError,
    stored_limits::{stored_limits, stored_owner_limits},
};
use crate::domain::rate_limit::{LimitLevel, RateLimit, RateLimits};

/// Maximum number of cached sets. When it is reached, all of them are dropped.
const MAX_SETS: usize = 1024;

/// The rate limits that apply to the calls of a key, in the order key, account, tenant.
pub type LimitSet = Arc<[(LimitLevel, RateLimit)]>;

/// The numbers of changes to the rate limits of a key, of its account, of the account's plans and of
/// its tenant.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct LimitGenerations {
    pub key: i64,
    pub account: i64,
    pub plan: i64,
    pub tenant: i64,
}

/// The stored settings that determine the limits of a key, as JSON texts. `None` means that
/// the setting does not exist.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub(super) struct StoredLimits {
    pub key: Option<String>,
    pub owner: Option<String>,
    pub account: Option<String>,
    pub tenant: Option<String>,
    pub key_defaults: Option<String>,
    pub account_defaults: Option<String>,
}

/// The sets of limits of keys. Equal sets share memory, because a million keys have only a few
/// different sets.
#[derive(Default)]
pub(super) struct LimitSets(Mutex<HashMap<StoredLimits, LimitSet>>);

impl LimitSets {
    /// Returns the limits. The list is empty if no limit applies.
    pub fn get(&self, stored: &StoredLimits) -> Result<LimitSet, StoreError> {
        // No operation leaves the map inconsistent, so a panic in another thread is harmless.
        let mut sets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(set) = sets.get(stored) {
            return Ok(Arc::clone(set));
        }
        let set = stored.limits()?;
        if sets.len() == MAX_SETS {
            sets.clear();
        }
        sets.insert(stored.clone(), Arc::clone(&set));
        Ok(set)
    }
}

impl StoredLimits {
    fn limits(&self) -> Result<LimitSet, StoreError> {
        let key_defaults = stored("plans.key_rate_limits", &self.key_defaults)?;
        let key = stored("api_keys.rate_limits", &self.key)?.or_defaults(&key_defaults);
        let owner = json("api_keys.owner_rate_limits", &self.owner)?;
        let key = stored_owner_limits(owner.as_ref())?.lower(key);
        let account_defaults = stored("plans.account_rate_limits", &self.account_defaults)?;
        let account = stored("accounts.rate_limits", &self.account)?.or_defaults(&account_defaults);
        let tenant = stored("tenant_limits.rate_limits", &self.tenant)?.iter().cloned().collect();
        let levels =
            [(LimitLevel::Key, key), (LimitLevel::Account, account), (LimitLevel::Tenant, tenant)];
        let limits = levels.into_iter().flat_map(|(level, limits): (_, Vec<RateLimit>)| {
            limits.into_iter().map(move |limit| (level, limit))
        });
        Ok(limits.collect())
    }
}

fn stored(column: &'static str, text: &Option<String>) -> Result<RateLimits, StoreError> {
    Ok(stored_limits(column, json(column, text)?.as_ref())?.unwrap_or_default())
}

fn json(column: &'static str, text: &Option<String>) -> Result<Option<Value>, StoreError> {
    let parse = |text: &String| serde_json::from_str(text);
    let value = text.as_ref().map(parse).transpose();
    value.map_err(|error| StoreError::corrupt(column, error))
}
