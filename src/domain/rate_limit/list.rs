use std::sync::Arc;

use serde_json::{Value, json};

use super::limit::{RateLimit, RateLimitError};

/// Maximum number of rate limits in one list.
pub const MAX_RATE_LIMITS: usize = 8;

/// A list of at most [`MAX_RATE_LIMITS`] rate limits with different names. Its clones share the
/// limits.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RateLimits(Arc<[RateLimit]>);

impl RateLimits {
    /// Creates a list.
    ///
    /// # Errors
    ///
    /// [`RateLimitError::TooMany`] if there are more than [`MAX_RATE_LIMITS`] limits, and
    /// [`RateLimitError::DuplicateName`] if two of them have the same name.
    pub fn new(limits: Vec<RateLimit>) -> Result<Self, RateLimitError> {
        if limits.len() > MAX_RATE_LIMITS {
            return Err(RateLimitError::TooMany);
        }
        for (index, limit) in limits.iter().enumerate() {
            if limits[..index].iter().any(|other| other.name == limit.name) {
                return Err(RateLimitError::DuplicateName(limit.name.clone()));
            }
        }
        Ok(Self(limits.into()))
    }

    /// Restores a list from the JSON that [`Self::to_value`] returned.
    ///
    /// # Errors
    ///
    /// [`RateLimitError`] if the value is not such a list.
    pub fn from_stored(value: &Value) -> Result<Self, RateLimitError> {
        let items = value.as_array().ok_or(RateLimitError::Stored)?;
        let limits: Option<Vec<RateLimit>> = items.iter().map(RateLimit::from_stored).collect();
        Self::new(limits.ok_or(RateLimitError::Stored)?)
    }

    /// Returns the list as JSON, as the database stores it and the API shows it.
    #[must_use]
    pub fn to_value(&self) -> Value {
        self.iter().map(|limit| json!(limit)).collect()
    }

    /// Whether the list contains no limit.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the limits in their order.
    pub fn iter(&self) -> impl Iterator<Item = &RateLimit> {
        self.0.iter()
    }

    /// Returns the limits that apply to a holder with these own limits. A limit of `self` replaces
    /// the default of the same name, and the other defaults are added.
    #[must_use]
    pub fn or_defaults(&self, defaults: &Self) -> Vec<RateLimit> {
        let replaced = |default: &&RateLimit| self.iter().all(|own| own.name != default.name);
        self.iter().chain(defaults.iter().filter(replaced)).cloned().collect()
    }
}

/// A schema that refers to the schema of [`RateLimit`], so that the document contains both.
#[cfg(feature = "server")]
impl utoipa::PartialSchema for RateLimits {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        utoipa::openapi::schema::ArrayBuilder::new()
            .items(utoipa::openapi::Ref::from_schema_name(<RateLimit as utoipa::ToSchema>::name()))
            .description(Some("Rate limits with different names."))
            .max_items(Some(MAX_RATE_LIMITS))
            .into()
    }
}

#[cfg(feature = "server")]
impl utoipa::ToSchema for RateLimits {
    fn name() -> std::borrow::Cow<'static, str> {
        std::borrow::Cow::Borrowed("NewRateLimits")
    }

    fn schemas(all: &mut crate::domain::schema::Schemas) {
        all.push(crate::domain::schema::entry::<RateLimit>());
        <RateLimit as utoipa::ToSchema>::schemas(all);
    }
}
