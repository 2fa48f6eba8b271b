//! The permissions of an admin key.

use std::{collections::BTreeSet, fmt};

use super::text_enum::{UnknownText, text_enum};

text_enum! {
    /// A permission of an admin key.
    pub enum Permission {
        /// Create, list, suspend and activate accounts, and change the dashboard settings.
        Accounts = "accounts",
        /// Create, list, change, revoke and rotate API keys, and read their usage.
        Keys = "keys",
        /// Verify API keys, and charge the accounts of accepted keys.
        Verify = "verify",
        /// Credit accounts and refund purchases.
        Credits = "credits",
        /// Read purchases, refunds, ledgers and audit events.
        Audit = "audit",
        /// Create links into the dashboard, and end its sessions.
        Dashboard = "dashboard",
        /// Create, read, change and delete plans.
        Policy = "policy",
    }
}

/// An error from parsing a list of permissions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PermissionError {
    /// A text is not a permission. The [`UnknownText`] lists all permissions.
    #[error("a permission {0}")]
    Unknown(UnknownText),
    /// The list is empty.
    #[error("an admin key has at least one permission")]
    Empty,
}

/// One or more permissions of an admin key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PermissionSet(BTreeSet<Permission>);

impl PermissionSet {
    /// Returns all permissions.
    #[must_use]
    pub fn all() -> Self {
        Self(Permission::ALL.iter().copied().collect())
    }

    /// Parses a list of permissions, such as `["keys", "verify"]`. Duplicates are ignored.
    ///
    /// # Errors
    ///
    /// [`PermissionError::Unknown`] if a text is not a [`Permission`], and
    /// [`PermissionError::Empty`] if the list is empty.
    pub fn parse<T: AsRef<str>>(
        texts: impl IntoIterator<Item = T>,
    ) -> Result<Self, PermissionError> {
        let permissions = texts.into_iter().map(|text| text.as_ref().parse::<Permission>());
        let permissions: BTreeSet<Permission> =
            permissions.collect::<Result<_, _>>().map_err(PermissionError::Unknown)?;
        if permissions.is_empty() { Err(PermissionError::Empty) } else { Ok(Self(permissions)) }
    }

    /// Whether the set contains `permission`. No permission implies another.
    #[must_use]
    pub fn has(&self, permission: Permission) -> bool {
        self.0.contains(&permission)
    }

    /// Returns the texts of the permissions, in the order of [`Permission::ALL`].
    #[must_use]
    pub fn to_strings(&self) -> Vec<String> {
        self.0.iter().map(ToString::to_string).collect()
    }
}

/// Writes the permissions separated by commas, in the order of [`Permission::ALL`].
impl fmt::Display for PermissionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_strings().join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permission_set_is_not_empty_and_contains_only_known_permissions() {
        let error = PermissionSet::parse(["keys", "root"]).expect_err("an unknown permission");
        assert_eq!(
            error.to_string(),
            "a permission must be accounts, keys, verify, credits, audit, dashboard or policy"
        );
        assert_eq!(PermissionSet::parse::<&str>([]), Err(PermissionError::Empty));
        assert!(!PermissionSet::parse(["keys"]).expect("good").has(Permission::Verify));
    }
}
