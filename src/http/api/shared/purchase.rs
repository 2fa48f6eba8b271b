//! A purchase in responses.

use axum::{extract::FromRequestParts, http::request::Parts};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::{
    page::{List, Page, filter_text},
    params::{QueryParams, path_id},
};
use crate::{
    auth::Problem,
    domain::{
        account::ExternalId,
        amount::{Currency, CurrencyCode, DecimalAmount},
        id::{HoldId, KeyId, PurchaseId},
        tenant::Tenant,
        text::{Description, Metadata, Reference},
        timestamp::Timestamp,
    },
    state::AppState,
    store,
};

/// A purchase, with the balance after it.
#[derive(Serialize, ToSchema)]
pub struct Purchase {
    id: PurchaseId,
    amount: DecimalAmount,
    currency: CurrencyCode,
    /// The balance after the purchase.
    balance_after: DecimalAmount,
    /// The refunded part of the amount.
    refunded: DecimalAmount,
    /// The API key that made the purchase.
    key_id: KeyId,
    #[schema(required = true)]
    reference: Option<Reference>,
    #[schema(required = true)]
    description: Option<Description>,
    metadata: Metadata,
    /// The hold whose capture made the purchase. `null` if the purchase was made without a hold.
    #[schema(required = true)]
    hold_id: Option<HoldId>,
    created_at: Timestamp,
}

impl Purchase {
    pub fn new(purchase: store::Purchase, currency: &Currency) -> Self {
        Self {
            id: purchase.id,
            amount: currency.format(purchase.amount),
            currency: currency.into(),
            balance_after: currency.format(purchase.balance_after),
            refunded: currency.format(purchase.refunded),
            key_id: purchase.key_id,
            reference: purchase.reference,
            description: purchase.description,
            metadata: purchase.metadata,
            hold_id: purchase.hold_id,
            created_at: purchase.created_at,
        }
    }
}

pub type PurchaseList = List<Purchase>;

/// The purchase in the path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub struct PurchasePath {
    /// The id of the purchase.
    pub id: PurchaseId,
}

impl<S: Send + Sync> FromRequestParts<S> for PurchasePath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Ok(Self { id: path_id(parts, "id").await? })
    }
}

/// The part of a list of purchases that `limit` and `cursor` select.
pub type PurchasePage = Page<8>;

/// Lists a page of an account's purchases, newest first.
pub async fn list(
    state: &AppState,
    tenant: &Tenant,
    account: &ExternalId,
    key_id: Option<KeyId>,
    params: QueryParams,
) -> Result<PurchaseList, Problem> {
    let by_key = filter_text("key_id", key_id.as_ref());
    let page = PurchasePage::read(params, format!("purchases {} {account} {by_key}", tenant.id))?;
    let before = page.after.map(i64::from_be_bytes);
    let purchases =
        state.store.list_purchases(tenant, account, key_id, before, page.fetch()).await?;
    let shape = |(_, purchase)| Purchase::new(purchase, &tenant.policy.currency);
    Ok(page.respond(purchases, |(seq, _)| seq.to_be_bytes(), shape))
}
