use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    limit::{RateLimit, RateLimitError},
    values::{CallLimit, LimitName},
};

/// Lower numbers of calls that the account's owner has chosen, by the name of the limit. They
/// change nothing else about a limit.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct OwnerLimits(BTreeMap<LimitName, CallLimit>);

impl OwnerLimits {
    /// Restores the value from the JSON that [`Self::to_value`] returned.
    ///
    /// # Errors
    ///
    /// [`RateLimitError::Stored`] if the value is not such an object.
    pub fn from_stored(value: &Value) -> Result<Self, RateLimitError> {
        let members = value.as_object().ok_or(RateLimitError::Stored)?;
        let limit = |(name, calls): (&String, &Value)| {
            let calls = calls.as_i64().and_then(|calls| calls.try_into().ok());
            Ok((name.parse()?, calls.ok_or(RateLimitError::Stored)?))
        };
        members.iter().map(limit).collect::<Result<_, _>>().map(Self)
    }

    /// Returns an object with a number for each limit, as the database stores it.
    #[must_use]
    pub fn to_value(&self) -> Value {
        self.0.iter().map(|(name, calls)| (name.to_string(), json!(calls.get()))).collect()
    }

    /// Whether the owner has lowered no limit.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the number that the owner has chosen for this limit.
    #[must_use]
    pub fn get(&self, name: &LimitName) -> Option<CallLimit> {
        self.0.get(name).copied()
    }

    /// Sets the owner's number for a limit. `None` removes it.
    pub fn set(&mut self, name: LimitName, calls: Option<CallLimit>) {
        match calls {
            Some(calls) => self.0.insert(name, calls),
            None => self.0.remove(&name),
        };
    }

    /// Lowers the limits whose number is larger than the owner's number.
    #[must_use]
    pub fn lower(&self, limits: Vec<RateLimit>) -> Vec<RateLimit> {
        let lower = |limit: RateLimit| {
            let own = self.get(&limit.name).unwrap_or(limit.calls);
            RateLimit { calls: own.min(limit.calls), ..limit }
        };
        limits.into_iter().map(lower).collect()
    }
}
