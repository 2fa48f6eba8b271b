//! The settings of an API key, changes to them, and their form in the audit trail.

use serde_json::{Map, Value, json};

use super::{
    allowed_ips::AllowedIps,
    amount::Currency,
    lifecycle::Expiry,
    rate_limit::{OwnerLimits, RateLimits},
    scope::ScopeSet,
    spend_limit::SpendLimit,
    text::{Metadata, Name},
    timestamp::Timestamp,
};

/// The settings of an API key. The tenant and the account's owner can change them.
#[derive(Clone, PartialEq, Debug)]
pub struct KeySettings {
    /// The key's name, for people. Names may repeat.
    pub name: Name,
    /// The scopes, which define what the key may do.
    pub scopes: ScopeSet,
    /// The moment when the key expires. `None` means that it never expires.
    pub expires_at: Option<Timestamp>,
    /// Whether the key is enabled. A disabled key is refused, but it is live and can be enabled
    /// again.
    pub enabled: bool,
    /// The spend limit. `None` means that the key can spend the whole balance.
    pub spend_limit: Option<SpendLimit>,
    /// The rate limits of the key. `None` means that only the plan's defaults apply.
    pub rate_limits: Option<RateLimits>,
    /// The lower numbers of calls that the account's owner has chosen.
    pub owner_limits: OwnerLimits,
    /// The networks from which the key may be used. `None` means any address that the account
    /// allows.
    pub allowed_ips: Option<AllowedIps>,
    /// The tenant's own data, which the service does not interpret.
    pub metadata: Metadata,
}

/// A change to some settings. A field that is `None` leaves the setting unchanged.
#[derive(Clone, Debug, Default)]
pub struct KeyChange {
    /// The new name of the key.
    pub name: Option<Name>,
    /// The new scopes, which replace all old scopes.
    pub scopes: Option<ScopeSet>,
    /// The new expiry. `Some(None)` means that the key never expires.
    pub expiry: Option<Option<Expiry>>,
    /// Whether the key is enabled after the change.
    pub enabled: Option<bool>,
    /// The new spend limit. `Some(None)` removes the limit.
    pub spend_limit: Option<Option<SpendLimit>>,
    /// The new rate limits, which replace all old ones. `Some(None)` removes them, so that only the
    /// tenant's defaults apply.
    pub rate_limits: Option<Option<RateLimits>>,
    /// The new numbers of the account's owner, which replace all old ones.
    pub owner_limits: Option<OwnerLimits>,
    /// The new networks, which replace all old ones. `Some(None)` removes them, so that the key may
    /// be used from any address that the account allows.
    pub allowed_ips: Option<Option<AllowedIps>>,
    /// The new metadata, which replaces all of the old metadata.
    pub metadata: Option<Metadata>,
}

impl KeySettings {
    /// Returns the settings of a new key, as its audit event shows them. The event omits metadata,
    /// because metadata is the tenant's own data. It also omits `enabled`, because a caller does
    /// not choose it. Only the successor of a disabled key is disabled from the start.
    #[must_use]
    pub fn audited(&self, currency: &Currency) -> Map<String, Value> {
        let members = self.members(currency).into_iter();
        let members = members.filter(|(name, _)| *name != "enabled");
        members.map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// Returns the members that differ in `new`, as the audit event of a change shows them. For
    /// metadata, the event shows only that it changed.
    #[must_use]
    pub fn differences(&self, new: &Self, currency: &Currency) -> Map<String, Value> {
        let pairs = self.members(currency).into_iter().zip(new.members(currency));
        let mut differences: Map<String, Value> = pairs
            .filter(|((_, from), (_, to))| from != to)
            .map(|((name, from), (_, to))| (name.to_owned(), json!({"from": from, "to": to})))
            .collect();
        if self.metadata != new.metadata {
            differences.insert("metadata".to_owned(), json!("changed"));
        }
        differences
    }

    fn members(&self, currency: &Currency) -> [(&'static str, Value); 8] {
        // Metadata is the tenant's own data, so events do not contain it.
        let Self {
            name,
            scopes,
            expires_at,
            enabled,
            spend_limit,
            rate_limits,
            owner_limits,
            allowed_ips,
            metadata: _,
        } = self;
        let limit = spend_limit.map(|limit| {
            let amount = currency.format(limit.amount.minor_units());
            json!({"amount": amount, "period": limit.period})
        });
        let owner = (!owner_limits.is_empty()).then(|| owner_limits.to_value());
        [
            ("name", json!(name.as_str())),
            ("scopes", json!(scopes.to_strings())),
            ("expires_at", json!(expires_at)),
            ("enabled", json!(enabled)),
            ("spend_limit", json!(limit)),
            ("rate_limits", json!(rate_limits.as_ref().map(RateLimits::to_value))),
            ("owner_rate_limits", json!(owner)),
            ("allowed_ips", json!(allowed_ips)),
        ]
    }
}

impl KeyChange {
    /// Whether the change can affect the result of a verification without a charge, apart from rate
    /// limits.
    #[must_use]
    pub fn touches_verdict(&self) -> bool {
        let Self {
            name: _,
            scopes,
            expiry,
            enabled,
            spend_limit: _,
            rate_limits: _,
            owner_limits: _,
            allowed_ips,
            metadata: _,
        } = self;
        scopes.is_some() || expiry.is_some() || enabled.is_some() || allowed_ips.is_some()
    }

    /// Whether the change can affect the rate limits of the key.
    #[must_use]
    pub fn touches_rate_limits(&self) -> bool {
        self.rate_limits.is_some() || self.owner_limits.is_some()
    }

    /// Returns the settings after this change.
    #[must_use]
    pub fn applied_to(&self, old: &KeySettings) -> KeySettings {
        let Self {
            name,
            scopes,
            expiry,
            enabled,
            spend_limit,
            rate_limits,
            owner_limits,
            allowed_ips,
            metadata,
        } = self.clone();
        KeySettings {
            name: name.unwrap_or_else(|| old.name.clone()),
            scopes: scopes.unwrap_or_else(|| old.scopes.clone()),
            expires_at: match expiry {
                Some(expiry) => expiry.map(Expiry::timestamp),
                None => old.expires_at,
            },
            enabled: enabled.unwrap_or(old.enabled),
            spend_limit: spend_limit.unwrap_or(old.spend_limit),
            rate_limits: rate_limits.unwrap_or_else(|| old.rate_limits.clone()),
            owner_limits: owner_limits.unwrap_or_else(|| old.owner_limits.clone()),
            allowed_ips: allowed_ips.unwrap_or_else(|| old.allowed_ips.clone()),
            metadata: metadata.unwrap_or_else(|| old.metadata.clone()),
        }
    }
}
