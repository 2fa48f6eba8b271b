//! All layers around the routes, in their order, with the reasons.

use std::sync::Arc;

use axum::{Router, extract::DefaultBodyLimit, middleware, routing::get};
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;

use super::{
    api::open::health,
    nearest_route, problem,
    routes::guarded_routes,
    transport::{
        access::{self, Observer},
        refusal_log::RefusalLog,
    },
};
use crate::{
    auth::Problem,
    state::{AppState, Limits},
};

/// The API, and the pages: the dashboard, and unless it is off the documentation. Pages have their
/// own layers; the layers of all requests are added here.
pub fn router(state: AppState, pages: Router, refusals: Arc<RefusalLog>) -> Router {
    let body_bytes = state.limits.body_bytes;
    let observer = Observer::new(state.clone(), refusals);
    guarded_routes(&state)
        .method_not_allowed_fallback(problem::no_such_method)
        .fallback(nearest_route::no_such_path)
        .with_state(state.clone())
        .merge(pages)
        .layer(
            // Outermost first. All in one layer of the router, which boxes a request's future once
            // for each of its layers.
            ServiceBuilder::new()
                // Sees every response: the request's id, the log, the counts, the time-out, the
                // headers that all have.
                .layer(middleware::from_fn_with_state(observer, access::observe))
                // A panic is a 500 with a problem body, and is logged by the layer around it.
                .layer(CatchPanicLayer::custom(problem::panicked))
                // Bounds what a handler reads of the body.
                .layer(DefaultBodyLimit::max(body_bytes)),
        )
}

/// The routes of a service that waits for the promotion of a standby. They say that it is alive and
/// not ready.
pub fn waiting_router(limits: Limits) -> Router {
    let not_ready = || async {
        Problem::unavailable(
            "The Postgres of the service is a standby, and the service waits for its promotion. \
             Nothing was done. Try again later.",
        )
        .because("Postgres is a standby")
    };
    Router::new()
        .route("/livez", get(health::livez))
        .method_not_allowed_fallback(problem::no_such_method)
        .fallback(not_ready)
        .layer(middleware::from_fn_with_state(
            Observer::without_credentials(limits),
            access::observe,
        ))
}

/// What operators ask on a listener of its own: the metrics, and whether the service runs and is
/// ready.
pub fn operations_router(metrics: Router, state: &AppState, refusals: &Arc<RefusalLog>) -> Router {
    let observer = Observer::new(state.clone(), Arc::clone(refusals));
    Router::new()
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .with_state(state.clone())
        .merge(metrics)
        .method_not_allowed_fallback(problem::no_such_method)
        .fallback(problem::no_such_path)
        .layer(middleware::from_fn_with_state(observer, access::observe))
}
