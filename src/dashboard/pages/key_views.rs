//! Views of a key that several pages share.

/// The texts by which an owner recognizes a key, and the URL of its page.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyHead {
    /// The id of the key: `key_…`
    pub key_id: String,
    pub name: String,
    /// The hint, such as `ta_aBcD…_-ab`.
    pub hint: String,
    /// The URL of the key's page: `/dashboard/keys/key_…`. The URLs of its forms begin with this
    /// URL.
    pub url: String,
}

/// The state of a key, which a badge shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyState {
    /// Tollgate accepts the key.
    Active,
    /// Tollgate refuses the key until it is enabled again.
    Disabled,
    /// Tollgate refuses the key until the platform reactivates the account.
    Suspended,
    /// Tollgate accepts the key until its grace period ends.
    RotatedOut,
    Revoked,
    Expired,
}

impl KeyState {
    pub fn label(self) -> &'static str {
        match self {
            Self::Active => "Active",
            Self::Disabled => "Disabled",
            Self::Suspended => "Suspended",
            Self::RotatedOut => "Rotated out",
            Self::Revoked => "Revoked",
            Self::Expired => "Expired",
        }
    }

    /// Returns the CSS classes of the badge.
    pub fn class(self) -> &'static str {
        match self {
            Self::Active => "badge badge-good",
            Self::Disabled | Self::Suspended | Self::RotatedOut => "badge badge-warn",
            Self::Revoked => "badge badge-bad",
            Self::Expired => "badge",
        }
    }
}

/// The access that the scopes of a key grant, in words.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Access {
    /// One of the labels of [`Access::of`].
    pub label: &'static str,
    /// The scopes, unless the label implies them.
    pub scopes: Vec<String>,
}

impl Access {
    /// Returns the label for the scopes of a key.
    pub fn of(scopes: Vec<String>) -> Self {
        let only = |scope: &str| scopes.iter().all(|held| held == scope) && !scopes.is_empty();
        if only("write") {
            Self { label: "Read and write", scopes: Vec::new() }
        } else if only("read") {
            Self { label: "Read-only", scopes: Vec::new() }
        } else {
            Self { label: "Custom scopes", scopes }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_replaces_a_single_read_or_write_scope_and_other_scopes_are_listed() {
        let of = |scopes: &[&str]| Access::of(scopes.iter().map(|&scope| scope.into()).collect());
        assert_eq!(of(&["read"]).label, "Read-only");
        assert_eq!(of(&["write"]).label, "Read and write");
        let single = of(&["prices:read", "read"]);
        assert_eq!((single.label, single.scopes.len()), ("Custom scopes", 2));
    }
}
