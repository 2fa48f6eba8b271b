//! The API key of the request, with its account and balance.

use axum::{Json, extract::State};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    auth::{Principal, Problem},
    domain::{
        account::{AccountStatus, ExternalId},
        amount::DecimalAmount,
        tenant::{Environment, Slug},
    },
    http::api::shared::{
        amounts::Balance,
        api_key::ApiKey,
        buyer::tenant_of,
        problems::{AnyRoute, WithApiKey, WithBoundInFlight},
    },
    state::AppState,
};

/// The key, its account and the account's balance.
#[derive(Serialize, ToSchema)]
pub struct Me {
    tenant: OwnTenant,
    account: OwnAccount,
    balance: Balance,
    key: ApiKey,
    /// The remaining part of the key's spend limit. `null` if the key has no spend limit.
    #[schema(required = true)]
    spend_left: Option<DecimalAmount>,
}

#[derive(Serialize, ToSchema)]
pub struct OwnTenant {
    slug: Slug,
    environment: Environment,
}

#[derive(Serialize, ToSchema)]
pub struct OwnAccount {
    /// The tenant's own id for the account.
    id: ExternalId,
    status: AccountStatus,
}

/// Get the API key of the request
///
/// Also returns the key's account and balance. Requires no scope.
#[utoipa::path(get, path = "/v1/me", operation_id = "getMe",
    tag = "gate",
    responses((status = 200, description = "The key, its account and the account's balance.",
        body = Me),
        AnyRoute, WithApiKey, WithBoundInFlight))]
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %principal.tenant, account = %principal.account, key_id = %principal.key_id))]
pub async fn get(State(state): State<AppState>, principal: Principal) -> Result<Json<Me>, Problem> {
    let tenant = tenant_of(&state, &principal).await?;
    let own = state.store.find_own_key(&tenant, &principal.account, principal.key_id).await?;
    let limits = state.limiter().of_key(&tenant, &principal.account, &own.key).await?;
    let currency = &tenant.policy.currency;
    Ok(Json(Me {
        tenant: OwnTenant { slug: tenant.slug.clone(), environment: tenant.environment },
        account: OwnAccount { id: own.account.external_id, status: own.account.status },
        balance: Balance::new(own.account.balance, own.account.held, currency),
        key: ApiKey::new(own.key, Some(limits), own.now, currency),
        spend_left: own.spend_left.map(|left| currency.format(left)),
    }))
}
