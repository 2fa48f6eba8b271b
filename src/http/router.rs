//! All routes, and all layers in their order, with the reasons.

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request},
    http::{HeaderValue, header},
    middleware::{self, Next},
    response::Response,
    routing::any,
};
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::openapi::OpenApi;
use utoipa_axum::{
    router::{OpenApiRouter, UtoipaMethodRouter},
    routes,
};
use utoipa_swagger_ui::{Config, SwaggerUi};

use super::{
    AppState, access, accounts, admin, api_keys, audit_events, authorize, credits, health, holds,
    ledger, me, openapi, portal_sessions, portal_settings, problem, purchases, refunds, usage,
    verify,
};
use crate::{
    auth::ApiKeyLayer,
    domain::{permission::Permission, scope::Scope},
};

/// A route's way in: which credential, and what it has to be good for.
type Guarded = (Guard, OpenApiRouter<AppState>);

/// Who may call a route.
#[derive(Clone)]
enum Guard {
    Open,
    ApiKey(Option<Scope>),
    AdminKey(Permission),
}

/// All of the service that HTTP shows. The pages come with what stands around them alone; the layers
/// of all requests are put around them here.
pub fn router(state: AppState, pages: Router) -> Router {
    let mut routes = OpenApiRouter::with_openapi(openapi::skeleton());
    for (guard, group) in route_groups() {
        routes = routes.merge(guard.protect(group, &state));
    }
    let (routes, document) = routes.split_for_parts();
    // The page's badge would ask a service elsewhere whether the document is valid.
    let config = Config::new(["/openapi.json"]).validator_url("none");
    let docs = SwaggerUi::new("/docs").config(config).url("/openapi.json", document);
    routes
        .merge(docs)
        .method_not_allowed_fallback(problem::no_such_method)
        .fallback(problem::no_such_path)
        .with_state(state.clone())
        .merge(pages)
        // Innermost first. Bounds what a handler reads of the body.
        .layer(DefaultBodyLimit::max(state.limits.body_bytes))
        // What is said here is about one key or account at one moment: nobody may keep it.
        .layer(middleware::from_fn(forbid_storing))
        // A panic is a 500 with a problem body, and is logged by the layer around it.
        .layer(CatchPanicLayer::custom(problem::panicked))
        // Outermost, so that it sees every answer there is: the request's id, the log, the
        // counts, the time-out.
        .layer(middleware::from_fn_with_state(state, access::observe))
}

/// The routes and what the document says of them, without the layers: those need a database.
pub fn documented_routes() -> (Router<AppState>, OpenApi) {
    let mut routes = OpenApiRouter::with_openapi(openapi::skeleton());
    for (_, group) in route_groups() {
        routes = routes.merge(group);
    }
    routes.split_for_parts()
}

fn route_groups() -> Vec<Guarded> {
    use Guard::{AdminKey, ApiKey, Open};
    use Permission::{Accounts, Audit, Credits, Keys, Verify};
    let group = OpenApiRouter::<AppState>::new;
    vec![
        (Open, group().routes(routes!(health::livez)).routes(routes!(health::readyz))),
        (ApiKey(None), group().routes(authorize_by_any_method()).routes(routes!(me::get))),
        (
            ApiKey(Some(Scope::purchases_write())),
            group()
                .routes(routes!(purchases::create))
                .routes(routes!(holds::create))
                .routes(routes!(holds::capture))
                .routes(routes!(holds::void)),
        ),
        (
            ApiKey(Some(Scope::purchases_read())),
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
                .routes(routes!(accounts::list)),
        ),
        (
            AdminKey(Accounts),
            // A logo is larger than other bodies.
            group()
                .routes(routes!(portal_settings::get, portal_settings::patch))
                .layer(DefaultBodyLimit::max(portal_settings::BODY_BYTES)),
        ),
        (
            AdminKey(Credits),
            group().routes(routes!(credits::create)).routes(routes!(refunds::create)),
        ),
        (
            AdminKey(Keys),
            group()
                .routes(routes!(api_keys::create, api_keys::list))
                .routes(routes!(api_keys::get, api_keys::patch))
                .routes(routes!(usage::get))
                .routes(routes!(api_keys::revoke))
                .routes(routes!(api_keys::rotate))
                .routes(routes!(portal_sessions::create)),
        ),
        (AdminKey(Verify), group().routes(routes!(verify::verify))),
        (
            AdminKey(Audit),
            group()
                .routes(routes!(purchases::list_of_account))
                .routes(routes!(refunds::list))
                .routes(routes!(ledger::list))
                .routes(routes!(ledger::export))
                .routes(routes!(ledger::balance_then))
                .routes(routes!(audit_events::list)),
        ),
    ]
}

/// A gateway asks with the method of the request that it is about. The document names one.
fn authorize_by_any_method() -> UtoipaMethodRouter<AppState> {
    let (schemas, paths, _): UtoipaMethodRouter<AppState> = routes!(authorize::authorize);
    // CONNECT asks for a tunnel, which a 200 would open.
    (schemas, paths, any(authorize::authorize).connect(problem::no_such_method))
}

impl Guard {
    fn protect(self, routes: OpenApiRouter<AppState>, state: &AppState) -> OpenApiRouter<AppState> {
        match self {
            Self::Open => routes,
            Self::ApiKey(scope) => {
                let gate = ApiKeyLayer::shared(state.verifier.clone());
                routes.route_layer(match scope {
                    Some(scope) => gate.require_scope(scope),
                    None => gate,
                })
            }
            Self::AdminKey(permission) => {
                let state = (state.clone(), permission);
                routes.route_layer(middleware::from_fn_with_state(state, admin::admit))
            }
        }
    }
}

async fn forbid_storing(request: Request, next: Next) -> Response {
    let is_api = request.uri().path().starts_with("/v1/");
    let mut response = next.run(request).await;
    if is_api {
        let no_store = HeaderValue::from_static("no-store");
        response.headers_mut().insert(header::CACHE_CONTROL, no_store);
    }
    response
}
