//! The buyer behind an API key, and the response for the ledger's decision about a purchase or a
//! hold.

use std::sync::Arc;

use axum::{
    Json,
    extract::FromRequestParts,
    http::{StatusCode, request::Parts},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use super::{
    amounts::{Charge, declined, refused},
    replay::mark_replayed,
};
use crate::{
    auth::{Principal, Problem},
    domain::{amount::Currency, id::RequestId, tenant::Tenant},
    money::{Buyer, Decision},
    state::AppState,
    store::{StoreError, set_tenant},
};

/// Finds the tenant of the principal's key. From here on, the request waits in that tenant's queue
/// for database connections.
pub async fn tenant_of(state: &AppState, principal: &Principal) -> Result<Arc<Tenant>, Problem> {
    let tenant = state.store.find_tenant(&principal.tenant, principal.environment).await?;
    set_tenant(tenant.id);
    Ok(tenant)
}

/// Builds the buyer that the ledger charges for a request of this principal.
pub fn buyer(tenant: Arc<Tenant>, principal: &Principal, request_id: RequestId) -> Buyer {
    let account = principal.account.clone();
    Buyer { tenant, account, key_id: principal.key_id, request_id }
}

/// Builds the response for a decision. It contains the purchase or hold, or the problem if the
/// ledger declined the request.
pub fn respond<T, B: Serialize>(
    charge: Charge,
    buyer: &Buyer,
    status: StatusCode,
    decision: Result<Decision<T>, StoreError>,
    shape: impl FnOnce(T, &Currency) -> B,
) -> Result<Response, Problem> {
    let currency = &buyer.tenant.policy.currency;
    match decision.map_err(|error| refused(error, currency))? {
        Decision::Made { made, replayed } => {
            let body = Json(shape(made, currency));
            Ok(mark_replayed((status, body).into_response(), replayed))
        }
        Decision::Declined(decline) => Ok(mark_replayed(
            declined(charge, &decline, currency).into_response(),
            decline.replayed,
        )),
    }
}

/// The id of the request, which the outermost layer assigned.
pub struct ThisRequest(pub RequestId);

impl<S: Send + Sync> FromRequestParts<S> for ThisRequest {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let id = parts.extensions.get::<RequestId>().copied();
        id.map(Self).ok_or_else(|| Problem::internal("the request has no id"))
    }
}
