//! Refunds purchases, and lists the refunds of a purchase.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    auth::Problem,
    domain::{
        amount::{Amount, Currency, CurrencyCode, DecimalAmount},
        id::{PurchaseId, RefundId},
        idempotency::IdempotencyKey,
        refund::NewRefund,
        tenant::Tenant,
        text::Reference,
        timestamp::Timestamp,
    },
    http::api::shared::{
        admin::Admin,
        amounts::{amount, refused},
        fields::{Fields, text},
        page::{List, Page},
        params::{AccountPurchasePath, QueryParams},
        problems::{
            AnyRoute, RefundTooLarge, WithAdminKey, WithBody, WithIdempotencyKey, WithParameters,
            WithTarget,
        },
        replay::{RequiredIdempotencyKey, mark_replayed},
    },
    state::AppState,
    store,
};

/// A full or partial refund of a purchase.
#[derive(Serialize, ToSchema)]
pub struct Refund {
    id: RefundId,
    purchase_id: PurchaseId,
    amount: DecimalAmount,
    currency: CurrencyCode,
    /// The balance after the refund.
    balance_after: DecimalAmount,
    #[schema(required = true)]
    reference: Option<Reference>,
    created_at: Timestamp,
}

impl Refund {
    fn new(refund: store::Refund, currency: &Currency) -> Self {
        Self {
            id: refund.id,
            purchase_id: refund.purchase_id,
            amount: currency.format(refund.amount),
            currency: currency.into(),
            balance_after: currency.format(refund.balance_after),
            reference: refund.reference,
            created_at: refund.created_at,
        }
    }
}

pub type RefundList = List<Refund>;

/// The part of a list of refunds that `limit` and `cursor` select.
type RefundPage = Page<8>;

#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateRefundRequest {
    /// Amount to refund, at most the part of the purchase that has not been refunded yet. Defaults
    /// to this part.
    amount: Option<Amount>,
    /// The tenant's own id for the refund, such as a ticket number.
    reference: Option<Reference>,
}

impl CreateRefundRequest {
    fn read(
        mut fields: Fields,
        headers: &HeaderMap,
        tenant: &Tenant,
    ) -> Result<(Self, IdempotencyKey), Problem> {
        let amount = fields.optional("amount", amount(tenant));
        let reference = fields.optional("reference", text(Reference::parse));
        let key = RequiredIdempotencyKey::read(&mut fields, headers);
        fields.finish(key.map(|key| (Self { amount, reference }, key)))
    }
}

impl From<CreateRefundRequest> for NewRefund {
    fn from(request: CreateRefundRequest) -> Self {
        Self { amount: request.amount, reference: request.reference }
    }
}

/// Refund a purchase
///
/// Refunds all or a part of a purchase. Takes effect once per `Idempotency-Key`. The refunds of a
/// purchase never exceed its amount. A refund does not restore the key's spend limit.
#[utoipa::path(post, path = "/v1/accounts/{account}/purchases/{id}/refunds",
    operation_id = "createRefund", tag = "purchases",
    params(AccountPurchasePath, RequiredIdempotencyKey),
    request_body = Option<CreateRefundRequest>,
    responses(
        (status = 201, description = "The new refund.", body = Refund,
            headers(("Idempotent-Replayed"))),
        RefundTooLarge, AnyRoute, WithAdminKey, WithBody, WithIdempotencyKey, WithTarget))]
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %admin.tenant.slug, account_id = %admin.tenant.account_id(&account), purchase_id = %id))]
pub async fn create(
    State(state): State<AppState>,
    admin: Admin,
    AccountPurchasePath { account, id }: AccountPurchasePath,
    headers: HeaderMap,
    fields: Fields,
) -> Result<Response, Problem> {
    let tenant = &admin.tenant;
    let currency = &tenant.policy.currency;
    let (wanted, key) = CreateRefundRequest::read(fields, &headers, tenant)?;
    let refunded = state.money.refund(tenant, account, id, wanted.into(), key, admin.origin).await;
    let refunded = refunded.map_err(|error| refused(error, currency))?;
    let body = Json(Refund::new(refunded.refund, currency));
    Ok(mark_replayed((StatusCode::CREATED, body).into_response(), refunded.replayed))
}

/// List the refunds of a purchase
///
/// Returns the newest refunds first.
#[utoipa::path(get, path = "/v1/accounts/{account}/purchases/{id}/refunds",
    operation_id = "listRefunds", tag = "purchases",
    params(AccountPurchasePath, RefundPage),
    responses((status = 200, description = "A page of refunds.", body = RefundList),
        AnyRoute, WithAdminKey, WithParameters, WithTarget))]
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %admin.tenant.slug, account_id = %admin.tenant.account_id(&account), purchase_id = %id))]
pub async fn list(
    State(state): State<AppState>,
    admin: Admin,
    AccountPurchasePath { account, id }: AccountPurchasePath,
    params: QueryParams,
) -> Result<RefundList, Problem> {
    let tenant = &admin.tenant;
    let page = RefundPage::read(params, format!("refunds {} {account} {id}", tenant.id))?;
    let before = page.after.map(i64::from_be_bytes);
    let refunds = state.store.list_refunds(tenant, &account, id, before, page.fetch()).await?;
    let shape = |(_, refund)| Refund::new(refund, &tenant.policy.currency);
    Ok(page.respond(refunds, |(seq, _)| seq.to_be_bytes(), shape))
}
