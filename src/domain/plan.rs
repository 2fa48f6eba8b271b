//! Plans: the rules for the keys of accounts. Every account has one plan of its tenant.

use std::{collections::BTreeSet, fmt, str::FromStr, sync::Arc};

use serde_json::{Map, Value, json};

use super::{
    key_settings::KeySettings,
    lifecycle::MAX_LIFETIME_SECONDS,
    lower_name::is_lower_name,
    rate_limit::RateLimits,
    scope::{MAX_SCOPES, Scope, ScopeSet},
    tenant::MaxKeys,
    text::{TextError, checked},
    timestamp::Timestamp,
};

/// Maximum number of plans of a tenant.
pub const MAX_PLANS: usize = 100;

/// Maximum number of characters of the name of a plan.
pub const MAX_PLAN_NAME_LENGTH: usize = 32;

/// Maximum number of characters of the text of a scope.
pub const MAX_SCOPE_TEXT_LENGTH: usize = 200;

/// Maximum number of days in the rule for keys without networks.
pub const MAX_WRITE_DAYS: i64 = MAX_LIFETIME_SECONDS / DAY;

const DAY: i64 = 86_400;

/// The name of a plan, which is unique in its tenant. It has 1 to 32 characters from a-z, 0-9, _ and
/// -, and begins with a letter.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct PlanName(Arc<str>);

/// The text is not a [`PlanName`], because its length or a character is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a plan's name has 1 to 32 characters from a-z, 0-9, _ and -, and begins with a letter, such as pro"
)]
pub struct PlanNameError;

impl PlanName {
    /// The name of the plan that every tenant has, and that new accounts get.
    pub const DEFAULT: &str = "default";

    /// Returns the name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for PlanName {
    fn default() -> Self {
        Self(Self::DEFAULT.into())
    }
}

impl FromStr for PlanName {
    type Err = PlanNameError;

    fn from_str(text: &str) -> Result<Self, PlanNameError> {
        if is_lower_name(text, MAX_PLAN_NAME_LENGTH) {
            Ok(Self(text.into()))
        } else {
            Err(PlanNameError)
        }
    }
}

impl fmt::Display for PlanName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl serde::Serialize for PlanName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

super::schema::named!(
    PlanName,
    "PlanName",
    super::schema::string(
        "The name of a plan: 1 to 32 characters from a-z, 0-9, _ and -, beginning with a letter."
    )
    .pattern(Some(format!("^[a-z][a-z0-9_-]{{0,{}}}$", MAX_PLAN_NAME_LENGTH - 1)))
    .max_length(Some(MAX_PLAN_NAME_LENGTH))
    .examples(["pro"])
);

/// A scope that keys may have, with a text for people.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlanScope {
    /// The scope. Keys may also have scopes that it implies.
    pub scope: Scope,
    /// What the scope allows, for people.
    pub text: ScopeText,
}

/// What a scope allows, for people. It has at most [`MAX_SCOPE_TEXT_LENGTH`] characters, and may be
/// empty.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ScopeText(Box<str>);

impl ScopeText {
    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ScopeText {
    type Err = TextError;

    /// Trims the text.
    fn from_str(text: &str) -> Result<Self, TextError> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        checked(text, MAX_SCOPE_TEXT_LENGTH).map(|text| Self(text.into()))
    }
}

/// The scopes that a plan allows: 1 to [`MAX_SCOPES`] different ones, in the order in which they
/// were given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlanScopes(Vec<PlanScope>);

/// The list is empty, has more than [`MAX_SCOPES`] scopes, or contains a scope twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a plan has 1 to {} different scopes", MAX_SCOPES)]
pub struct PlanScopesError;

impl PlanScopes {
    /// Creates a list.
    ///
    /// # Errors
    ///
    /// [`PlanScopesError`] if there are no scopes, more than [`MAX_SCOPES`], or one of them twice.
    pub fn new(scopes: Vec<PlanScope>) -> Result<Self, PlanScopesError> {
        let distinct: BTreeSet<_> = scopes.iter().map(|listed| &listed.scope).collect();
        let good = distinct.len() == scopes.len() && (1..=MAX_SCOPES).contains(&scopes.len());
        if good { Ok(Self(scopes)) } else { Err(PlanScopesError) }
    }

    /// Whether keys may have the scope.
    #[must_use]
    pub fn allows(&self, scope: &Scope) -> bool {
        self.0.iter().any(|listed| listed.scope.implies(scope))
    }

    /// Returns the scopes in their order.
    pub fn iter(&self) -> impl Iterator<Item = &PlanScope> {
        self.0.iter()
    }

    fn to_value(&self) -> Value {
        let listed =
            |listed: &PlanScope| json!({"scope": listed.scope, "text": listed.text.as_str()});
        self.iter().map(listed).collect()
    }
}

/// A lifetime of keys in seconds, from 1 to [`MAX_LIFETIME_SECONDS`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct LifetimeSeconds(i64);

/// The number is not a [`LifetimeSeconds`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be from 1 to {}", MAX_LIFETIME_SECONDS)]
pub struct LifetimeSecondsError;

impl LifetimeSeconds {
    /// Returns the number of seconds.
    #[must_use]
    pub fn get(self) -> i64 {
        self.0
    }
}

impl TryFrom<i64> for LifetimeSeconds {
    type Error = LifetimeSecondsError;

    fn try_from(seconds: i64) -> Result<Self, LifetimeSecondsError> {
        if (1..=MAX_LIFETIME_SECONDS).contains(&seconds) {
            Ok(Self(seconds))
        } else {
            Err(LifetimeSecondsError)
        }
    }
}

impl serde::Serialize for LifetimeSeconds {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(self.0)
    }
}

super::schema::named!(
    LifetimeSeconds,
    "LifetimeSeconds",
    super::schema::int64()
        .description(Some("A number of seconds, at most ten years."))
        .minimum(Some(1))
        .maximum(Some(MAX_LIFETIME_SECONDS))
);

/// A number of days, from 1 to [`MAX_WRITE_DAYS`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WriteDays(i32);

/// The number is not a [`WriteDays`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be from 1 to {}", MAX_WRITE_DAYS)]
pub struct WriteDaysError;

impl WriteDays {
    /// Returns the number of days.
    #[must_use]
    pub fn get(self) -> i32 {
        self.0
    }
}

impl TryFrom<i64> for WriteDays {
    type Error = WriteDaysError;

    fn try_from(days: i64) -> Result<Self, WriteDaysError> {
        match i32::try_from(days) {
            Ok(number) if (1..=MAX_WRITE_DAYS).contains(&days) => Ok(Self(number)),
            _ => Err(WriteDaysError),
        }
    }
}

impl serde::Serialize for WriteDays {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i32(self.0)
    }
}

super::schema::named!(
    WriteDays,
    "WriteDays",
    super::schema::int32()
        .description(Some("A number of days, at most ten years."))
        .minimum(Some(1))
        .maximum(Some(MAX_WRITE_DAYS))
);

/// The rules of a plan.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlanSettings {
    /// Maximum number of live keys of an account.
    pub max_keys: MaxKeys,
    /// The scopes that keys may have. `None` means any scope.
    pub scopes: Option<PlanScopes>,
    /// The scopes of a key that is created without scopes.
    pub default_scopes: ScopeSet,
    /// Longest time until a key expires. `None` means that a key may never expire.
    pub max_lifetime: Option<LifetimeSeconds>,
    /// The lifetime of a key that is created without an expiry. `None` means the longest one.
    pub default_lifetime: Option<LifetimeSeconds>,
    /// A key that can write and may be used from any address expires within this number of days.
    /// `None` means that there is no such rule.
    pub write_without_networks: Option<WriteDays>,
    /// Whether owners create keys in the dashboard.
    pub owner_creates_keys: bool,
    /// The default rate limits of each key.
    pub key_rate_limits: RateLimits,
    /// The default rate limits of each account, for all its keys together.
    pub account_rate_limits: RateLimits,
}

/// A plan of a tenant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// The name of the plan.
    pub name: PlanName,
    /// The rules of the plan.
    pub settings: PlanSettings,
    /// The time when the plan was created.
    pub created_at: Timestamp,
}

/// The rules of a plan contradict each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The plan does not allow one of its default scopes.
    #[error("the default scope {0} is not one of the plan's scopes")]
    DefaultScope(Scope),
    /// The default lifetime is longer than the longest one.
    #[error("the default lifetime is longer than the longest lifetime")]
    DefaultLifetime,
}

/// A way in which the settings of a key break a rule of its plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanViolation {
    /// The plan does not allow the scope.
    #[error("the plan {plan} does not allow the scope {scope}")]
    Scope {
        /// The name of the plan.
        plan: PlanName,
        /// The scope.
        scope: Scope,
    },
    /// The key would expire too late.
    #[error("the plan {plan} requires an expiry at {latest} or earlier")]
    Expiry {
        /// The name of the plan.
        plan: PlanName,
        /// The latest time at which the key may expire.
        latest: Timestamp,
    },
    /// The key can write, may be used from any address, and would expire too late.
    #[error(
        "the plan {plan} requires an expiry at {latest} or earlier, because the key can write and \
         may be used from any address. Set an earlier expiry or allowed networks"
    )]
    WithoutNetworks {
        /// The name of the plan.
        plan: PlanName,
        /// The latest time at which the key may expire.
        latest: Timestamp,
    },
}

impl PlanViolation {
    /// Returns the name of the setting that breaks the rule.
    #[must_use]
    pub fn setting(&self) -> &'static str {
        match self {
            Self::Scope { .. } => "scopes",
            Self::Expiry { .. } | Self::WithoutNetworks { .. } => "expires_at",
        }
    }
}

/// Five keys, the default scope `read`, and no other rules.
impl Default for PlanSettings {
    fn default() -> Self {
        Self {
            max_keys: MaxKeys::default(),
            scopes: None,
            default_scopes: ScopeSet::read(),
            max_lifetime: None,
            default_lifetime: None,
            write_without_networks: None,
            owner_creates_keys: true,
            key_rate_limits: RateLimits::default(),
            account_rate_limits: RateLimits::default(),
        }
    }
}

impl PlanSettings {
    /// Checks that the rules do not contradict each other.
    ///
    /// # Errors
    ///
    /// [`PlanError`] if they do.
    pub fn check(&self) -> Result<(), PlanError> {
        let lacks = |scope: &&Scope| self.scopes.as_ref().is_some_and(|all| !all.allows(scope));
        if let Some(scope) = self.default_scopes.iter().find(lacks) {
            return Err(PlanError::DefaultScope(scope.clone()));
        }
        match (self.default_lifetime, self.max_lifetime) {
            (Some(default), Some(max)) if default > max => Err(PlanError::DefaultLifetime),
            _ => Ok(()),
        }
    }

    /// Returns the rules as JSON, as audit events show them.
    #[must_use]
    pub fn to_map(&self) -> Map<String, Value> {
        self.members().into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// Returns the rules that differ in `new`, as the audit event of a change shows them.
    #[must_use]
    pub fn differences(&self, new: &Self) -> Map<String, Value> {
        let pairs = self.members().into_iter().zip(new.members());
        pairs
            .filter(|((_, from), (_, to))| from != to)
            .map(|((name, from), (_, to))| (name.to_owned(), json!({"from": from, "to": to})))
            .collect()
    }

    fn members(&self) -> [(&'static str, Value); 9] {
        [
            ("max_keys", json!(self.max_keys.get())),
            ("scopes", json!(self.scopes.as_ref().map(PlanScopes::to_value))),
            ("default_scopes", json!(self.default_scopes)),
            ("max_lifetime_seconds", json!(self.max_lifetime)),
            ("default_lifetime_seconds", json!(self.default_lifetime)),
            ("write_without_networks_days", json!(self.write_without_networks)),
            ("owner_creates_keys", json!(self.owner_creates_keys)),
            ("key_rate_limits", self.key_rate_limits.to_value()),
            ("account_rate_limits", self.account_rate_limits.to_value()),
        ]
    }
}

impl Plan {
    /// Returns the expiry of a key that is created at `now` without an expiry. `has_networks` is
    /// whether the key or its account has a list of networks.
    #[must_use]
    pub fn default_expiry(
        &self,
        scopes: &ScopeSet,
        has_networks: bool,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let default = self.settings.default_lifetime.or(self.settings.max_lifetime);
        let default = default.and_then(|seconds| now.plus_seconds(seconds.get()));
        let latest = self.latest_without_networks(scopes, has_networks, now);
        default.into_iter().chain(latest).min()
    }

    /// Checks the settings of a key that is created at `now`, or whose scopes, expiry or networks
    /// change at `now`. `account_has_networks` is whether its account has a list of networks.
    ///
    /// # Errors
    ///
    /// All rules that the settings break.
    pub fn check_key(
        &self,
        key: &KeySettings,
        account_has_networks: bool,
        now: Timestamp,
    ) -> Result<(), Vec<PlanViolation>> {
        let plan = || self.name.clone();
        let lacks =
            |scope: &&Scope| self.settings.scopes.as_ref().is_some_and(|all| !all.allows(scope));
        let scopes = key.scopes.iter().filter(lacks);
        let mut violations: Vec<_> = scopes
            .map(|scope| PlanViolation::Scope { plan: plan(), scope: scope.clone() })
            .collect();
        let is_late = |latest: &Timestamp| key.expires_at.is_none_or(|end| end > *latest);
        let max = self.settings.max_lifetime;
        let max = max.and_then(|seconds| now.plus_seconds(seconds.get())).filter(is_late);
        let has_networks = account_has_networks || key.allowed_ips.is_some();
        let of_rule = self.latest_without_networks(&key.scopes, has_networks, now).filter(is_late);
        match (max, of_rule) {
            (Some(max), of_rule) if of_rule.is_none_or(|latest| max <= latest) => {
                violations.push(PlanViolation::Expiry { plan: plan(), latest: max });
            }
            (_, Some(latest)) => {
                violations.push(PlanViolation::WithoutNetworks { plan: plan(), latest });
            }
            _ => {}
        }
        if violations.is_empty() { Ok(()) } else { Err(violations) }
    }

    /// Returns the latest expiry of a key that can write and may be used from any address.
    fn latest_without_networks(
        &self,
        scopes: &ScopeSet,
        has_networks: bool,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let days = self.settings.write_without_networks?;
        if has_networks || !scopes.iter().any(Scope::writes) {
            return None;
        }
        now.plus_seconds(i64::from(days.get()) * DAY)
    }
}
