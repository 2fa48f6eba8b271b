//! Purchases: made by an API key, off its account's balance; and looked at.

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
        amounts::amount,
        buyer::{ThisRequest, buyer, respond, tenant_of},
        fields::{Fields, metadata, text},
        page::{List, PageParams},
        params::QueryParams,
        problems::{
            AnyRoute, Declined, WithApiKey, WithBody, WithIdempotencyKey, WithParameters,
            WithTarget,
        },
        purchase::{Purchase, PurchaseInPath, list},
        replay::OptionalIdempotencyKey,
    },
    state::AppState,
};

#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreatePurchaseRequest {
    /// A decimal string with at most the currency's decimals, more than zero.
    #[schema(value_type = String, example = "1.5")]
    amount: Amount,
    /// The buyer's own id of it, such as an order number.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 200)]
    reference: Option<Reference>,
    #[schema(value_type = Option<String>, min_length = 1, max_length = 500)]
    description: Option<Description>,
    /// At most 4096 bytes as compact JSON.
    #[schema(value_type = Option<Object>)]
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
        let key = fields.header(headers, "Idempotency-Key", IdempotencyKey::parse_header);
        let request = amount.map(|amount| (Self { amount, reference, description, metadata }, key));
        fields.finish(request)
    }
}

/// Buy: take an amount off the account's balance. Needs the scope `purchases:write`.
///
/// With an `Idempotency-Key` a repeated request has the effect and the answer of the first one,
/// also through another key of the account; a decline is such an answer.
#[utoipa::path(post, path = "/v1/purchases", operation_id = "createPurchase",
    tag = "purchases", security(("api_key" = [])),
    params(OptionalIdempotencyKey),
    request_body = CreatePurchaseRequest,
    responses(
        (status = 201, body = Purchase,
            headers(("Idempotent-Replayed" = String, description = "`true` when it was made before"))),
        Declined, AnyRoute, WithApiKey, WithBody, WithIdempotencyKey))]
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
    let decision = state.ledger.purchase(&buyer, purchase, idempotency_key).await;
    respond(&buyer, StatusCode::CREATED, decision, Purchase::new)
}

/// List the account's purchases, newest first. Needs the scope `purchases:read`.
#[utoipa::path(get, path = "/v1/purchases", operation_id = "listPurchases",
    tag = "purchases", security(("api_key" = [])),
    params(PageParams),
    responses((status = 200, body = List<Purchase>), AnyRoute, WithApiKey, WithParameters))]
pub async fn list_own(
    State(state): State<AppState>,
    principal: Principal,
    params: QueryParams,
) -> Result<Json<List<Purchase>>, Problem> {
    let tenant = tenant_of(&state, &principal).await?;
    list(&state, &tenant, &principal.account, None, params).await
}

/// Read a purchase of the account. Needs the scope `purchases:read`.
#[utoipa::path(get, path = "/v1/purchases/{id}", operation_id = "getPurchase",
    tag = "purchases", security(("api_key" = [])),
    params(("id" = String, Path, description = "The id of the purchase")),
    responses((status = 200, body = Purchase), AnyRoute, WithApiKey, WithTarget))]
pub async fn get_own(
    State(state): State<AppState>,
    principal: Principal,
    PurchaseInPath(id): PurchaseInPath,
) -> Result<Json<Purchase>, Problem> {
    let tenant = tenant_of(&state, &principal).await?;
    let purchase = state.store.find_purchase(&tenant, &principal.account, id).await?;
    Ok(Json(Purchase::new(purchase, &tenant.policy.currency)))
}
