//! Authorization for gateways: the status says whether the key passes, and headers say whose key it
//! is.

use axum::http::{HeaderMap, HeaderValue, StatusCode};
use utoipa::IntoParams;

use crate::{
    auth::{Principal, Problem},
    domain::{
        account::ExternalId,
        id::KeyId,
        scope::Scope,
        tenant::{Environment, Slug},
    },
    http::api::shared::{
        params::QueryParams,
        problems::{AnyRoute, WithApiKey, WithParameters},
    },
};

/// What the key must be allowed to do.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct AuthorizeQuery {
    /// A scope that one of the key's scopes must imply.
    scope: Option<Scope>,
}

impl AuthorizeQuery {
    fn read(mut params: QueryParams) -> Result<Self, Problem> {
        let scope = params.optional("scope", str::parse::<Scope>);
        params.finish_leniently()?;
        Ok(Self { scope })
    }
}

/// Authorize a gateway's request
///
/// For gateways that send a sub-request. Accepts any method except CONNECT. Ignores query
/// parameters other than `scope`, which belong to the original request.
#[utoipa::path(get, path = "/v1/authorize", operation_id = "authorize",
    tag = "gate", security(("api_key" = [])),
    params(AuthorizeQuery),
    responses((status = 200, description = "The request may pass. The headers say whose it is.",
        headers(
            ("X-Tollgate-Tenant" = Slug), ("X-Tollgate-Environment" = Environment),
            ("X-Tollgate-Account" = ExternalId), ("X-Tollgate-Key-Id" = KeyId),
            ("X-Tollgate-Scopes" = String, description = "Separated by spaces"))),
        AnyRoute, WithApiKey, WithParameters))]
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %principal.tenant, account = %principal.account, key_id = %principal.key_id))]
pub async fn authorize(
    principal: Principal,
    params: QueryParams,
) -> Result<(StatusCode, HeaderMap), Problem> {
    let AuthorizeQuery { scope } = AuthorizeQuery::read(params)?;
    if let Some(scope) = scope.filter(|scope| !principal.scopes.allows(scope)) {
        return Err(Problem::insufficient_scope(&scope));
    }
    let visible = |text: String| HeaderValue::try_from(text).expect("all of it is visible ASCII");
    let headers = [
        ("x-tollgate-tenant", principal.tenant.to_string()),
        ("x-tollgate-environment", principal.environment.as_str().to_owned()),
        ("x-tollgate-account", principal.account.to_string()),
        ("x-tollgate-key-id", principal.key_id.to_string()),
        ("x-tollgate-scopes", principal.scopes.to_string()),
    ];
    let headers =
        headers.map(|(name, value)| (axum::http::HeaderName::from_static(name), visible(value)));
    Ok((StatusCode::OK, headers.into_iter().collect()))
}
