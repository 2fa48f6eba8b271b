//! Health checks: whether the process is alive, and whether the service is ready.

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
    /// `live` means that the process answers. `ready` means that the node also holds its lease, and
    /// its database connections work.
    pub enum HealthStatus {
        Live = "live",
        Ready = "ready",
    }
}

#[derive(Serialize, ToSchema)]
pub struct Health {
    status: HealthStatus,
}

/// Check liveness
///
/// Answers 200 if the process is running. Does not query the database.
#[utoipa::path(get, path = "/livez", operation_id = "getLiveness",
    tag = "service",
    responses((status = 200, description = "The process answers.", body = Health), AnyRoute, OpenRoute))]
#[tracing::instrument(level = "debug", skip_all)]
pub async fn livez() -> Json<Health> {
    Json(Health { status: HealthStatus::Live })
}

/// Check readiness
///
/// Answers 200 if the node holds its lease and every kind of database connection reaches the server
/// that granted the lease. Otherwise answers 503 with the reason in `detail`. Without a lease, the
/// node refuses every key.
#[utoipa::path(get, path = "/readyz", operation_id = "getReadiness",
    tag = "service",
    responses((status = 200, description = "The service can answer requests.", body = Health),
        AnyRoute, OpenRoute))]
#[tracing::instrument(level = "debug", skip_all)]
pub async fn readyz(State(state): State<AppState>) -> Result<Json<Health>, Problem> {
    state.store.check_ready().await.map_err(|reason| {
        let detail = match &reason {
            NotReady::NoLease => "The node has no lease, so it accepts no key. Try again \
                                  later."
                .into(),
            other => format!("The node is not ready: {other}. Try again later."),
        };
        Problem::unavailable(detail).because(chain(&reason))
    })?;
    Ok(Json(Health { status: HealthStatus::Ready }))
}
