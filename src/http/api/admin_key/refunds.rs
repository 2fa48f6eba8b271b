//! Refunds: what is given back of purchases.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use crate::{
    auth::Problem,
    domain::{
        amount::Currency,
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
        page::{List, Page, PageParams},
        params::{AccountInPath, QueryParams},
        problems::{
            AnyRoute, RefundTooLarge, WithAdminKey, WithBody, WithIdempotencyKey, WithParameters,
            WithTarget,
        },
        purchase::PurchaseInPath,
        replay::{RequiredIdempotencyKey, idempotency_key, mark_replayed},
    },
    state::AppState,
    store,
};

/// What was given back of a purchase.
#[derive(Serialize, ToSchema)]
pub struct Refund {
    #[schema(value_type = String, example = "rfd_01h455vb4pex5vsknk084sn02q")]
    id: RefundId,
    #[schema(value_type = String, example = "pur_01h455vb4pex5vsknk084sn02q")]
    purchase_id: PurchaseId,
    #[schema(example = "1.500000")]
    amount: String,
    #[schema(example = "TRX")]
    currency: String,
    /// The balance once it had been given back.
    balance_after: String,
    #[schema(required = true)]
    reference: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

impl Refund {
    fn new(refund: store::Refund, currency: &Currency) -> Self {
        Self {
            id: refund.id,
            purchase_id: refund.purchase_id,
            amount: currency.format(refund.amount),
            currency: currency.code().to_owned(),
            balance_after: currency.format(refund.balance_after),
            reference: refund.reference,
            created_at: refund.created_at,
        }
    }
}

/// The account and the purchase in the path, for the OpenAPI document.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "the parameters, for the OpenAPI document")]
pub struct PurchasePath {
    /// The tenant's own id of the account.
    #[param(min_length = 1, max_length = 128, example = "TMVQGm1qAQYVdetCeGRRkTWYYrLXuHK2HC")]
    account: String,
    /// The id of the purchase.
    #[param(example = "pur_01h455vb4pex5vsknk084sn02q")]
    id: String,
}

#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the shape of the body, for the OpenAPI document")]
pub struct CreateRefundRequest {
    /// At most what is left of the purchase. Absent: all of that.
    #[schema(example = "1.5")]
    amount: Option<String>,
    /// The tenant's own id of it, such as a ticket's number.
    #[schema(min_length = 1, max_length = 200)]
    reference: Option<String>,
}

impl CreateRefundRequest {
    fn read(
        mut fields: Fields,
        headers: &HeaderMap,
        tenant: &Tenant,
    ) -> Result<(NewRefund, IdempotencyKey), Problem> {
        let amount = fields.optional("amount", amount(tenant));
        let reference = fields.optional("reference", text(Reference::parse));
        let key = idempotency_key(&mut fields, headers);
        fields.finish(key.map(|key| (NewRefund { amount, reference }, key)))
    }
}

/// Give back a purchase or a part of it, once for each `Idempotency-Key`; in sum never more than was
/// paid. It does not make room in the limit of a key.
#[utoipa::path(post, path = "/v1/accounts/{account}/purchases/{id}/refunds",
    operation_id = "createRefund", tag = "purchases",
    security(("admin_key" = [])),
    params(PurchasePath,
        RequiredIdempotencyKey),
    request_body = Option<CreateRefundRequest>,
    responses(
        (status = 201, body = Refund,
            headers(("Idempotent-Replayed" = String, description = "`true` when it was made before"))),
        RefundTooLarge, AnyRoute, WithAdminKey, WithBody, WithIdempotencyKey, WithTarget))]
pub async fn create(
    State(state): State<AppState>,
    admin: Admin,
    AccountInPath(account): AccountInPath,
    PurchaseInPath(id): PurchaseInPath,
    headers: HeaderMap,
    fields: Fields,
) -> Result<Response, Problem> {
    let tenant = &admin.tenant;
    let currency = &tenant.policy.currency;
    let (wanted, key) = CreateRefundRequest::read(fields, &headers, tenant)?;
    let refunded = state.ledger.refund(tenant, account, id, wanted, key, admin.origin).await;
    let refunded = refunded.map_err(|error| refused(error, currency))?;
    let body = Json(Refund::new(refunded.refund, currency));
    Ok(mark_replayed((StatusCode::CREATED, body).into_response(), refunded.replayed))
}

/// List what was given back of a purchase, newest first.
#[utoipa::path(get, path = "/v1/accounts/{account}/purchases/{id}/refunds",
    operation_id = "listRefunds", tag = "purchases",
    security(("admin_key" = [])),
    params(PurchasePath, PageParams),
    responses((status = 200, body = List<Refund>),
        AnyRoute, WithAdminKey, WithParameters, WithTarget))]
pub async fn list(
    State(state): State<AppState>,
    admin: Admin,
    AccountInPath(account): AccountInPath,
    PurchaseInPath(id): PurchaseInPath,
    params: QueryParams,
) -> Result<Json<List<Refund>>, Problem> {
    let tenant = &admin.tenant;
    let page = Page::<8>::read(params, format!("refunds {} {account} {id}", tenant.id))?;
    let before = page.after.map(i64::from_be_bytes);
    let refunds = state.store.list_refunds(tenant, &account, id, before, page.fetch()).await?;
    let shape = |(_, refund)| Refund::new(refund, &tenant.policy.currency);
    Ok(page.respond(refunds, |(seq, _)| seq.to_be_bytes(), shape))
}
