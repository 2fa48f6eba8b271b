//! Accounts, each of which owns API keys and one balance.

use std::fmt;

use uuid::Uuid;

use super::{id::TenantId, text_enum::text_enum, tron};

/// The tenant's own id of an account, such as a wallet address or a user id.
///
/// The id has 1 to 128 visible ASCII characters and is neither `.` nor `..`. If the tenant's format
/// is [`AccountFormat::Tron`], the id is a TRON address.
///
/// ```
/// use tollgate::domain::account::{AccountFormat, ExternalId};
///
/// let user = ExternalId::parse("user-1", AccountFormat::Any)?;
/// assert_eq!(user.as_str(), "user-1");
///
/// assert!(ExternalId::parse("user-1", AccountFormat::Tron).is_err());
/// let wallet = ExternalId::parse("TMVQGm1qAQYVdetCeGRRkTWYYrLXuHK2HC", AccountFormat::Tron)?;
/// assert_eq!(wallet.to_string(), "TMVQGm1qAQYVdetCeGRRkTWYYrLXuHK2HC");
/// # Ok::<(), tollgate::domain::account::ExternalIdError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ExternalId(Box<str>);

/// An error from parsing an [`ExternalId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExternalIdError {
    /// The text is empty, longer than [`ExternalId::MAX_LENGTH`], `.` or `..`, or contains a
    /// character other than visible ASCII.
    #[error(
        "an account id has 1 to 128 visible ASCII characters without spaces, and is not . or .."
    )]
    Grammar,
    /// The tenant's format is [`AccountFormat::Tron`], and the text is not a TRON address.
    #[error(transparent)]
    Tron(#[from] tron::AddressError),
}

impl ExternalId {
    /// Maximum number of characters.
    pub const MAX_LENGTH: usize = 128;

    /// Parses an id in the tenant's format.
    ///
    /// # Errors
    ///
    /// [`ExternalIdError::Grammar`] if the length or a character is wrong, and
    /// [`ExternalIdError::Tron`] if the format requires a TRON address and the text is not one.
    pub fn parse(text: &str, format: AccountFormat) -> Result<Self, ExternalIdError> {
        // Clients resolve "." and ".." in a path before they send it.
        let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
        if !(1..=Self::MAX_LENGTH).contains(&text.len()) || !visible || matches!(text, "." | "..") {
            return Err(ExternalIdError::Grammar);
        }
        if format == AccountFormat::Tron {
            tron::check_address(text)?;
        }
        Ok(Self(text.into()))
    }

    /// Returns the id exactly as the tenant wrote it. Ids are case-sensitive.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ExternalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl serde::Serialize for ExternalId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

#[cfg(feature = "server")]
super::schema::named!(
    ExternalId,
    "ExternalId",
    super::schema::string(
        "The tenant's own id of an account, such as a wallet address. Visible ASCII characters, \
         and neither . nor .."
    )
    .pattern(Some("^[!-~]+$"))
    .min_length(Some(1))
    .max_length(Some(ExternalId::MAX_LENGTH))
    .examples(["TMVQGm1qAQYVdetCeGRRkTWYYrLXuHK2HC"])
);

text_enum! {
    /// The format of the ids of a tenant's accounts.
    pub enum AccountFormat {
        /// Any external id.
        Any = "any",
        /// A TRON address.
        Tron = "tron",
    }
}

/// The internal id of an account: the UUIDv5 of its tenant and its external id.
///
/// Every node can compute the id without a lookup. Tables can be partitioned by this id.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct AccountId(Uuid);

impl AccountId {
    /// Computes the UUIDv5 with the tenant's id as its namespace and the external id as its name.
    /// The account need not exist.
    #[must_use]
    pub fn derive(tenant: TenantId, external_id: &ExternalId) -> Self {
        Self(Uuid::new_v5(&tenant.uuid(), external_id.as_str().as_bytes()))
    }

    /// Restores an id from its stored UUID.
    #[must_use]
    pub fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid)
    }

    /// Returns the stored UUID of the account.
    #[must_use]
    pub fn uuid(self) -> Uuid {
        self.0
    }
}

text_enum! {
    /// Whether the account's keys are accepted. Every key of a suspended account is refused.
    pub enum AccountStatus {
        /// The account's live and enabled keys are accepted.
        Active = "active",
        /// Every key of the account is refused until the account is active again.
        Suspended = "suspended",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn external_ids_are_visible_ascii() {
        let long = "a".repeat(129);
        for text in ["", " ", "a b", "a\tb", "a\u{0}", "é", ".", "..", &long] {
            assert_eq!(
                ExternalId::parse(text, AccountFormat::Any),
                Err(ExternalIdError::Grammar),
                "{text:?}"
            );
        }
        for text in ["1", "user:42", "a/b", "...", "me@example.com", &long[1..]] {
            assert!(ExternalId::parse(text, AccountFormat::Any).is_ok(), "{text:?}");
        }
        assert!(ExternalId::parse("user-1", AccountFormat::Tron).is_err());
    }

    #[test]
    fn same_external_id_means_different_accounts_in_two_tenants() {
        let name = ExternalId::parse("user-1", AccountFormat::Any).expect("a good id");
        let [a, b] = [1, 2].map(|n| TenantId::from_uuid(Uuid::from_u128(n)));
        assert_ne!(AccountId::derive(a, &name), AccountId::derive(b, &name));
        assert_eq!(AccountId::derive(a, &name), AccountId::derive(a, &name));
        assert_eq!(AccountId::derive(a, &name).uuid().get_version_num(), 5);
    }
}
