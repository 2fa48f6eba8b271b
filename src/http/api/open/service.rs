//! What the service is, and the addresses of its documentation, dashboard and health check.

use axum::{Extension, Json};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    domain::dashboard::WebOrigin,
    http::api::shared::problems::{AnyRoute, OpenRoute},
};

/// The service and its addresses.
#[derive(Clone, Serialize, ToSchema)]
pub struct Service {
    /// Always `tollgate`.
    #[schema(example = "tollgate")]
    name: String,
    /// The version of the service and of this API.
    #[schema(example = "0.1.0")]
    version: String,
    /// The documentation, for people. `null`: this service does not serve it.
    #[schema(required = true, format = "uri", example = "https://keys.example.com/docs/book/")]
    documentation_url: Option<String>,
    /// The OpenAPI document of this API. `null`: this service does not serve it.
    #[schema(required = true, format = "uri", example = "https://keys.example.com/openapi.json")]
    openapi_url: Option<String>,
    /// The dashboard of an account's owner.
    #[schema(format = "uri", example = "https://keys.example.com/dashboard")]
    dashboard_url: String,
    /// Says whether the service can answer requests.
    #[schema(format = "uri", example = "https://keys.example.com/readyz")]
    health_url: String,
}

impl Service {
    /// The service at this URL. `docs`: it serves its documentation.
    pub fn at(public_url: &WebOrigin, docs: bool) -> Self {
        let url = |path: &str| format!("{public_url}{path}");
        Self {
            name: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            documentation_url: docs.then(|| url("/docs/book/")),
            openapi_url: docs.then(|| url("/openapi.json")),
            dashboard_url: url("/dashboard"),
            health_url: url("/readyz"),
        }
    }
}

/// Describe the service
///
/// A browser, whose `Accept` prefers `text/html` to `application/json`, gets a page instead.
#[utoipa::path(get, path = "/", operation_id = "getService",
    tag = "service", security(),
    responses((status = 200, description = "The service and its addresses.", body = Service),
        AnyRoute, OpenRoute))]
#[tracing::instrument(level = "debug", skip_all)]
pub async fn describe(Extension(service): Extension<Service>) -> Json<Service> {
    Json(service)
}
