//! Pages and redirects as responses, and how long browsers may cache them.

use askama::Template;
use axum::{
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{Html, IntoResponse as _, Redirect, Response},
};

use super::failure::Failure;

/// The `Cache-Control` header of content that never changes at its URL.
pub const FOR_EVER: (HeaderName, HeaderValue) =
    (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable"));

/// Responds with a page and status 200.
pub fn show(page: &impl Template) -> Result<Response, Failure> {
    show_with(StatusCode::OK, page)
}

/// Responds with a page and the given status.
pub fn show_with(status: StatusCode, page: &impl Template) -> Result<Response, Failure> {
    Ok((status, Html(page.render()?)).into_response())
}

/// Redirects after a form, so that reloading the page does not submit the form again.
pub fn see_other(path: &str) -> Response {
    Redirect::to(path).into_response()
}
