//! A purchase as clients read it.

use axum::{Json, extract::FromRequestParts, http::request::Parts};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    page::{List, Page},
    params::{QueryParams, path_parameter},
};
use crate::{
    auth::Problem,
    domain::{
        account::ExternalId,
        amount::Currency,
        id::{HoldId, KeyId, PurchaseId},
        tenant::Tenant,
        timestamp::Timestamp,
    },
    http::problem::not_found,
    state::AppState,
    store,
};

/// What was bought, and what was left.
#[derive(Serialize, ToSchema)]
pub struct Purchase {
    #[schema(value_type = String, example = "pur_01h455vb4pex5vsknk084sn02q")]
    id: PurchaseId,
    #[schema(example = "1.500000")]
    amount: String,
    #[schema(example = "TRX")]
    currency: String,
    /// The balance once it had been deducted.
    balance_after: String,
    /// What was given back of it since.
    #[schema(example = "0.000000")]
    refunded: String,
    /// The API key that bought.
    #[schema(value_type = String)]
    key_id: KeyId,
    #[schema(required = true)]
    reference: Option<String>,
    #[schema(required = true)]
    description: Option<String>,
    #[schema(value_type = Object)]
    metadata: Value,
    /// The hold that was captured.
    #[schema(value_type = Option<String>, required = true)]
    hold_id: Option<HoldId>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

impl Purchase {
    pub fn new(purchase: store::Purchase, currency: &Currency) -> Self {
        Self {
            id: purchase.id,
            amount: currency.format(purchase.amount),
            currency: currency.code().to_owned(),
            balance_after: currency.format(purchase.balance_after),
            refunded: currency.format(purchase.refunded),
            key_id: purchase.key_id,
            reference: purchase.reference,
            description: purchase.description,
            metadata: purchase.metadata.to_value(),
            hold_id: purchase.hold_id,
            created_at: purchase.created_at,
        }
    }
}

/// The purchase in the path. What is no purchase's id names none: 404.
pub struct PurchaseInPath(pub PurchaseId);

impl<S: Send + Sync> FromRequestParts<S> for PurchaseInPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let text = path_parameter(parts, "id").await?;
        text.parse().map(Self).map_err(|_| not_found())
    }
}

/// A page of what an account has bought, newest first.
pub async fn list(
    state: &AppState,
    tenant: &Tenant,
    account: &ExternalId,
    key_id: Option<KeyId>,
    params: QueryParams,
) -> Result<Json<List<Purchase>>, Problem> {
    let page = Page::<8>::read(params, format!("purchases {} {account} {key_id:?}", tenant.id))?;
    let before = page.after.map(i64::from_be_bytes);
    let purchases =
        state.store.list_purchases(tenant, account, key_id, before, page.fetch()).await?;
    let shape = |(_, purchase)| Purchase::new(purchase, &tenant.policy.currency);
    Ok(page.respond(purchases, |(seq, _)| seq.to_be_bytes(), shape))
}
