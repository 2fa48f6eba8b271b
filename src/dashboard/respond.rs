//! Pages and redirects as responses.

use askama::Template;
use axum::{
    http::StatusCode,
    response::{Html, IntoResponse as _, Redirect, Response},
};

use super::failure::Failure;

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
