//! Whether the service is running, and whether it can answer requests.

use axum::{Json, extract::State};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    auth::{Problem, chain},
    domain::text_enum::text_enum,
    http::api::shared::problems::{AnyRoute, OpenRoute},
    state::AppState,
    store::NotReady,
};

text_enum! {
    /// `live`: the process answers. `ready`: the node has its lease too, and its connections work.
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
    tag = "service",
    responses((status = 200, description = "The process answers.", body = Health), AnyRoute, OpenRoute))]
#[tracing::instrument(level = "debug", skip_all)]
pub async fn livez() -> Json<Health> {
    Json(Health { status: HealthStatus::Live })
}

/// Check that the service can answer requests
///
/// Checks that the node has its lease, without which no key passes, and that connections of every
/// kind lead to the server of the database that granted it.
#[utoipa::path(get, path = "/readyz", operation_id = "getReadiness",
    tag = "service",
    responses((status = 200, description = "The service can answer requests.", body = Health),
        AnyRoute, OpenRoute))]
#[tracing::instrument(level = "debug", skip_all)]
pub async fn readyz(State(state): State<AppState>) -> Result<Json<Health>, Problem> {
    state.store.check_ready().await.map_err(|reason| {
        let detail = match &reason {
            NotReady::NoLease => "The node has no lease, so no key passes. Try again later.".into(),
            other => format!("Not ready: {other}. Try again later."),
        };
        Problem::unavailable(detail).because(chain(&reason))
    })?;
    Ok(Json(Health { status: HealthStatus::Ready }))
}
