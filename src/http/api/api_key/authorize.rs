//! Authorization for gateways. The status says whether the gateway should forward the request.
//! Headers identify the key and its account.

use std::sync::Arc;

use axum::{
    extract::{FromRequestParts, RawPathParams},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header::ALLOW, request::Parts},
    response::IntoResponse,
};
use utoipa::IntoParams;

use crate::{
    auth::{Gate, Principal, Problem, ProblemCode, RateLimitFields, Requirement},
    domain::{
        account::ExternalId,
        id::KeyId,
        rate_limit::Cost,
        scope::Scope,
        tenant::{Environment, Slug},
    },
    http::{
        api::shared::{
            params::QueryParams,
            problems::{AnyRoute, Charged, WithApiKey, WithParameters, WithTarget},
        },
        problem,
    },
    state::AppState,
    store::{Refusal, StoreError},
};

const TENANT: HeaderName = HeaderName::from_static("x-tollgate-tenant");
const ENVIRONMENT: HeaderName = HeaderName::from_static("x-tollgate-environment");
const ACCOUNT: HeaderName = HeaderName::from_static("x-tollgate-account");
const KEY_ID: HeaderName = HeaderName::from_static("x-tollgate-key-id");
const SCOPES: HeaderName = HeaderName::from_static("x-tollgate-scopes");

/// Capacity for the headers of the response, including the headers that the layers add.
const HEADERS_OF_RESPONSE: usize = 16;

/// The tenant and the environment in the path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub struct AuthorizePath {
    /// Slug of the tenant. Tollgate accepts only API keys of this tenant.
    tenant: Slug,
    /// Environment of the tenant.
    environment: Environment,
}

impl<S: Send + Sync> FromRequestParts<S> for AuthorizePath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let params = RawPathParams::from_request_parts(parts, state).await;
        let params = params.map_err(|_| malformed_path())?;
        let value = |name| params.iter().find(|(key, _)| *key == name).map(|(_, value)| value);
        let tenant = value("tenant").and_then(|text| text.parse().ok());
        let environment = value("environment").and_then(|text| text.parse().ok());
        let (Some(tenant), Some(environment)) = (tenant, environment) else {
            return Err(malformed_path());
        };
        Ok(Self { tenant, environment })
    }
}

/// The required scope and the cost in the query.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct AuthorizeQuery {
    /// Scope that the API key must have, or that one of its scopes must imply.
    scope: Option<Scope>,
    /// Number of calls that the request counts as in rate limits. Defaults to 1.
    cost: Option<Cost>,
}

impl AuthorizeQuery {
    fn read(mut params: QueryParams) -> Result<Self, Problem> {
        let scope = params.optional("scope", str::parse::<Scope>);
        let cost = params.optional("cost", str::parse::<Cost>);
        params.finish()?;
        Ok(Self { scope, cost })
    }
}

/// The principal of an authorized request. The path and the query are checked before the key, so
/// that a misconfigured gateway fails on its first request.
pub struct Authorized {
    principal: Principal,
    /// The fields about the rate limits that the request was charged to.
    fields: Option<RateLimitFields>,
}

impl FromRequestParts<AppState> for Authorized {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let AuthorizePath { tenant, environment } =
            AuthorizePath::from_request_parts(parts, state).await?;
        let params = QueryParams::from_request_parts(parts, state).await?;
        match state.store.find_tenant(&tenant, environment).await {
            Ok(_) => {}
            Err(StoreError::Refused(Refusal::NotFound)) => {
                return Err(unknown_tenant(&tenant, environment));
            }
            Err(error) => return Err(error.into()),
        }
        let AuthorizeQuery { scope, cost } = AuthorizeQuery::read(params)?;
        let cost = Some(cost.unwrap_or(Cost::ONE));
        let requirement = Requirement { tenant: Some((tenant, environment)), scope, cost };
        let gate = Gate::new(Arc::clone(&state.verifier));
        let principal = gate.admit(&parts.headers, &parts.extensions, &requirement).await?;
        let scopes = requirement.scope.as_slice();
        let fields = principal.limits.as_ref().and_then(|limits| limits.fields(scopes));
        Ok(Self { fields, principal })
    }
}

/// Authorize a gateway's request
///
/// Gateways call this operation in a sub-request for each request of a client. The sub-request
/// needs the client's API key, and may use any method except CONNECT. A key of another tenant or
/// environment gets the same 401 as an unknown key. The service checks the path and the query
/// before the key.
#[utoipa::path(get, path = "/v1/authorize/{tenant}/{environment}", operation_id = "authorize",
    tag = "gate",
    params(AuthorizePath, AuthorizeQuery),
    responses((status = 200,
        description = "The request is authorized. Headers identify the key and its account, and \
                       list the key's scopes.",
        headers(
            ("X-Tollgate-Tenant" = Slug), ("X-Tollgate-Environment" = Environment),
            ("X-Tollgate-Account" = ExternalId), ("X-Tollgate-Key-Id" = KeyId),
            ("X-Tollgate-Scopes" = String,
                description = "The key's scopes, separated by spaces."))),
        AnyRoute, WithApiKey, Charged, WithParameters, WithTarget))]
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %principal.tenant, account = %principal.account, key_id = %principal.key_id))]
pub async fn authorize(Authorized { principal, fields }: Authorized) -> (StatusCode, HeaderMap) {
    let visible = |text: String| HeaderValue::try_from(text).expect("all values are visible ASCII");
    let mut headers = HeaderMap::with_capacity(HEADERS_OF_RESPONSE);
    headers.insert(TENANT, visible(principal.tenant.to_string()));
    headers.insert(ENVIRONMENT, HeaderValue::from_static(principal.environment.as_str()));
    headers.insert(ACCOUNT, visible(principal.account.to_string()));
    headers.insert(KEY_ID, visible(principal.key_id.to_string()));
    headers.insert(SCOPES, visible(principal.scopes.to_string()));
    headers.extend(fields.into_iter().flatten());
    (StatusCode::OK, headers)
}

/// Returns the response to CONNECT. A 200 would open a tunnel for the client.
pub async fn refuse_tunnel() -> impl IntoResponse {
    let allowed = [(ALLOW, "GET,HEAD,POST,PUT,PATCH,DELETE,OPTIONS,TRACE")];
    (allowed, problem::no_such_method().await)
}

/// Returns the response for a path without a tenant. Without a tenant, Tollgate would accept a key
/// of any tenant.
pub async fn without_tenant() -> Problem {
    Problem::new(
        ProblemCode::NotFound,
        "The path does not name a tenant. Call /v1/authorize/{tenant}/{environment} instead.",
    )
}

/// Returns the response for a path that names no tenant or environment. The detail does not repeat
/// the path, because a client may have put a key there by mistake.
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
        "The tenant {tenant} does not exist in the environment {environment}. Correct the path: \
         /v1/authorize/{{tenant}}/{{environment}}."
    );
    Problem::new(ProblemCode::NotFound, detail)
}
