use std::sync::Arc;

use axum::http::{Extensions, HeaderMap, HeaderName};

use super::{
    Caller, Challenge, ClientAddress, Credentials, CredentialsError, KeyVerifier, Presented,
    Principal, Problem, ProblemCode, Verdict,
};
use crate::domain::{
    api_key::KeyText,
    rate_limit::Cost,
    scope::Scope,
    tenant::{Environment, Slug},
    verification::{Denial, GateDecision},
};

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Accepts or refuses a request. It reads the key, asks the verifier, and compares the tenant and
/// the scope.
///
/// [`ApiKeyLayer`](super::ApiKeyLayer) puts a gate in front of a service.
pub(crate) struct Gate<V> {
    verifier: Arc<V>,
    header: HeaderName,
    bearer: bool,
}

/// The tenant and the scope that a route requires of a live key.
#[derive(Clone)]
pub(crate) struct Requirement {
    /// The tenant whose keys are accepted. `None` means that each key is accepted in its own
    /// tenant.
    pub tenant: Option<(Slug, Environment)>,
    pub scope: Option<Scope>,
    /// The number of calls that a request counts as. `None` means that requests are not charged to
    /// rate limits.
    pub cost: Option<Cost>,
}

impl<V: KeyVerifier> Gate<V> {
    /// Reads the key from `X-API-Key` or `Authorization: Bearer`.
    pub fn new(verifier: Arc<V>) -> Self {
        Self { verifier, header: X_API_KEY, bearer: true }
    }

    /// Returns the principal of the request, or the problem if the gate refuses it.
    ///
    /// Use this in a handler that must read the request before its key. Elsewhere, use a layer,
    /// because a handler behind a layer cannot forget the check.
    #[cfg(feature = "server")]
    pub async fn admit(
        &self,
        headers: &HeaderMap,
        extensions: &Extensions,
        requirement: &Requirement,
    ) -> Result<Principal, Problem> {
        let key = self.read_key(headers)?;
        let presented = present(&key, requirement, extensions);
        let verdict = match self.verifier.verify_at_once(&presented) {
            Some(verdict) => verdict,
            None => self.verifier.verify(&presented).await,
        };
        judge(verdict, &presented, extensions)
    }
}

impl<V> Gate<V> {
    pub(super) fn verifier(&self) -> &V {
        &self.verifier
    }

    /// Makes the gate ignore `Authorization: Bearer`.
    pub(super) fn header_only(self) -> Self {
        Self { bearer: false, ..self }
    }

    /// Makes the gate read `header` instead of `X-API-Key`.
    pub(super) fn header_name(self, header: HeaderName) -> Self {
        Self { header, ..self }
    }

    pub(super) fn read_key(&self, headers: &HeaderMap) -> Result<KeyText, Problem> {
        let header = &self.header;
        let credentials = if self.bearer {
            Credentials::read(headers, header)
        } else {
            Credentials::read_header(headers, header)
        };
        match credentials {
            Ok(credentials) => Ok(credentials.into_key()),
            Err(CredentialsError::Malformed) => Err(Denial::Malformed.into()),
            Err(CredentialsError::Missing) => Err(Problem::unauthorized(
                ProblemCode::MissingApiKey,
                format!("The request contains no API key. Send one in the {header} header."),
                Challenge::Bare,
            )
            .decided(GateDecision::Missing)),
            Err(CredentialsError::Conflicting) => Err(Problem::unauthorized(
                ProblemCode::MissingApiKey,
                "The request contains different API keys. Send only one.",
                Challenge::Bare,
            )
            .decided(GateDecision::Conflicting)),
        }
    }
}

impl<V> Clone for Gate<V> {
    fn clone(&self) -> Self {
        Self {
            verifier: Arc::clone(&self.verifier),
            header: self.header.clone(),
            bearer: self.bearer,
        }
    }
}

/// Combines the key and the requirement for the verifier.
pub(super) fn present<'a>(
    key: &'a KeyText,
    requirement: &'a Requirement,
    extensions: &Extensions,
) -> Presented<'a> {
    let client = extensions.get::<ClientAddress>();
    let tenant = requirement.tenant.as_ref();
    Presented::new(key)
        .for_tenant(tenant.map(|(slug, environment)| (slug, *environment)))
        .for_scopes(requirement.scope.as_slice())
        .costing(requirement.cost)
        .from_client(client.map(|client| client.0))
}

/// Accepts or refuses the request, depending on the verdict. Returns the principal or the reason
/// for the refusal. If the request contains a [`Caller`], also sets it to the owner of the key.
pub(super) fn judge(
    verdict: Verdict,
    presented: &Presented<'_>,
    extensions: &Extensions,
) -> Result<Principal, Problem> {
    let known = verdict.as_ref().map_or_else(|denied| denied.principal.as_ref(), Some);
    // This check comes first, even for a denied key, because this tenant must not learn whether
    // another tenant suspended the account. The caller stays unknown, so nothing is counted for the
    // key.
    if known.is_some_and(|principal| !presented.is_served(principal)) {
        return Err(Problem::from(Denial::NotFound).decided(GateDecision::WrongTenant));
    }
    if let (Some(principal), Some(caller)) = (known, extensions.get::<Caller>()) {
        caller.is(principal);
    }
    let principal = verdict?;
    if !presented.is_from_allowed_address(&principal) {
        return Err(Denial::IpNotAllowed.into());
    }
    match presented.lacking_scope(&principal) {
        Some(scope) => Err(Problem::insufficient_scope(scope)),
        None => Ok(principal),
    }
}
