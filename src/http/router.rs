//! All layers around the routes, in their order, with the reasons.

use std::sync::Arc;

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request},
    http::{HeaderValue, header},
    middleware::{self, Next},
    response::Response,
    routing::get,
};
use tower_http::catch_panic::CatchPanicLayer;

use super::{
    api::open::health,
    problem,
    routes::guarded_routes,
    transport::{access, refusal_log::RefusalLog},
};
use crate::state::AppState;

/// The API, and the pages: the dashboard, and unless it is off the documentation. Pages have their
/// own layers; the layers of all requests are added here.
pub fn router(state: AppState, pages: Router, refusals: Arc<RefusalLog>) -> Router {
    guarded_routes(&state)
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
        // Outermost, so that it sees every response: the request's id, the log, the counts, the
        // time-out, the security headers.
        .layer(middleware::from_fn_with_state((state, refusals), access::observe))
}

/// What operators ask on a listener of its own: the metrics, and whether the service runs and is
/// ready.
pub fn operations_router(metrics: Router, state: &AppState, refusals: &Arc<RefusalLog>) -> Router {
    let observed = (state.clone(), Arc::clone(refusals));
    Router::new()
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .with_state(state.clone())
        .merge(metrics)
        .method_not_allowed_fallback(problem::no_such_method)
        .fallback(problem::no_such_path)
        .layer(middleware::from_fn_with_state(observed, access::observe))
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
