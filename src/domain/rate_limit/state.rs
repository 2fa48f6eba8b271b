use super::{
    limit::RateLimit,
    values::{CallLimit, LimitName, WindowSeconds},
};
use crate::domain::{scope::Scope, timestamp::Timestamp};

/// The holder of a rate limit.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum LimitLevel {
    /// An API key, together with the keys that it replaced by rotation.
    Key,
    /// An account, for all its keys.
    Account,
    /// A tenant, for all its accounts.
    Tenant,
}

impl LimitLevel {
    /// Returns the text before the name of a limit in responses.
    pub(crate) fn prefix(self) -> &'static str {
        match self {
            Self::Key => "",
            Self::Account => "account:",
            Self::Tenant => "tenant:",
        }
    }
}

/// A limit as the caller sees it: the name, the numbers, and the current window.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct LimitState {
    /// The holder of the limit.
    pub level: LimitLevel,
    /// The name of the limit in the list of its holder.
    pub name: LimitName,
    /// Maximum number of calls in a window.
    pub calls: CallLimit,
    /// The length of a window.
    pub window: WindowSeconds,
    /// The limit counts only calls that ask for this scope, or for a scope that it implies.
    pub scope: Option<Scope>,
    /// The number of calls that the window still allows, as far as this node knows.
    pub remaining: u32,
    /// Seconds until the window ends, rounded up. `None` if no window has begun.
    pub resets_in: Option<u32>,
    /// The end of the window by the database's clock, if it was read from the database.
    pub resets_at: Option<Timestamp>,
}

impl LimitState {
    /// Creates the state of a limit without a running window.
    #[must_use]
    pub fn unused(level: LimitLevel, limit: &RateLimit) -> Self {
        Self {
            level,
            name: limit.name.clone(),
            calls: limit.calls,
            window: limit.window,
            scope: limit.scope.clone(),
            remaining: limit.calls.get(),
            resets_in: None,
            resets_at: None,
        }
    }

    /// Adds a running window to the state.
    #[must_use]
    pub fn running(self, remaining: u32, resets_in: u32) -> Self {
        Self { remaining, resets_in: Some(resets_in), ..self }
    }

    /// Sets the end of the window by the database's clock.
    #[must_use]
    pub fn resetting_at(self, resets_at: Timestamp) -> Self {
        Self { resets_at: Some(resets_at), ..self }
    }

    /// Returns the name by which responses refer to the limit. The name of an account's limit
    /// begins with `account:`, and the name of a tenant's limit with `tenant:`.
    #[must_use]
    pub fn label(&self) -> String {
        format!("{}{}", self.level.prefix(), self.name)
    }
}
