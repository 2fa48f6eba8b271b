//! The start page, which a browser shows at the URL of the service.

use axum::{Router, extract::State, middleware, response::Response, routing::get};
use tower_http::catch_panic::CatchPanicLayer;

use super::{
    brand::plain_frame,
    failures,
    pages::{frame::Nav, start::StartPage},
};
use crate::{
    state::AppState,
    web::{
        failure::{self, Failure},
        guard::{self, Protection},
        respond::show,
    },
};

/// Returns the route of the start page at `/`, with the layers of a page.
pub fn start_page(state: &AppState) -> Router {
    let secure = state.public_url().is_secure();
    let protection = Protection { secure, render_failure: failures::page };
    let timeout = state.limits().request_timeout;
    Router::new()
        .route("/", get(show_start))
        .layer(CatchPanicLayer::custom(failure::panicked))
        .layer(middleware::from_fn_with_state(timeout, guard::answer_in_time))
        .layer(middleware::from_fn_with_state(protection, guard::protect))
        .with_state(state.clone())
}

/// `GET /` from a browser.
#[tracing::instrument(level = "debug", skip_all)]
async fn show_start(State(state): State<AppState>) -> Result<Response, Failure> {
    show(&StartPage {
        frame: plain_frame("Start", Nav::Nowhere),
        version: env!("CARGO_PKG_VERSION"),
        docs: state.docs(),
        ready: state.store().check_ready().await.is_ok(),
    })
}
