use serde_json::Value;

use super::StoreError;
use crate::domain::rate_limit::{OwnerLimits, RateLimits};

/// Restores a list of rate limits from the column with this name.
pub(super) fn stored_limits(
    column: &'static str,
    value: Option<&Value>,
) -> Result<Option<RateLimits>, StoreError> {
    let limits = value.map(RateLimits::from_stored).transpose();
    limits.map_err(|error| StoreError::corrupt(column, error))
}

/// Restores the lower limits that an owner has chosen. NULL means that there are none.
pub(super) fn stored_owner_limits(value: Option<&Value>) -> Result<OwnerLimits, StoreError> {
    let limits = value.map(OwnerLimits::from_stored).transpose();
    let limits =
        limits.map_err(|error| StoreError::corrupt("api_keys.owner_rate_limits", error))?;
    Ok(limits.unwrap_or_default())
}

/// Returns the JSON of a list of rate limits, as statements bind it.
pub(super) fn limits_to_store(limits: Option<&RateLimits>) -> Option<String> {
    limits.map(|limits| limits.to_value().to_string())
}

/// Returns the JSON of the lower limits that an owner has chosen, as statements bind it.
pub(super) fn owner_limits_to_store(limits: &OwnerLimits) -> Option<String> {
    (!limits.is_empty()).then(|| limits.to_value().to_string())
}
