//! The layers around the routes, in their order.

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

/// Builds the router of the service from the API and `pages`. `pages` contains the dashboard and,
/// unless it is off, the documentation. Its routes already have their own layers. This function
/// adds the layers of all requests.
pub fn router(state: AppState, pages: Router, refusals: Arc<RefusalLog>) -> Router {
    let body_bytes = state.limits.body_bytes;
    let observer = Observer::new(state.clone(), refusals);
    guarded_routes(&state)
        .method_not_allowed_fallback(problem::no_such_method)
        .fallback(nearest_route::no_such_path)
        .with_state(state.clone())
        .merge(pages)
        .layer(
            // The first layer is the outermost. `ServiceBuilder` combines them into one layer,
            // because the router boxes a request's future once per layer.
            ServiceBuilder::new()
                // Observes every request: adds the request id and the common headers, logs and
                // counts the request, and enforces its time limit.
                .layer(middleware::from_fn_with_state(observer, access::observe))
                // Turns a panic into a 500 with a problem. The layer around it logs the panic.
                .layer(CatchPanicLayer::custom(problem::panicked))
                // Limits the size of the body that a handler reads.
                .layer(DefaultBodyLimit::max(body_bytes)),
        )
}

/// Builds the router of a service whose Postgres is a standby. Until the standby is promoted,
/// `/livez` answers 200 and all other paths answer 503.
pub fn waiting_router(limits: Limits) -> Router {
    let not_ready = || async {
        Problem::unavailable(
            "Postgres is a standby, and the service waits until the standby is promoted. The \
             request had no effect. Try again later.",
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

/// Builds the router of the operations listener: the metrics and the health checks.
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
