//! Creates, gets and lists purchases of the key's account.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use utoipa::ToSchema;

use crate::{
    auth::{Principal, Problem},
    domain::{
        amount::Amount,
        idempotency::IdempotencyKey,
        purchase::NewPurchase,
        tenant::Tenant,
        text::{Description, Metadata, Reference},
    },
    http::api::shared::{
        amounts::{Charge, amount},
        buyer::{ThisRequest, buyer, respond, tenant_of},
        fields::{Fields, metadata, text},
        params::QueryParams,
        problems::{
            AnyRoute, Charged, Declined, WithApiKey, WithBody, WithBoundInFlight,
            WithIdempotencyKey, WithParameters, WithTarget,
        },
        purchase::{Purchase, PurchaseList, PurchasePage, PurchasePath, list},
        replay::OptionalIdempotencyKey,
    },
    state::AppState,
};

#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreatePurchaseRequest {
    /// Amount greater than zero, as a decimal string with at most as many decimals as the currency.
    amount: Amount,
    /// The client's own id for the purchase, such as an order number.
    reference: Option<Reference>,
    description: Option<Description>,
    metadata: Option<Metadata>,
}

impl CreatePurchaseRequest {
    fn read(
        mut fields: Fields,
        headers: &HeaderMap,
        tenant: &Tenant,
    ) -> Result<(Self, Option<IdempotencyKey>), Problem> {
        let amount = fields.required("amount", amount(tenant));
        let reference = fields.optional("reference", text(Reference::parse));
        let description = fields.optional("description", text(Description::parse));
        let metadata = fields.optional("metadata", metadata);
        let key = OptionalIdempotencyKey::read(&mut fields, headers);
        let request = amount.map(|amount| (Self { amount, reference, description, metadata }, key));
        fields.finish(request)
    }
}

/// Make a purchase
///
/// Deducts the amount from the account's balance. Requires the scope `purchases:write`. With an
/// `Idempotency-Key`, a repeated request has no further effect and gets the response to the first
/// request, even if the first request was declined. A request with another API key of the account
/// counts as a repetition too.
#[utoipa::path(post, path = "/v1/purchases", operation_id = "createPurchase",
    tag = "purchases",
    params(OptionalIdempotencyKey),
    request_body = CreatePurchaseRequest,
    responses(
        (status = 201, description = "The new purchase.", body = Purchase,
            headers(("Idempotent-Replayed"))),
        Declined, AnyRoute, WithApiKey, Charged, WithBody, WithIdempotencyKey))]
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %principal.tenant, account = %principal.account, key_id = %principal.key_id))]
pub async fn create(
    State(state): State<AppState>,
    principal: Principal,
    ThisRequest(request_id): ThisRequest,
    headers: HeaderMap,
    fields: Fields,
) -> Result<Response, Problem> {
    let tenant = tenant_of(&state, &principal).await?;
    let (wanted, idempotency_key) = CreatePurchaseRequest::read(fields, &headers, &tenant)?;
    let purchase = NewPurchase {
        amount: wanted.amount,
        reference: wanted.reference,
        description: wanted.description,
        metadata: wanted.metadata.unwrap_or_default(),
    };
    let buyer = buyer(tenant, &principal, request_id);
    let decision = state.money.purchase(&buyer, purchase, idempotency_key).await;
    respond(Charge::Purchase, &buyer, StatusCode::CREATED, decision, Purchase::new)
}

/// List the account's purchases
///
/// Returns the newest purchases first. Requires the scope `purchases:read`.
#[utoipa::path(get, path = "/v1/purchases", operation_id = "listPurchases",
    tag = "purchases",
    params(PurchasePage),
    responses((status = 200, description = "A page of purchases.", body = PurchaseList),
        AnyRoute, WithApiKey, WithBoundInFlight, WithParameters))]
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %principal.tenant, account = %principal.account, key_id = %principal.key_id))]
pub async fn list_own(
    State(state): State<AppState>,
    principal: Principal,
    params: QueryParams,
) -> Result<PurchaseList, Problem> {
    let tenant = tenant_of(&state, &principal).await?;
    list(&state, &tenant, &principal.account, None, params).await
}

/// Get a purchase
///
/// Requires the scope `purchases:read`.
#[utoipa::path(get, path = "/v1/purchases/{id}", operation_id = "getPurchase",
    tag = "purchases",
    params(PurchasePath),
    responses((status = 200, description = "The purchase.", body = Purchase),
        AnyRoute, WithApiKey, WithBoundInFlight, WithTarget))]
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %principal.tenant, account = %principal.account, key_id = %principal.key_id, purchase_id = %id))]
pub async fn get_own(
    State(state): State<AppState>,
    principal: Principal,
    PurchasePath { id }: PurchasePath,
) -> Result<Json<Purchase>, Problem> {
    let tenant = tenant_of(&state, &principal).await?;
    let purchase = state.store.find_purchase(&tenant, &principal.account, id).await?;
    Ok(Json(Purchase::new(purchase, &tenant.policy.currency)))
}
