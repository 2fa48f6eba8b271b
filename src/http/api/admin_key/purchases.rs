//! Lists the purchases of an account, for its tenant.

use axum::extract::State;
use utoipa::IntoParams;

use crate::{
    auth::Problem,
    domain::id::KeyId,
    http::api::shared::{
        admin::Admin,
        params::{AccountPath, QueryParams},
        problems::{AnyRoute, WithAdminKey, WithParameters, WithTarget},
        purchase::{self, PurchaseList, PurchasePage},
    },
    state::AppState,
};

/// The filter of a list of purchases.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PurchaseQuery {
    /// Returns only purchases that this API key made.
    key_id: Option<KeyId>,
}

impl PurchaseQuery {
    fn read(params: &mut QueryParams) -> Self {
        Self { key_id: params.optional("key_id", str::parse) }
    }
}

/// List an account's purchases
///
/// Returns the newest purchases first.
#[utoipa::path(get, path = "/v1/accounts/{account}/purchases", operation_id = "listAccountPurchases",
    tag = "purchases",
    params(AccountPath, PurchaseQuery, PurchasePage),
    responses((status = 200, description = "A page of purchases.", body = PurchaseList),
        AnyRoute, WithAdminKey, WithParameters, WithTarget))]
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %admin.tenant.slug, account_id = %admin.tenant.account_id(&account)))]
pub async fn list_of_account(
    State(state): State<AppState>,
    admin: Admin,
    AccountPath { account }: AccountPath,
    mut params: QueryParams,
) -> Result<PurchaseList, Problem> {
    let PurchaseQuery { key_id } = PurchaseQuery::read(&mut params);
    purchase::list(&state, &admin.tenant, &account, key_id, params).await
}
