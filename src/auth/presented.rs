use std::net::IpAddr;

use super::Principal;
use crate::domain::{
    address_set::AddressSet,
    api_key::KeyText,
    rate_limit::Cost,
    scope::Scope,
    tenant::{Environment, Slug},
};

/// A key and the context of its request, as the gate presents them to a
/// [`KeyVerifier`](super::KeyVerifier).
///
/// ```
/// use tollgate::{
///     auth::Presented,
///     domain::{api_key::KeyText, rate_limit::Cost, scope::Scope, tenant::Environment},
/// };
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let key = KeyText::parse("ta_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")?;
/// let (tenant, scope): (_, Scope) = ("tronagg".parse()?, "orders:read".parse()?);
/// let presented = Presented::new(&key)
///     .for_tenant(Some((&tenant, Environment::Live)))
///     .for_scopes(std::slice::from_ref(&scope))
///     .costing(Some(Cost::ONE))
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
    /// The scopes that the request asks for. The gate compares these scopes with the principal's
    /// scopes, so an implementation that depends on the key and its account alone can ignore this
    /// field.
    pub scopes: &'a [Scope],
    /// The number of calls that the request counts as in rate limits. `None` if the request is not
    /// charged to rate limits.
    pub cost: Option<Cost>,
    /// The client's address, if it is known. See [`ClientAddress`]. The gate compares it with the
    /// addresses that the principal allows, so an implementation that depends on the key and its
    /// account alone can ignore this field.
    pub client: Option<IpAddr>,
}

/// The address of the client that sent a request: the address of the connection, or the address
/// that a trusted proxy reports.
///
/// Insert it into the request's extensions before the request reaches the gate. The gate passes it
/// to the verifier. Without it, the gate refuses keys that may be used only from some addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClientAddress(pub IpAddr);

impl<'a> Presented<'a> {
    /// Presents a key for any tenant, without scopes, a cost or a known client address.
    #[must_use]
    pub fn new(key: &'a KeyText) -> Self {
        Self { key, tenant: None, scopes: &[], cost: None, client: None }
    }

    /// Sets the tenant that the route serves.
    #[must_use]
    pub fn for_tenant(self, tenant: Option<(&'a Slug, Environment)>) -> Self {
        Self { tenant, ..self }
    }

    /// Sets the scopes that the request asks for.
    #[must_use]
    pub fn for_scopes(self, scopes: &'a [Scope]) -> Self {
        Self { scopes, ..self }
    }

    /// Sets the number of calls that the request counts as. `None` means that it is not charged to
    /// rate limits.
    #[must_use]
    pub fn costing(self, cost: Option<Cost>) -> Self {
        Self { cost, ..self }
    }

    /// Sets the address of the client.
    #[must_use]
    pub fn from_client(self, client: Option<IpAddr>) -> Self {
        Self { client, ..self }
    }

    /// Whether the key may be used from the client's address. If the principal allows only some
    /// addresses, an unknown address is not allowed.
    #[must_use]
    pub fn is_from_allowed_address(&self, principal: &Principal) -> bool {
        let is_in = |set: &AddressSet| self.client.is_some_and(|address| set.contains(address));
        principal.allowed_ips.as_ref().is_none_or(is_in)
    }

    /// Returns the first scope that the principal lacks.
    #[must_use]
    pub fn lacking_scope(&self, principal: &Principal) -> Option<&'a Scope> {
        self.scopes.iter().find(|scope| !principal.scopes.allows(scope))
    }

    /// Whether the route serves the principal's tenant.
    #[must_use]
    pub fn is_served(&self, principal: &Principal) -> bool {
        self.tenant.is_none_or(|(slug, environment)| {
            *slug == principal.tenant && environment == principal.environment
        })
    }
}
