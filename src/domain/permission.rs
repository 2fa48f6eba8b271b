//! What an admin key may do.

use std::{collections::BTreeSet, fmt, str::FromStr};

/// One permission of an admin key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Permission {
    Accounts,
    Keys,
    Verify,
    Credits,
    Audit,
}

impl Permission {
    pub const ALL: [Self; 5] =
        [Self::Accounts, Self::Keys, Self::Verify, Self::Credits, Self::Audit];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accounts => "accounts",
            Self::Keys => "keys",
            Self::Verify => "verify",
            Self::Credits => "credits",
            Self::Audit => "audit",
        }
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("permissions are one or more of accounts, keys, verify, credits and audit")]
pub struct PermissionError;

impl FromStr for Permission {
    type Err = PermissionError;

    fn from_str(text: &str) -> Result<Self, PermissionError> {
        Self::ALL.into_iter().find(|permission| permission.as_str() == text).ok_or(PermissionError)
    }
}

/// The permissions of an admin key: at least one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PermissionSet(BTreeSet<Permission>);

impl PermissionSet {
    /// Every permission there is.
    #[must_use]
    pub fn all() -> Self {
        Self(Permission::ALL.into())
    }

    /// Reads a list of texts, as they are stored and given.
    pub fn parse<T: AsRef<str>>(
        texts: impl IntoIterator<Item = T>,
    ) -> Result<Self, PermissionError> {
        let permissions: BTreeSet<Permission> =
            texts.into_iter().map(|text| text.as_ref().parse()).collect::<Result<_, _>>()?;
        if permissions.is_empty() { Err(PermissionError) } else { Ok(Self(permissions)) }
    }

    #[must_use]
    pub fn has(&self, permission: Permission) -> bool {
        self.0.contains(&permission)
    }

    #[must_use]
    pub fn to_strings(&self) -> Vec<String> {
        self.0.iter().map(ToString::to_string).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_are_their_texts() {
        for permission in Permission::ALL {
            assert_eq!(permission.as_str().parse(), Ok(permission));
        }
        assert_eq!(PermissionSet::parse(["keys", "root"]), Err(PermissionError));
        assert_eq!(PermissionSet::parse::<&str>([]), Err(PermissionError));
        assert!(!PermissionSet::parse(["keys"]).expect("good").has(Permission::Verify));
    }
}
