//! The documentation: the API reference at `/docs` with its OpenAPI document, and the book.

use axum::{
    Router,
    http::{HeaderValue, header},
    middleware,
    response::Response,
};
use utoipa_swagger_ui::{Config, SwaggerUi};

use super::{book, openapi, problem};
use crate::state::AppState;

/// The page loads files from this origin only. Its scripts set inline styles, and its style sheet
/// contains images as `data:` URLs.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; \
     style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; \
     form-action 'none'; base-uri 'none'; frame-ancestors 'none'";

/// Builds the router of `/docs`, `/openapi.json` and `/docs/book/`. It has no routes if the
/// documentation is turned off.
pub fn docs(state: &AppState) -> Router {
    if !state.docs() {
        return Router::new();
    }
    // By default, the page sends the document's address to an external validator.
    let config = Config::new(["/openapi.json"]).validator_url("none");
    let page: Router =
        SwaggerUi::new("/docs").config(config).url("/openapi.json", openapi::document()).into();
    page.method_not_allowed_fallback(problem::no_such_method)
        .route_layer(middleware::map_response(set_policy))
        .merge(book::book(state))
}

async fn set_policy(mut response: Response) -> Response {
    let policy = HeaderValue::from_static(CONTENT_SECURITY_POLICY);
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    response
}
