//! A hold in responses, lists of holds, and the request that voids a hold.

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

/// A reservation of a part of the balance.
#[derive(Serialize, ToSchema)]
pub struct Hold {
    id: HoldId,
    status: HoldStatus,
    amount: DecimalAmount,
    currency: CurrencyCode,
    /// The captured amount. The rest was released. `null` if the hold was not captured.
    #[schema(required = true)]
    captured: Option<DecimalAmount>,
    /// The purchase that the capture made. `null` if the hold was not captured.
    #[schema(required = true)]
    purchase_id: Option<PurchaseId>,
    /// The API key that created the hold.
    key_id: KeyId,
    #[schema(required = true)]
    reference: Option<Reference>,
    created_at: Timestamp,
    /// Time at which the hold expires if it is still open. Tollgate then releases its amount.
    expires_at: Timestamp,
    /// Time at which the hold was captured or voided, or expired. `null` if the hold is open.
    #[schema(required = true)]
    closed_at: Option<Timestamp>,
    /// The reason why the hold was voided. `null` if the hold was not voided.
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

/// The part of a list of holds that `limit` and `cursor` select.
pub type HoldPage = Page<16>;

/// An empty object. The path contains the id of the hold.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VoidHoldRequest {}

impl VoidHoldRequest {
    pub fn read(fields: Fields) -> Result<Self, Problem> {
        fields.finish(Some(Self {}))
    }
}

/// Lists a page of an account's holds, newest first.
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
