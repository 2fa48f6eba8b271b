//! Pages and redirects as responses, and how long browsers may cache them.

use askama::Template;
use axum::{
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{Html, IntoResponse as _, Redirect, Response},
};

use super::failure::Failure;

/// For what never changes under its address.
pub const FOR_EVER: (HeaderName, HeaderValue) =
    (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable"));

/// A page.
pub fn show(page: &impl Template) -> Result<Response, Failure> {
    show_with(StatusCode::OK, page)
}

/// A page with another status than 200.
pub fn show_with(status: StatusCode, page: &impl Template) -> Result<Response, Failure> {
    Ok((status, Html(page.render()?)).into_response())
}

/// What a form leads to: a page that can be reloaded without sending the form again.
pub fn see_other(path: &str) -> Response {
    Redirect::to(path).into_response()
}
