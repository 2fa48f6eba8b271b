//! For gateways: yes or no, and who it is, in headers.

use axum::http::{HeaderMap, HeaderValue, StatusCode};
use utoipa::IntoParams;

use crate::{
    auth::{Principal, Problem},
    domain::scope::Scope,
    http::api::shared::{
        params::QueryParams,
        problems::{AnyRoute, WithApiKey, WithParameters},
    },
};

/// What the key has to be good for.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "the parameters, for the OpenAPI document")]
pub struct AuthorizeParams {
    /// A scope that one of the key's has to imply.
    #[param(example = "orders:write", pattern = "^([a-z][a-z0-9_]{0,30}:)?(read|write)$")]
    scope: Option<String>,
}

/// Answer a gateway's sub-request: 200 with who it is in headers, or 401, 403, 503. Any method is
/// taken. Parameters other than `scope` are the original request's and are passed over.
#[utoipa::path(get, path = "/v1/authorize", operation_id = "authorize",
    tag = "gate", security(("api_key" = [])),
    params(AuthorizeParams),
    responses((status = 200, description = "The request may pass", headers(
        ("X-Tollgate-Tenant" = String), ("X-Tollgate-Environment" = String),
        ("X-Tollgate-Account" = String), ("X-Tollgate-Key-Id" = String),
        ("X-Tollgate-Scopes" = String, description = "Separated by spaces"))),
        AnyRoute, WithApiKey, WithParameters))]
pub async fn authorize(
    principal: Principal,
    mut params: QueryParams,
) -> Result<(StatusCode, HeaderMap), Problem> {
    let scope = params.optional("scope", str::parse::<Scope>);
    params.finish_leniently()?;
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
