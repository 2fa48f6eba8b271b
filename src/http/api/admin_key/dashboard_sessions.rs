//! Ends the dashboard sessions of an account.

use axum::{extract::State, http::StatusCode};

use crate::{
    auth::Problem,
    http::api::shared::{
        admin::Admin,
        params::AccountPath,
        problems::{AnyRoute, WithAdminKey, WithParameters, WithTarget},
    },
    state::AppState,
};

/// End all dashboard sessions of an account
///
/// Ends every session of the account on every node before it responds, including sessions that a
/// wallet sign-in opened. Also invalidates all unused dashboard links. A new link or a new sign-in
/// opens a new session. Repeating the request has no further effect.
#[utoipa::path(delete, path = "/v1/accounts/{account}/dashboard-sessions",
    operation_id = "endDashboardSessions",
    tag = "dashboard",
    params(AccountPath),
    responses((status = 204, description = "All sessions of the account have ended."),
        AnyRoute, WithAdminKey, WithParameters, WithTarget))]
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %admin.tenant.slug, account_id = %admin.tenant.account_id(&account)))]
pub async fn end(
    State(state): State<AppState>,
    admin: Admin,
    AccountPath { account }: AccountPath,
) -> Result<StatusCode, Problem> {
    admin.account(&state, &account).end_dashboard_sessions().await?;
    Ok(StatusCode::NO_CONTENT)
}
