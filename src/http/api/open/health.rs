//! Whether the service is running, and whether it can answer requests.

use axum::{Json, extract::State};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    auth::Problem,
    domain::text_enum::text_enum,
    http::api::shared::problems::{AnyRoute, OpenRoute},
    state::AppState,
};

text_enum! {
    /// `live`: the process answers. `ready`: the database answers too, and the node has its lease.
    pub enum HealthStatus {
        Live = "live",
        Ready = "ready",
    }
}

#[derive(Serialize, ToSchema)]
pub struct Health {
    status: HealthStatus,
}

/// Check that the process answers
///
/// Does not ask the database.
#[utoipa::path(get, path = "/livez", operation_id = "getLiveness",
    tag = "service", security(),
    responses((status = 200, description = "The process answers.", body = Health), AnyRoute, OpenRoute))]
#[tracing::instrument(level = "debug", skip_all)]
pub async fn livez() -> Json<Health> {
    Json(Health { status: HealthStatus::Live })
}

/// Check that the service can answer requests
///
/// Asks the database, and checks that the node holds its lease: without one no key passes.
#[utoipa::path(get, path = "/readyz", operation_id = "getReadiness",
    tag = "service", security(),
    responses((status = 200, description = "The service can answer requests.", body = Health),
        AnyRoute, OpenRoute))]
#[tracing::instrument(level = "debug", skip_all)]
pub async fn readyz(State(state): State<AppState>) -> Result<Json<Health>, Problem> {
    state.store.ping().await?;
    if !state.node.has_lease().await {
        let detail = "The node holds no lease, so no key passes. Try again later.";
        return Err(Problem::unavailable(detail).because("no lease"));
    }
    Ok(Json(Health { status: HealthStatus::Ready }))
}
