//! Accounts: whose keys they are, and whose balance is spent.

use std::fmt;

use uuid::Uuid;

use super::{id::TenantId, text_enum::text_enum, tron};

/// The tenant's own id of an account: a wallet address, a user id.
///
/// 1 to 128 visible ASCII characters; for tenants with the format `tron`, an address.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ExternalId(Box<str>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExternalIdError {
    #[error(
        "an account is named by 1 to 128 visible ASCII characters without spaces, and not . or .."
    )]
    Grammar,
    #[error(transparent)]
    Tron(#[from] tron::AddressError),
}

impl ExternalId {
    /// Maximum number of characters.
    pub const MAX_LENGTH: usize = 128;

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
        "The tenant's own id of an account: a wallet address, a user id. Visible ASCII characters."
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

/// The id of an account inside: UUIDv5 of its tenant and its external id.
///
/// Derived, so that every node knows it without asking and every row of the account can be
/// placed by it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct AccountId(Uuid);

impl AccountId {
    #[must_use]
    pub fn derive(tenant: TenantId, external_id: &ExternalId) -> Self {
        Self(Uuid::new_v5(&tenant.uuid(), external_id.as_str().as_bytes()))
    }

    #[must_use]
    pub fn uuid(self) -> Uuid {
        self.0
    }
}

text_enum! {
    /// Whether the account's keys pass. None of a suspended account's keys does.
    pub enum AccountStatus {
        Active = "active",
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
    fn the_same_name_at_two_tenants_is_two_accounts() {
        let name = ExternalId::parse("user-1", AccountFormat::Any).expect("a good id");
        let [a, b] = [1, 2].map(|n| TenantId::from_uuid(Uuid::from_u128(n)));
        assert_ne!(AccountId::derive(a, &name), AccountId::derive(b, &name));
        assert_eq!(AccountId::derive(a, &name), AccountId::derive(a, &name));
        assert_eq!(AccountId::derive(a, &name).uuid().get_version_num(), 5);
    }
}
