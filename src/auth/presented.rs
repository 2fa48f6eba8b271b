use std::net::IpAddr;

use super::Principal;
use crate::domain::{
    api_key::KeyText,
    scope::Scope,
    tenant::{Environment, Slug},
};

/// What a request presents to the gate, as a [`KeyVerifier`](super::KeyVerifier) is asked about it.
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
    /// Well formed, but not known yet.
    pub key: &'a KeyText,
    /// The tenant that the route serves; `None`: it serves each key in its own tenant. The gate
    /// compares it with the principal's tenant by itself: an implementation that answers for key
    /// and account alone can ignore it.
    pub tenant: Option<(&'a Slug, Environment)>,
    /// The scope that the route asks for. The gate compares it with the principal's scopes by
    /// itself: an implementation that answers for key and account alone can ignore it.
    pub scope: Option<&'a Scope>,
    /// The client's address, where it is known: see [`ClientAddress`].
    pub client: Option<IpAddr>,
}

/// The address of the client that a request comes from: that of the connection, or the one that a
/// trusted proxy names.
///
/// Put it into a request's extensions before the request comes to the gate, which hands it to the
/// verifier.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClientAddress(pub IpAddr);

impl<'a> Presented<'a> {
    /// A key, for any tenant and no scope, from an unknown address.
    #[must_use]
    pub fn new(key: &'a KeyText) -> Self {
        Self { key, tenant: None, scope: None, client: None }
    }

    /// The same for a route that serves this tenant.
    #[must_use]
    pub fn for_tenant(self, tenant: Option<(&'a Slug, Environment)>) -> Self {
        Self { tenant, ..self }
    }

    /// The same for a route that asks for a scope.
    #[must_use]
    pub fn for_scope(self, scope: Option<&'a Scope>) -> Self {
        Self { scope, ..self }
    }

    /// The same from a client at this address.
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
