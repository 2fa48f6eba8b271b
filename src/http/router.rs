//! All layers around the routes, in their order, with the reasons.

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request},
    http::{HeaderValue, header},
    middleware::{self, Next},
    response::Response,
    routing::get,
};
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_swagger_ui::{Config, SwaggerUi};

use super::{api::open::health, openapi, problem, routes::guarded_routes, transport::access};
use crate::state::AppState;

/// All of the service that HTTP shows. The pages come with what stands around them alone; the layers
/// of all requests are put around them here.
pub fn router(state: AppState, pages: Router) -> Router {
    // The page's badge would ask a service elsewhere whether the document is valid.
    let config = Config::new(["/openapi.json"]).validator_url("none");
    let docs = SwaggerUi::new("/docs").config(config).url("/openapi.json", openapi::document());
    guarded_routes(&state)
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

/// Whether the service runs and is ready, for the listener of the metrics.
pub fn health_router(state: &AppState) -> Router {
    let routes = Router::new()
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .with_state(state.clone());
    routes.layer(middleware::from_fn_with_state(state.clone(), access::observe))
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
