//! Whether the service lives, and whether it can answer.

use axum::{Json, extract::State};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    auth::Problem,
    http::api::shared::problems::{AnyRoute, OpenRoute},
    state::AppState,
};

#[derive(Serialize, ToSchema)]
pub struct Health {
    #[schema(example = "ready")]
    status: &'static str,
}

/// The process answers. Asks nothing else.
#[utoipa::path(get, path = "/livez", operation_id = "getLiveness",
    tag = "service", security(),
    responses((status = 200, body = Health), AnyRoute, OpenRoute))]
pub async fn livez() -> Json<Health> {
    Json(Health { status: "live" })
}

/// The database answers too: requests may be sent here.
#[utoipa::path(get, path = "/readyz", operation_id = "getReadiness",
    tag = "service", security(),
    responses((status = 200, body = Health), AnyRoute, OpenRoute))]
pub async fn readyz(State(state): State<AppState>) -> Result<Json<Health>, Problem> {
    state.store.ping().await?;
    Ok(Json(Health { status: "ready" }))
}
