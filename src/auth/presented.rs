use std::net::IpAddr;

use super::Principal;
use crate::domain::{
    api_key::KeyText,
    scope::Scope,
    tenant::{Environment, Slug},
};

/// A key and the context of its request, as the gate presents them to a
/// [`KeyVerifier`](super::KeyVerifier).
///
/// ```
/// use tollgate::{
///     auth::Presented,
///     domain::{api_key::KeyText, tenant::Environment},
/// };
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let key = KeyText::parse("ta_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")?;
/// let (tenant, scope) = ("tronagg".parse()?, "orders:read".parse()?);
/// let presented = Presented::new(&key)
///     .for_tenant(Some((&tenant, Environment::Live)))
///     .for_scope(Some(&scope))
///     .from_client("192.0.2.7".parse().ok());
/// assert_eq!(presented.key.hash(), key.hash());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Presented<'a> {
    /// The key. It is well formed, but not verified yet.
    pub key: &'a KeyText,
    /// The tenant that the route serves. `None` means that the route serves each key in its own
    /// tenant. The gate compares this tenant with the principal's tenant, so an implementation that
    /// depends on the key and its account alone can ignore this field.
    pub tenant: Option<(&'a Slug, Environment)>,
    /// The scope that the route requires. The gate compares this scope with the principal's scopes,
    /// so an implementation that depends on the key and its account alone can ignore this field.
    pub scope: Option<&'a Scope>,
    /// The client's address, if it is known. See [`ClientAddress`].
    pub client: Option<IpAddr>,
}

/// The address of the client that sent a request: the address of the connection, or the address
/// that a trusted proxy reports.
///
/// Insert it into the request's extensions before the request reaches the gate. The gate passes it
/// to the verifier.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClientAddress(pub IpAddr);

impl<'a> Presented<'a> {
    /// Presents a key for any tenant, without a required scope or a known client address.
    #[must_use]
    pub fn new(key: &'a KeyText) -> Self {
        Self { key, tenant: None, scope: None, client: None }
    }

    /// Sets the tenant that the route serves.
    #[must_use]
    pub fn for_tenant(self, tenant: Option<(&'a Slug, Environment)>) -> Self {
        Self { tenant, ..self }
    }

    /// Sets the scope that the route requires.
    #[must_use]
    pub fn for_scope(self, scope: Option<&'a Scope>) -> Self {
        Self { scope, ..self }
    }

    /// Sets the address of the client.
    #[must_use]
    pub fn from_client(self, client: Option<IpAddr>) -> Self {
        Self { client, ..self }
    }

    /// Whether the route serves the principal's tenant.
    #[must_use]
    pub fn is_served(&self, principal: &Principal) -> bool {
        self.tenant.is_none_or(|(slug, environment)| {
            *slug == principal.tenant && environment == principal.environment
        })
    }
}
