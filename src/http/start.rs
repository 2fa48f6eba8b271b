//! `GET /`: a page for browsers, and JSON for other clients.

use axum::{
    Extension, Router,
    extract::{Request, State},
    http::{HeaderValue, Method, header},
    middleware::{self, Next},
    response::Response,
    routing::get,
};
use tower::ServiceExt as _;

use super::{
    api::open::service::{self, ServiceDescription},
    problem,
};
use crate::{state::AppState, web::accept::prefers_html};

/// Returns the router of `/`. `page` answers browsers.
pub fn start(state: &AppState, page: Router) -> Router {
    Router::new()
        .route("/", get(service::describe))
        .method_not_allowed_fallback(problem::no_such_method)
        .route_layer(Extension(ServiceDescription::at(state.public_url(), state.docs())))
        .route_layer(middleware::from_fn_with_state(page, negotiate))
}

async fn negotiate(State(page): State<Router>, request: Request, next: Next) -> Response {
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let mut response = if is_read && prefers_html(request.headers()) {
        let Ok(page) = page.oneshot(request).await;
        page
    } else {
        next.run(request).await
    };
    response.headers_mut().append(header::VARY, HeaderValue::from_static("Accept"));
    response
}
