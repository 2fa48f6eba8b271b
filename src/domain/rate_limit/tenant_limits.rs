use serde_json::{Map, Value, json};

use super::list::RateLimits;

/// The rate limits of a tenant, and the defaults of its plan `default`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TenantLimits {
    /// The limits of all calls of the tenant together.
    pub own: RateLimits,
    /// The default limits of each key.
    pub keys: RateLimits,
    /// The default limits of each account.
    pub accounts: RateLimits,
}

/// A change to the rate limits of a tenant, or to the defaults of its plan `default`. A list that is `None` stays unchanged.
#[derive(Clone, Debug, Default)]
pub struct TenantLimitsChange {
    /// The new limits of all calls of the tenant together.
    pub own: Option<RateLimits>,
    /// The new default limits of each key.
    pub keys: Option<RateLimits>,
    /// The new default limits of each account.
    pub accounts: Option<RateLimits>,
}

impl TenantLimits {
    /// Returns the lists that differ in `new`, as the audit event of a change shows them.
    #[must_use]
    pub fn differences(&self, new: &Self) -> Map<String, Value> {
        let lists = [
            ("rate_limits", &self.own, &new.own),
            ("key_rate_limits", &self.keys, &new.keys),
            ("account_rate_limits", &self.accounts, &new.accounts),
        ];
        let changed = lists.into_iter().filter(|(_, from, to)| from != to);
        let difference = |(name, from, to): (&str, &RateLimits, &RateLimits)| {
            (name.to_owned(), json!({"from": from.to_value(), "to": to.to_value()}))
        };
        changed.map(difference).collect()
    }
}

impl TenantLimitsChange {
    /// Whether the change contains no list.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { own, keys, accounts } = self;
        own.is_none() && keys.is_none() && accounts.is_none()
    }

    /// Returns the limits after this change.
    #[must_use]
    pub fn applied_to(&self, old: &TenantLimits) -> TenantLimits {
        let Self { own, keys, accounts } = self.clone();
        TenantLimits {
            own: own.unwrap_or_else(|| old.own.clone()),
            keys: keys.unwrap_or_else(|| old.keys.clone()),
            accounts: accounts.unwrap_or_else(|| old.accounts.clone()),
        }
    }
}
