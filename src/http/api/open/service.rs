//! Describes the service, with the URLs of its documentation, dashboard and readiness check.

use axum::{Extension, Json};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    domain::dashboard::WebOrigin,
    http::{
        BOOK_PATH,
        api::shared::problems::{AnyRoute, OpenRoute},
    },
};

/// The service and its URLs.
#[derive(Clone, Serialize, ToSchema)]
pub struct ServiceDescription {
    /// Always `tollgate`.
    #[schema(example = "tollgate")]
    name: String,
    /// The version of the service and of this API.
    #[schema(example = "0.1.0")]
    version: String,
    /// URL of the documentation. `null` if the service does not serve its documentation.
    #[schema(required = true, format = "uri", example = "https://keys.example.com/docs/book/")]
    documentation_url: Option<String>,
    /// URL of the OpenAPI document of this API. `null` if the service does not serve its
    /// documentation.
    #[schema(required = true, format = "uri", example = "https://keys.example.com/openapi.json")]
    openapi_url: Option<String>,
    /// URL of the dashboard for account owners.
    #[schema(format = "uri", example = "https://keys.example.com/dashboard")]
    dashboard_url: String,
    /// URL of the readiness check, which says whether the service can answer requests.
    #[schema(format = "uri", example = "https://keys.example.com/readyz")]
    health_url: String,
}

impl ServiceDescription {
    /// Describes the service at this URL. `docs` says whether the service serves its documentation.
    pub fn at(public_url: &WebOrigin, docs: bool) -> Self {
        let url = |path: &str| format!("{public_url}{path}");
        Self {
            name: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            documentation_url: docs.then(|| url(BOOK_PATH)),
            openapi_url: docs.then(|| url("/openapi.json")),
            dashboard_url: url("/dashboard"),
            health_url: url("/readyz"),
        }
    }
}

/// Describe the service
///
/// A client whose `Accept` header prefers `text/html` to `application/json`, such as a browser,
/// gets an HTML page instead.
#[utoipa::path(get, path = "/", operation_id = "getService",
    tag = "service", security(),
    responses((status = 200, description = "The service and its URLs.", body = ServiceDescription),
        AnyRoute, OpenRoute))]
#[tracing::instrument(level = "debug", skip_all)]
pub async fn describe(
    Extension(service): Extension<ServiceDescription>,
) -> Json<ServiceDescription> {
    Json(service)
}
