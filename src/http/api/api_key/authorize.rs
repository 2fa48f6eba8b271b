//! Authorization for gateways: the status says whether the key passes, and headers say whose key it
//! is.

use axum::{
    extract::{FromRequestParts, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header::ALLOW, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use utoipa::IntoParams;

use crate::{
    auth::{Principal, Problem, ProblemCode, Requirement},
    domain::{
        account::ExternalId,
        id::KeyId,
        scope::Scope,
        tenant::{Environment, Slug},
    },
    http::{
        api::shared::{
            params::{QueryParams, path_id},
            problems::{AnyRoute, WithApiKey, WithParameters, WithTarget},
        },
        problem,
    },
    state::AppState,
    store::{Refusal, StoreError},
};

/// Whose keys may pass.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub struct AuthorizePath {
    /// The tenant that the gateway serves.
    tenant: Slug,
    /// The tenant's environment that the gateway serves.
    environment: Environment,
}

impl<S: Send + Sync> FromRequestParts<S> for AuthorizePath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let malformed = |_| malformed_path();
        let tenant = path_id::<Slug>(parts, "tenant").await.map_err(malformed)?;
        let environment = path_id::<Environment>(parts, "environment").await.map_err(malformed)?;
        Ok(Self { tenant, environment })
    }
}

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
        params.finish()?;
        Ok(Self { scope })
    }
}

/// Reads the path and the query, and puts what they require into the request, for the gate. A wrong
/// path or query is refused before the key is read, so that a gateway's administrator notices it
/// with the first request.
pub async fn require(
    State(state): State<AppState>,
    AuthorizePath { tenant, environment }: AuthorizePath,
    params: QueryParams,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    match state.store.find_tenant(&tenant, environment).await {
        Ok(_) => {}
        Err(StoreError::Refused(Refusal::NotFound)) => {
            return Err(unknown_tenant(&tenant, environment));
        }
        Err(error) => return Err(error.into()),
    }
    let AuthorizeQuery { scope } = AuthorizeQuery::read(params)?;
    request.extensions_mut().insert(Requirement { tenant: Some((tenant, environment)), scope });
    Ok(next.run(request).await)
}

/// Authorize a gateway's request
///
/// For gateways that send a sub-request. Accepts any method except CONNECT. A key of another tenant
/// or environment gets the same 401 as an unknown key. The path and the query are checked before
/// the key.
#[utoipa::path(get, path = "/v1/authorize/{tenant}/{environment}", operation_id = "authorize",
    tag = "gate", security(("api_key" = [])),
    params(AuthorizePath, AuthorizeQuery),
    responses((status = 200, description = "The request may pass. The headers say whose it is.",
        headers(
            ("X-Tollgate-Tenant" = Slug), ("X-Tollgate-Environment" = Environment),
            ("X-Tollgate-Account" = ExternalId), ("X-Tollgate-Key-Id" = KeyId),
            ("X-Tollgate-Scopes" = String, description = "Separated by spaces"))),
        AnyRoute, WithApiKey, WithParameters, WithTarget))]
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %principal.tenant, account = %principal.account, key_id = %principal.key_id))]
pub async fn authorize(principal: Principal) -> (StatusCode, HeaderMap) {
    let visible = |text: String| HeaderValue::try_from(text).expect("all of it is visible ASCII");
    let headers = [
        ("x-tollgate-tenant", principal.tenant.to_string()),
        ("x-tollgate-environment", principal.environment.as_str().to_owned()),
        ("x-tollgate-account", principal.account.to_string()),
        ("x-tollgate-key-id", principal.key_id.to_string()),
        ("x-tollgate-scopes", principal.scopes.to_string()),
    ];
    let headers = headers.map(|(name, value)| (HeaderName::from_static(name), visible(value)));
    (StatusCode::OK, headers.into_iter().collect())
}

/// The response to CONNECT, which asks for a tunnel that a 200 would open.
pub async fn refuse_tunnel() -> impl IntoResponse {
    let allowed = [(ALLOW, "GET,HEAD,POST,PUT,PATCH,DELETE,OPTIONS,TRACE")];
    (allowed, problem::no_such_method().await)
}

/// The response for a path without a tenant. Without one, a key of any tenant would pass.
pub async fn without_tenant() -> Problem {
    Problem::new(
        ProblemCode::NotFound,
        "The path must name the tenant whose keys may pass. Call \
         /v1/authorize/{tenant}/{environment} instead.",
    )
}

/// The detail does not repeat the path: a client may have put a key there by mistake.
fn malformed_path() -> Problem {
    Problem::new(
        ProblemCode::NotFound,
        "The path does not name a tenant. Call /v1/authorize/{tenant}/{environment}, where the \
         environment is live or test.",
    )
}

fn unknown_tenant(tenant: &Slug, environment: Environment) -> Problem {
    let environment = environment.as_str();
    let detail = format!(
        "There is no tenant {tenant} in the environment {environment}. Correct the path, \
         /v1/authorize/{{tenant}}/{{environment}}."
    );
    Problem::new(ProblemCode::NotFound, detail)
}
