//! Views of a key that several pages share.

/// Enough of a key to know it again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyHead {
    /// `key_…`
    pub key_id: String,
    pub name: String,
    /// Such as `ta_aBcD…_-ab`.
    pub hint: String,
    /// The page of the key: `/dashboard/keys/key_…`. What is done to it lies below.
    pub url: String,
}

/// What a key is good for now, in one word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyState {
    /// It passes.
    Active,
    /// Its owner has switched it off; it can be switched on again.
    Disabled,
    /// It was rotated out, and passes until its grace ends.
    RotatedOut,
    Revoked,
    Expired,
}

impl KeyState {
    pub fn label(self) -> &'static str {
        match self {
            Self::Active => "Active",
            Self::Disabled => "Disabled",
            Self::RotatedOut => "Rotated out",
            Self::Revoked => "Revoked",
            Self::Expired => "Expired",
        }
    }

    /// The class of its badge.
    pub fn class(self) -> &'static str {
        match self {
            Self::Active => "badge badge-good",
            Self::Disabled | Self::RotatedOut => "badge badge-warn",
            Self::Revoked => "badge badge-bad",
            Self::Expired => "badge",
        }
    }
}

/// What a key may do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Access {
    /// [`Access::of`] gives the words.
    pub label: &'static str,
    /// The scopes, where the label does not say it all.
    pub scopes: Vec<String>,
}

impl Access {
    /// The words for a key's scopes.
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
    fn access_has_a_label_and_keeps_its_scopes() {
        let of = |scopes: &[&str]| Access::of(scopes.iter().map(|&scope| scope.into()).collect());
        assert_eq!(of(&["read"]).label, "Read-only");
        assert_eq!(of(&["write"]).label, "Read and write");
        let single = of(&["prices:read", "read"]);
        assert_eq!((single.label, single.scopes.len()), ("Custom scopes", 2));
    }
}
