//! The API documentation at `/docs`, and the OpenAPI document that it shows.

use axum::{
    Router,
    http::{HeaderValue, header},
    middleware,
    response::Response,
};
use utoipa_swagger_ui::{Config, SwaggerUi};

use super::{openapi, problem};

/// The page loads only files of this origin. Its scripts set inline styles, and its style sheet
/// contains images as `data:` URLs.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; \
     style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; \
     form-action 'none'; base-uri 'none'; frame-ancestors 'none'";

/// `/docs` and `/openapi.json`.
pub fn docs() -> Router {
    // The page's badge would ask a service elsewhere whether the document is valid.
    let config = Config::new(["/openapi.json"]).validator_url("none");
    let page: Router =
        SwaggerUi::new("/docs").config(config).url("/openapi.json", openapi::document()).into();
    page.method_not_allowed_fallback(problem::no_such_method)
        .route_layer(middleware::map_response(set_policy))
}

async fn set_policy(mut response: Response) -> Response {
    let policy = HeaderValue::from_static(CONTENT_SECURITY_POLICY);
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    response
}
