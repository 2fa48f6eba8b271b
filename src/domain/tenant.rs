//! Tenants. A tenant is a platform in one environment. Its policy contains the rules for its
//! accounts.

use std::{fmt, str::FromStr, sync::Arc};

use uuid::Uuid;

use super::{
    account::{AccountFormat, AccountId, ExternalId},
    amount::Currency,
    api_key::KeyPrefix,
    id::TenantId,
    text_enum::text_enum,
};

/// The largest value of [`MaxKeys`].
pub const MAX_KEYS_LIMIT: u16 = 1000;

/// A platform in one environment. It never changes after it is created, because its
/// [`TenantStatus`] is not a part of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tenant {
    /// The id, which is unique across all environments.
    pub id: TenantId,
    /// The name of the platform, which its tenants in both environments share.
    pub slug: Slug,
    /// The environment of this tenant.
    pub environment: Environment,
    /// The rules for its accounts.
    pub policy: TenantPolicy,
}

impl Tenant {
    /// Returns the [`AccountId`] of an account as a UUID. The account need not exist. Spans record
    /// this id instead of the external id, because a client may send an API key in place of the
    /// external id.
    #[must_use]
    pub fn account_id(&self, external_id: &ExternalId) -> Uuid {
        AccountId::derive(self.id, external_id).uuid()
    }
}

text_enum! {
    /// Whether a tenant's keys are accepted.
    pub enum TenantStatus {
        /// The keys of the tenant's active accounts are accepted.
        Active = "active",
        /// All API keys and admin keys of the tenant are refused, and its dashboard is closed.
        Suspended = "suspended",
    }
}

/// The rules for every account of a tenant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TenantPolicy {
    /// The prefix of each of the tenant's API keys.
    pub prefix: KeyPrefix,
    /// The currency of every balance.
    pub currency: Currency,
    /// The format of the accounts' external ids.
    pub account_format: AccountFormat,
}

/// The name of a platform. It has 1 to 40 characters from a-z, 0-9 and -, begins with a letter and
/// does not end with a -.
///
/// A slug is one pointer wide, and its clones share the text, because every cached principal
/// contains one.
///
/// ```
/// use tollgate::domain::tenant::{Environment, Slug, SlugError};
///
/// let slug: Slug = "tronagg".parse()?;
/// assert_eq!(slug.as_str(), "tronagg");
/// assert_eq!("Tron Agg".parse::<Slug>(), Err(SlugError));
///
/// // A tenant is a slug in an environment.
/// assert_eq!("live".parse::<Environment>(), Ok(Environment::Live));
/// # Ok::<(), SlugError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Slug(Arc<Box<str>>);

/// The text is not a [`Slug`], because its length or a character is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a slug has 1 to 40 characters from a-z, 0-9 and -, begins with a letter, and does not end with -"
)]
pub struct SlugError;

impl FromStr for Slug {
    type Err = SlugError;

    fn from_str(text: &str) -> Result<Self, SlugError> {
        let good = text.len() <= Self::MAX_LENGTH
            && text.starts_with(|first: char| first.is_ascii_lowercase())
            && !text.ends_with('-')
            && text
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        if good { Ok(Self(Arc::new(text.into()))) } else { Err(SlugError) }
    }
}

impl Slug {
    /// Maximum number of characters.
    pub const MAX_LENGTH: usize = 40;

    /// Returns the name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Slug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl serde::Serialize for Slug {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

#[cfg(feature = "server")]
super::schema::named!(
    Slug,
    "TenantSlug",
    super::schema::string("The name of a tenant.")
        .pattern(Some(format!("^[a-z]([a-z0-9-]{{0,{}}}[a-z0-9])?$", Slug::MAX_LENGTH - 2)))
        .examples(["tronagg"])
);

text_enum! {
    /// The environment of a tenant. The two environments have separate accounts, keys and balances.
    pub enum Environment {
        /// The environment for production.
        Live = "live",
        /// The environment for testing an integration.
        Test = "test",
    }
}

/// Maximum number of live keys of an account, from 1 to [`MAX_KEYS_LIMIT`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MaxKeys(u16);

impl MaxKeys {
    /// Returns the maximum number of keys, from 1 to [`MAX_KEYS_LIMIT`].
    #[must_use]
    pub fn get(self) -> u16 {
        self.0
    }
}

/// Five, as most platforms allow.
impl Default for MaxKeys {
    fn default() -> Self {
        Self(5)
    }
}

impl TryFrom<i64> for MaxKeys {
    type Error = &'static str;

    fn try_from(number: i64) -> Result<Self, Self::Error> {
        match u16::try_from(number) {
            Ok(number @ 1..=MAX_KEYS_LIMIT) => Ok(Self(number)),
            _ => Err("an account may have 1 to 1000 live keys"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_slugs_are_refused() {
        let long = "a".repeat(41);
        for bad in ["", "Tron", "1a", "-a", "a-", "a_b", "a b", &long] {
            assert_eq!(bad.parse::<Slug>(), Err(SlugError), "{bad:?}");
        }
        for good in ["a", "tronagg", "trade-tally2"] {
            assert!(good.parse::<Slug>().is_ok(), "{good:?}");
        }
    }

    #[test]
    fn maximum_number_of_keys_is_from_1_to_1000() {
        assert!(MaxKeys::try_from(0).is_err());
        assert!(MaxKeys::try_from(1001).is_err());
        assert_eq!(MaxKeys::try_from(5).map(MaxKeys::get), Ok(5));
    }
}
