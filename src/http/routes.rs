//! All routes, each with the credential that it requires.

use axum::{Router, extract::DefaultBodyLimit, middleware, routing::any};
use utoipa::openapi::{OpenApi, PathItem, path::Operation, security::SecurityRequirement};
use utoipa_axum::{
    router::{OpenApiRouter, UtoipaMethodRouter},
    routes,
};

use super::api::{
    admin_key::{
        accounts, api_keys, audit_events, credits, dashboard_links, dashboard_sessions,
        dashboard_settings, holds as account_holds, key_clients, ledger, limits, plans,
        purchases as account_purchases, refunds, usage, verify,
    },
    api_key::{authorize, holds, me, purchases},
    open::{health, service},
    shared::{admin, in_flight},
};
use crate::{
    auth::ApiKeyLayer,
    domain::{permission::Permission, scope::Scope},
    state::AppState,
    web::in_flight::InFlight,
};

/// A group of routes, and the guard in front of them.
type Guarded = (Guard, OpenApiRouter<AppState>);

/// The credential that a route requires.
#[derive(Clone)]
enum Guard {
    Open,
    /// An API key of any tenant. The routes write through their own queues, so they need no limit
    /// on requests in flight.
    ApiKey(Option<Scope>),
    /// The same, and each request is charged to the rate limits of the key.
    ChargedApiKey(Option<Scope>),
    /// An API key of any tenant, with a limit on requests in flight. Routes that use the shared
    /// connections to the database need this limit.
    BoundApiKey(Option<Scope>),
    /// An API key of the tenant in the path, with the scope in the query. The handler calls the
    /// gate itself, because it checks the path and the query before the key.
    ApiKeyOfTenantInPath,
    AdminKey(Permission),
}

/// Builds the router of all API routes, each behind its guard.
pub fn guarded_routes(state: &AppState) -> Router<AppState> {
    let mut routes = OpenApiRouter::new();
    let in_flight = InFlight::new(state.limits.in_flight);
    for (guard, group) in route_groups() {
        routes = routes.merge(guard.protect(group, state, &in_flight));
    }
    // The OpenAPI document omits this route, because it only names the path to call instead.
    Router::from(routes).route("/v1/authorize", any(authorize::without_tenant))
}

/// Adds all routes to an OpenAPI document. Needs no database, because it adds no guards.
pub fn document_routes(document: OpenApi) -> OpenApi {
    let mut routes = OpenApiRouter::with_openapi(document);
    for (guard, mut group) in route_groups() {
        let requirement = guard.requirement();
        for item in group.get_openapi_mut().paths.paths.values_mut() {
            for operation in operations(item) {
                operation.security = Some(requirement.iter().cloned().collect());
            }
        }
        routes = routes.merge(group);
    }
    // The router of `/` mounts this route, because browsers get a page under the same path.
    routes.routes(routes!(service::describe)).into_openapi()
}

/// Returns the operations of a path.
pub fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [
        &mut item.get,
        &mut item.put,
        &mut item.post,
        &mut item.delete,
        &mut item.options,
        &mut item.head,
        &mut item.patch,
        &mut item.trace,
    ]
    .into_iter()
    .flatten()
}

fn route_groups() -> Vec<Guarded> {
    use Guard::{AdminKey, ApiKey, ApiKeyOfTenantInPath, BoundApiKey, ChargedApiKey, Open};
    use Permission::{Accounts, Audit, Credits, Dashboard, Keys, Policy, Verify};
    let group = OpenApiRouter::<AppState>::new;
    vec![
        (Open, group().routes(routes!(health::livez)).routes(routes!(health::readyz))),
        (ApiKeyOfTenantInPath, group().routes(authorize_by_any_method())),
        (BoundApiKey(None), group().routes(routes!(me::get))),
        (
            ChargedApiKey(Some(Scope::purchases_write())),
            group().routes(routes!(purchases::create)).routes(routes!(holds::create)),
        ),
        (
            ApiKey(Some(Scope::purchases_write())),
            group().routes(routes!(holds::capture)).routes(routes!(holds::void)),
        ),
        (
            BoundApiKey(Some(Scope::purchases_read())),
            group()
                .routes(routes!(purchases::list_own))
                .routes(routes!(purchases::get_own))
                .routes(routes!(holds::list))
                .routes(routes!(holds::get)),
        ),
        (
            AdminKey(Accounts),
            group()
                .routes(routes!(accounts::put, accounts::get, accounts::patch))
                .routes(routes!(accounts::list))
                .routes(routes!(limits::get, limits::patch)),
        ),
        (
            AdminKey(Accounts),
            // A logo is larger than other bodies.
            group()
                .routes(routes!(dashboard_settings::get, dashboard_settings::patch))
                .layer(DefaultBodyLimit::max(dashboard_settings::BODY_BYTES)),
        ),
        (
            AdminKey(Credits),
            group()
                .routes(routes!(credits::create))
                .routes(routes!(refunds::create))
                .routes(routes!(account_holds::void_of_account)),
        ),
        (
            AdminKey(Keys),
            group()
                .routes(routes!(api_keys::create, api_keys::list))
                .routes(routes!(api_keys::get, api_keys::patch))
                .routes(routes!(usage::get))
                .routes(routes!(api_keys::revoke))
                .routes(routes!(api_keys::rotate)),
        ),
        (
            AdminKey(Dashboard),
            group()
                .routes(routes!(dashboard_links::create))
                .routes(routes!(dashboard_sessions::end)),
        ),
        (
            AdminKey(Policy),
            group()
                .routes(routes!(plans::put, plans::get, plans::patch, plans::delete))
                .routes(routes!(plans::list_all)),
        ),
        (AdminKey(Verify), group().routes(routes!(verify::verify))),
        (
            AdminKey(Audit),
            group()
                .routes(routes!(account_purchases::list_of_account))
                .routes(routes!(account_holds::list_of_account))
                .routes(routes!(refunds::list))
                .routes(routes!(key_clients::get))
                .routes(routes!(ledger::list))
                .routes(routes!(ledger::export))
                .routes(routes!(ledger::balance_then))
                .routes(routes!(audit_events::list)),
        ),
    ]
}

/// Accepts every method, because gateways send the method of the client's request. The OpenAPI
/// document lists only GET.
fn authorize_by_any_method() -> UtoipaMethodRouter<AppState> {
    let (schemas, paths, _): UtoipaMethodRouter<AppState> = routes!(authorize::authorize);
    (schemas, paths, any(authorize::authorize).connect(authorize::refuse_tunnel))
}

impl Guard {
    /// Returns the guard's entry in the document: the credential, and the required scope or
    /// permission, which OpenAPI calls a role. `None` means that no credential is required.
    fn requirement(&self) -> Option<SecurityRequirement> {
        match self {
            Self::Open => None,
            Self::ApiKey(scope) | Self::ChargedApiKey(scope) | Self::BoundApiKey(scope) => {
                let scopes = scope.iter().map(ToString::to_string);
                Some(SecurityRequirement::new("api_key", scopes))
            }
            Self::ApiKeyOfTenantInPath => {
                Some(SecurityRequirement::new("api_key", Vec::<String>::new()))
            }
            Self::AdminKey(permission) => {
                Some(SecurityRequirement::new("admin_key", [permission.as_str()]))
            }
        }
    }

    fn protect(
        self,
        routes: OpenApiRouter<AppState>,
        state: &AppState,
        in_flight: &InFlight,
    ) -> OpenApiRouter<AppState> {
        let gate = |state: &AppState, scope| {
            let gate = ApiKeyLayer::for_every_tenant(state.verifier.clone());
            match scope {
                Some(scope) => gate.require_scope(scope),
                None => gate,
            }
        };
        match self {
            Self::Open | Self::ApiKeyOfTenantInPath => routes,
            Self::ApiKey(scope) => routes.route_layer(gate(state, scope).without_charge()),
            Self::ChargedApiKey(scope) => routes.route_layer(gate(state, scope)),
            // The last layer is the outermost.
            Self::BoundApiKey(scope) => {
                let bound = middleware::from_fn_with_state(in_flight.clone(), in_flight::bound);
                let routes = routes.route_layer(bound);
                Self::ApiKey(scope).protect(routes, state, in_flight)
            }
            Self::AdminKey(permission) => {
                let state = (state.clone(), permission);
                routes.route_layer(middleware::from_fn_with_state(state, admin::admit))
            }
        }
    }
}
