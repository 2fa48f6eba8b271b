//! Lists and voids the holds of an account, for its tenant.

use axum::{Json, extract::State};
use utoipa::IntoParams;

use crate::{
    auth::Problem,
    domain::{
        hold::{HoldStatus, VoidReason},
        id::KeyId,
    },
    http::api::shared::{
        admin::Admin,
        fields::Fields,
        hold::{self, Hold, HoldList, HoldPage, VoidHoldRequest},
        params::{AccountHoldPath, AccountPath, QueryParams},
        problems::{AnyRoute, HoldNotOpen, WithAdminKey, WithBody, WithParameters, WithTarget},
    },
    state::AppState,
    store::HoldFilter,
};

/// The filters of a list of an account's holds.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct AccountHoldQuery {
    /// Returns only holds with this status.
    status: Option<HoldStatus>,
    /// Returns only holds that this API key created.
    key_id: Option<KeyId>,
}

impl AccountHoldQuery {
    fn read(params: &mut QueryParams) -> Self {
        Self {
            status: params.optional("status", str::parse),
            key_id: params.optional("key_id", str::parse),
        }
    }
}

/// List an account's holds
///
/// Returns the newest holds first.
#[utoipa::path(get, path = "/v1/accounts/{account}/holds", operation_id = "listAccountHolds",
    tag = "holds",
    params(AccountPath, AccountHoldQuery, HoldPage),
    responses((status = 200, description = "A page of holds.", body = HoldList),
        AnyRoute, WithAdminKey, WithParameters, WithTarget))]
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %admin.tenant.slug, account_id = %admin.tenant.account_id(&account)))]
pub async fn list_of_account(
    State(state): State<AppState>,
    admin: Admin,
    AccountPath { account }: AccountPath,
    mut params: QueryParams,
) -> Result<HoldList, Problem> {
    let AccountHoldQuery { status, key_id } = AccountHoldQuery::read(&mut params);
    let filter = HoldFilter { status, key_id };
    hold::list(&state, &admin.tenant, &account, &filter, params).await
}

/// Void a hold of an account
///
/// Releases the held amount, even if the account is suspended. Repeating the request has no further
/// effect.
#[utoipa::path(post, path = "/v1/accounts/{account}/holds/{id}/void",
    operation_id = "voidAccountHold", tag = "holds",
    params(AccountHoldPath),
    request_body = Option<VoidHoldRequest>,
    responses((status = 200, description = "The voided hold.", body = Hold),
        HoldNotOpen, AnyRoute, WithAdminKey, WithBody, WithTarget))]
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %admin.tenant.slug, account_id = %admin.tenant.account_id(&account), hold_id = %id))]
pub async fn void_of_account(
    State(state): State<AppState>,
    admin: Admin,
    AccountHoldPath { account, id }: AccountHoldPath,
    fields: Fields,
) -> Result<Json<Hold>, Problem> {
    let VoidHoldRequest {} = VoidHoldRequest::read(fields)?;
    let account = admin.account(&state, &account);
    let hold = account.void_hold(id, VoidReason::AdminKey).await?;
    Ok(Json(Hold::new(hold, &admin.tenant.policy.currency)))
}
