//! What an account has bought, for its tenant.

use axum::{Json, extract::State};
use utoipa::IntoParams;

use crate::{
    auth::Problem,
    domain::id::KeyId,
    http::api::shared::{
        admin::Admin,
        page::{List, PageParams},
        params::{AccountInPath, AccountPath, QueryParams},
        problems::{AnyRoute, WithAdminKey, WithParameters, WithTarget},
        purchase::{self, Purchase},
    },
    state::AppState,
};

/// Whose purchases are wanted.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "the parameters, for the OpenAPI document")]
pub struct PurchaseFilterParams {
    /// Only what this API key bought.
    #[param(pattern = "^key_[0-7][0-9a-hjkmnp-tv-z]{25}$")]
    key_id: Option<String>,
}

/// List what an account has bought, newest first.
#[utoipa::path(get, path = "/v1/accounts/{account}/purchases", operation_id = "listAccountPurchases",
    tag = "purchases",
    security(("admin_key" = [])),
    params(AccountPath,
        PurchaseFilterParams, PageParams),
    responses((status = 200, body = List<Purchase>),
        AnyRoute, WithAdminKey, WithParameters, WithTarget))]
pub async fn list_of_account(
    State(state): State<AppState>,
    admin: Admin,
    AccountInPath(account): AccountInPath,
    mut params: QueryParams,
) -> Result<Json<List<Purchase>>, Problem> {
    let key_id = params.optional("key_id", str::parse::<KeyId>);
    purchase::list(&state, &admin.tenant, &account, key_id, params).await
}
