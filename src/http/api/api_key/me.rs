//! A key as the one who holds it sees it.

use axum::{Json, extract::State};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    auth::{Principal, Problem},
    http::api::shared::{
        amounts::Balance,
        api_key::ApiKey,
        buyer::tenant_of,
        problems::{AnyRoute, WithApiKey},
    },
    state::AppState,
};

/// The key, its account, and the balance.
#[derive(Serialize, ToSchema)]
pub struct Me {
    tenant: OwnTenant,
    account: OwnAccount,
    balance: Balance,
    key: ApiKey,
    /// What is left of the key's limit now: nothing more than this can be bought with it. `null`: it
    /// has no limit.
    #[schema(required = true)]
    spend_left: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub struct OwnTenant {
    #[schema(example = "tronagg")]
    slug: String,
    /// `live` or `test`.
    #[schema(pattern = "^(live|test)$")]
    environment: &'static str,
}

#[derive(Serialize, ToSchema)]
pub struct OwnAccount {
    /// The tenant's own id of it.
    id: String,
    /// `active` or `suspended`.
    #[schema(pattern = "^(active|suspended)$")]
    status: &'static str,
}

/// Read the key that the request carries, its account, and the balance. Needs no scope.
#[utoipa::path(get, path = "/v1/me", operation_id = "getMe",
    tag = "gate", security(("api_key" = [])),
    responses((status = 200, body = Me), AnyRoute, WithApiKey))]
pub async fn get(State(state): State<AppState>, principal: Principal) -> Result<Json<Me>, Problem> {
    let tenant = tenant_of(&state, &principal).await?;
    let own = state.store.find_own_key(&tenant, &principal.account, principal.key_id).await?;
    let currency = &tenant.policy.currency;
    Ok(Json(Me {
        tenant: OwnTenant {
            slug: tenant.slug.to_string(),
            environment: tenant.environment.as_str(),
        },
        account: OwnAccount {
            id: own.account.external_id.to_string(),
            status: own.account.status.as_str(),
        },
        balance: Balance::new(own.account.balance, own.account.held, currency),
        key: ApiKey::new(own.key, currency),
        spend_left: own.spend_left.map(|left| currency.format(left)),
    }))
}
