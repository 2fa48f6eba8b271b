//! A hold in responses, lists of holds, and the request that voids one.

use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    fields::Fields,
    page::{List, Page, filter_text},
    params::QueryParams,
};
use crate::{
    auth::Problem,
    domain::{
        account::ExternalId,
        amount::{Currency, CurrencyCode, DecimalAmount},
        hold::{HoldStatus, VoidReason},
        id::{HoldId, KeyId, PurchaseId},
        tenant::Tenant,
        text::Reference,
        timestamp::Timestamp,
    },
    state::AppState,
    store::{self, HoldFilter},
};

/// A part of the balance that is or was reserved.
#[derive(Serialize, ToSchema)]
pub struct Hold {
    id: HoldId,
    status: HoldStatus,
    amount: DecimalAmount,
    currency: CurrencyCode,
    /// The amount of the purchase that was made with the hold; the rest was released.
    #[schema(required = true)]
    captured: Option<DecimalAmount>,
    /// The purchase that was made with the hold.
    #[schema(required = true)]
    purchase_id: Option<PurchaseId>,
    /// The API key that made the hold.
    key_id: KeyId,
    #[schema(required = true)]
    reference: Option<Reference>,
    created_at: Timestamp,
    /// When the hold is released, unless it was captured or voided before.
    expires_at: Timestamp,
    /// When the hold was captured, voided or released.
    #[schema(required = true)]
    closed_at: Option<Timestamp>,
    /// Why the hold was voided; `null`: it was not voided.
    #[schema(required = true)]
    void_reason: Option<VoidReason>,
}

impl Hold {
    pub fn new(hold: store::Hold, currency: &Currency) -> Self {
        Self {
            id: hold.id,
            status: hold.status,
            amount: currency.format(hold.amount),
            currency: currency.into(),
            captured: hold.captured.map(|amount| currency.format(amount)),
            purchase_id: hold.purchase_id,
            key_id: hold.key_id,
            reference: hold.reference,
            created_at: hold.created_at,
            expires_at: hold.expires_at,
            closed_at: hold.closed_at,
            void_reason: hold.void_reason,
        }
    }
}

pub type HoldList = List<Hold>;

/// The page that a list of holds is read by.
pub type HoldPage = Page<16>;

/// Has no members: the id of the hold is in the path.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VoidHoldRequest {}

impl VoidHoldRequest {
    pub fn read(fields: Fields) -> Result<Self, Problem> {
        fields.finish(Some(Self {}))
    }
}

/// A page of an account's holds, newest first.
pub async fn list(
    state: &AppState,
    tenant: &Tenant,
    account: &ExternalId,
    filter: &HoldFilter,
    params: QueryParams,
) -> Result<HoldList, Problem> {
    let by_status = filter_text("status", filter.status.as_ref());
    let by_key = filter_text("key_id", filter.key_id.as_ref());
    let list = format!("holds {} {account} {by_status} {by_key}", tenant.id);
    let page = HoldPage::read(params, list)?;
    let before = page.after.map(|bytes| HoldId::from_uuid(Uuid::from_bytes(bytes)));
    let holds = state.store.list_holds(tenant, account, filter, before, page.fetch()).await?;
    let shape = |hold| Hold::new(hold, &tenant.policy.currency);
    Ok(page.respond(holds, |hold| hold.id.uuid().into_bytes(), shape))
}
