//! Scopes, which define what a key may do. A scope is `read`, `write`, `<resource>:read` or
//! `<resource>:write`.

use std::{collections::BTreeSet, fmt, str::FromStr, sync::Arc};

/// Maximum number of scopes of a key.
pub const MAX_SCOPES: usize = 32;

/// Maximum length of the name of a resource, in characters.
pub const MAX_RESOURCE_LENGTH: usize = 31;

/// One permission of a key, for everything or for one resource.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Scope {
    resource: Option<Box<str>>,
    action: Action,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
enum Action {
    Read,
    Write,
}

/// An error from parsing a scope or a [`ScopeSet`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScopeError {
    /// The text is not `read`, `write`, `<resource>:read` or `<resource>:write`, or the name of the
    /// resource is malformed or longer than [`MAX_RESOURCE_LENGTH`].
    #[error(
        "a scope is read, write, <resource>:read or <resource>:write, where a resource has 1 to 31 \
         characters from a-z, 0-9 and _ and begins with a letter"
    )]
    Grammar,
    /// There are no scopes, or more than [`MAX_SCOPES`] different ones.
    #[error("a key has 1 to 32 scopes")]
    Count,
}

impl Scope {
    /// Returns the scope that a request needs to spend the balance.
    #[must_use]
    pub fn purchases_write() -> Self {
        Self { resource: Some("purchases".into()), action: Action::Write }
    }

    /// Returns the scope that a request needs to read purchases.
    #[must_use]
    pub fn purchases_read() -> Self {
        Self { resource: Some("purchases".into()), action: Action::Read }
    }

    /// Returns all scopes that imply this one, itself included. A key needs one of them. SQL
    /// functions compare the key's scopes with this list.
    #[must_use]
    pub fn implied_by(&self) -> Vec<Self> {
        let resources = [None, self.resource.clone()];
        let all = resources.into_iter().flat_map(|resource| {
            [Action::Read, Action::Write].map(|action| Self { resource: resource.clone(), action })
        });
        let implying: BTreeSet<_> = all.filter(|held| held.implies(self)).collect();
        implying.into_iter().collect()
    }

    /// Whether the scope allows writing, of everything or of one resource.
    #[must_use]
    pub fn writes(&self) -> bool {
        self.action == Action::Write
    }

    /// Whether a key with the scope `self` may make a request that requires the scope `needed`.
    ///
    /// The relation is reflexive and transitive. `write` implies every scope. `read` implies every
    /// `<resource>:read`. `<resource>:write` implies `<resource>:read`.
    #[must_use]
    pub fn implies(&self, needed: &Self) -> bool {
        let action = self.action == Action::Write || needed.action == Action::Read;
        let resource = self.resource.is_none() || self.resource == needed.resource;
        action && resource
    }
}

impl FromStr for Scope {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Self, ScopeError> {
        let (resource, action) = match text.split_once(':') {
            Some((resource, action)) => (Some(resource), action),
            None => (None, text),
        };
        let action = match action {
            "read" => Action::Read,
            "write" => Action::Write,
            _ => return Err(ScopeError::Grammar),
        };
        if !resource.is_none_or(is_resource) {
            return Err(ScopeError::Grammar);
        }
        Ok(Self { resource: resource.map(Into::into), action })
    }
}

fn is_resource(text: &str) -> bool {
    text.len() <= MAX_RESOURCE_LENGTH
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(resource) = &self.resource {
            write!(f, "{resource}:")?;
        }
        f.write_str(match self.action {
            Action::Read => "read",
            Action::Write => "write",
        })
    }
}

impl serde::Serialize for Scope {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(feature = "server")]
super::schema::named!(
    Scope,
    "Scope",
    super::schema::string(
        "What a key may do: `read`, `write`, `<resource>:read` or `<resource>:write`."
    )
    .pattern(Some(format!("^([a-z][a-z0-9_]{{0,{}}}:)?(read|write)$", MAX_RESOURCE_LENGTH - 1)))
    .max_length(Some(MAX_RESOURCE_LENGTH + ":write".len()))
    .examples(["orders:write"])
);

/// The scopes of a key, which are 1 to [`MAX_SCOPES`] distinct scopes in sorted order.
///
/// A set is one pointer wide and its clones share the scopes, because every cached principal
/// contains one.
///
/// ```
/// use tollgate::domain::scope::{Scope, ScopeError, ScopeSet};
///
/// let scopes = ScopeSet::parse(["orders:write", "read"])?;
/// assert_eq!(scopes.to_string(), "read orders:write");
///
/// let needed: Scope = "orders:read".parse()?;
/// assert!(scopes.allows(&needed));
/// let needed: Scope = "invoices:write".parse()?;
/// assert!(!scopes.allows(&needed));
/// # Ok::<(), ScopeError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScopeSet(Arc<BTreeSet<Scope>>);

impl ScopeSet {
    /// Collects scopes into a set. Duplicates are ignored.
    ///
    /// # Errors
    ///
    /// [`ScopeError::Count`] if there are no scopes, or more than [`MAX_SCOPES`] different ones.
    pub fn new(scopes: impl IntoIterator<Item = Scope>) -> Result<Self, ScopeError> {
        let scopes: BTreeSet<_> = scopes.into_iter().collect();
        if scopes.is_empty() || scopes.len() > MAX_SCOPES {
            return Err(ScopeError::Count);
        }
        Ok(Self(Arc::new(scopes)))
    }

    /// Returns the set with the scope `read` alone.
    #[must_use]
    pub fn read() -> Self {
        Self(Arc::new(BTreeSet::from([Scope { resource: None, action: Action::Read }])))
    }

    /// Parses a list of scopes, such as `["read", "orders:write"]`. Duplicates are ignored.
    ///
    /// # Errors
    ///
    /// [`ScopeError::Grammar`] if a text is not a scope, and [`ScopeError::Count`] if the list is
    /// empty or has more than [`MAX_SCOPES`] different scopes.
    pub fn parse<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> Result<Self, ScopeError> {
        let scopes: Vec<Scope> =
            texts.into_iter().map(|text| text.as_ref().parse()).collect::<Result<_, _>>()?;
        Self::new(scopes)
    }

    /// Whether one of the scopes implies `needed`.
    #[must_use]
    pub fn allows(&self, needed: &Scope) -> bool {
        self.0.iter().any(|held| held.implies(needed))
    }

    /// Returns the scopes, sorted: `read` and `write` first, then by the name of the resource.
    pub fn iter(&self) -> impl Iterator<Item = &Scope> {
        self.0.iter()
    }

    /// Returns the texts of the scopes, in the order of [`Self::iter`].
    #[must_use]
    pub fn to_strings(&self) -> Vec<String> {
        self.0.iter().map(ToString::to_string).collect()
    }
}

/// Writes the scopes separated by one space, as OAuth does.
impl fmt::Display for ScopeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, scope) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(" ")?;
            }
            scope.fmt(f)?;
        }
        Ok(())
    }
}

impl serde::Serialize for ScopeSet {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

/// A schema that refers to the schema of [`Scope`], so that the document contains both.
#[cfg(feature = "server")]
impl utoipa::PartialSchema for ScopeSet {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        utoipa::openapi::schema::ArrayBuilder::new()
            .items(utoipa::openapi::Ref::from_schema_name(<Scope as utoipa::ToSchema>::name()))
            .description(Some("Scopes of a key."))
            .min_items(Some(1))
            .max_items(Some(MAX_SCOPES))
            .into()
    }
}

#[cfg(feature = "server")]
impl utoipa::ToSchema for ScopeSet {
    fn name() -> std::borrow::Cow<'static, str> {
        std::borrow::Cow::Borrowed("ScopeSet")
    }

    fn schemas(all: &mut super::schema::Schemas) {
        all.push(super::schema::entry::<Scope>());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scope(text: &str) -> Scope {
        text.parse().expect("a good scope")
    }

    /// Generates scopes for only a few resources, so that pairs and triples of scopes often name
    /// the same resource.
    fn scopes() -> impl Strategy<Value = Scope> {
        ("(a|b|purchases)?", any::<bool>()).prop_map(|(resource, write)| {
            let action = if write { "write" } else { "read" };
            scope(&if resource.is_empty() {
                action.to_owned()
            } else {
                format!("{resource}:{action}")
            })
        })
    }

    #[test]
    fn scope_implications_match_the_documentation() {
        for (held, needed, expected) in [
            ("write", "read", true),
            ("write", "write", true),
            ("write", "purchases:write", true),
            ("read", "purchases:read", true),
            ("read", "write", false),
            ("read", "purchases:write", false),
            ("purchases:write", "purchases:read", true),
            ("purchases:read", "purchases:write", false),
            ("purchases:write", "orders:read", false),
            ("purchases:write", "read", false),
            ("purchases:write", "write", false),
        ] {
            assert_eq!(scope(held).implies(&scope(needed)), expected, "{held} ⊇ {needed}");
        }
    }

    #[test]
    fn scopes_outside_the_grammar_are_refused() {
        let long = format!("{}:read", "a".repeat(32));
        for text in [
            "", "admin", "READ", "read ", ":read", "a:", "a:b", "1a:read", "a:b:read", "a-b:read",
            &long,
        ] {
            assert_eq!(text.parse::<Scope>(), Err(ScopeError::Grammar), "{text:?}");
        }
        assert_eq!(ScopeSet::parse::<&str>([]), Err(ScopeError::Count));
        let many: Vec<_> = (0..33).map(|n| format!("r{n}:read")).collect();
        assert_eq!(ScopeSet::parse(many), Err(ScopeError::Count));
    }

    #[test]
    fn scope_set_is_sorted_and_written_as_in_oauth() {
        let set = ScopeSet::parse(["write", "a:write", "a:read", "write"]).expect("good scopes");
        assert_eq!(set.to_string(), "write a:read a:write");
    }

    #[test]
    fn purchases_write_is_implied_by_itself_and_by_write() {
        let implying = Scope::purchases_write().implied_by();
        assert_eq!(implying, [scope("write"), scope("purchases:write")]);
    }

    proptest! {
        #[test]
        fn implied_by_lists_exactly_the_implying_scopes(held in scopes(), needed in scopes()) {
            prop_assert_eq!(needed.implied_by().contains(&held), held.implies(&needed));
        }

        #[test]
        fn implication_is_reflexive(a in scopes()) {
            prop_assert!(a.implies(&a));
        }

        #[test]
        fn implication_is_transitive(a in scopes(), b in scopes(), c in scopes()) {
            prop_assert!(!(a.implies(&b) && b.implies(&c)) || a.implies(&c));
        }

        #[test]
        fn write_includes_read(a in scopes()) {
            let (read, write) = match &a.resource {
                Some(resource) => (format!("{resource}:read"), format!("{resource}:write")),
                None => ("read".to_owned(), "write".to_owned()),
            };
            prop_assert!(scope(&write).implies(&scope(&read)));
            prop_assert!(!scope(&read).implies(&scope(&write)));
            prop_assert!(scope("write").implies(&a));
        }

        #[test]
        fn implication_is_antisymmetric(a in scopes(), b in scopes()) {
            // Two scopes that imply each other are equal, so no scope can be widened.
            prop_assert!(!(a.implies(&b) && b.implies(&a)) || a == b);
        }

        #[test]
        fn scope_survives_a_round_trip_through_its_text(a in scopes()) {
            prop_assert_eq!(scope(&a.to_string()), a);
        }
    }
}
