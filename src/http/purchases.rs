//! Purchases: made by an API key, off its account's balance; and looked at.

use std::sync::Arc;

use axum::{
    Json,
    extract::{FromRequestParts, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, request::Parts},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::{
    AppState,
    admin::Admin,
    api_keys::metadata,
    fields::{Fields, text},
    money::{amount, declined, refused},
    page::{List, Page, PageParams},
    params::{AccountInPath, AccountPath, QueryParams, path_parameter},
    problem::{
        AnyRoute, Declined, WithAdminKey, WithApiKey, WithBody, WithParameters, WithTarget,
        not_found,
    },
};
use crate::{
    auth::{Principal, Problem},
    domain::{
        amount::{Amount, Currency},
        id::{HoldId, KeyId, PurchaseId, RequestId},
        idempotency::IdempotencyKey,
        money::NewPurchase,
        tenant::Tenant,
        text::{Description, Metadata, Reference},
        timestamp::Timestamp,
    },
    ledger::{Buyer, Decision},
    store::{self, StoreError},
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

/// The tenant that the principal's key belongs to.
pub async fn tenant_of(state: &AppState, principal: &Principal) -> Result<Arc<Tenant>, Problem> {
    Ok(state.store.find_tenant(&principal.tenant, principal.environment).await?)
}

/// The holder of a key, as the ledger wants to know him.
pub fn buyer(tenant: Arc<Tenant>, principal: &Principal, request_id: RequestId) -> Buyer {
    let account = principal.account.clone();
    Buyer { tenant, account, key_id: principal.key_id, request_id }
}

/// Marks a response that repeats one that was given before.
pub fn mark_replayed(mut response: Response, replayed: bool) -> Response {
    if replayed {
        let name = HeaderName::from_static("idempotent-replayed");
        response.headers_mut().insert(name, HeaderValue::from_static("true"));
    }
    response
}

/// What was decided, as the buyer is told it.
pub fn respond<T, B: Serialize>(
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
        Decision::Declined(decline) => {
            Ok(mark_replayed(declined(&decline, currency).into_response(), decline.replayed))
        }
    }
}

/// The id that this request was given on its way in.
pub struct ThisRequest(pub RequestId);

impl<S: Send + Sync> FromRequestParts<S> for ThisRequest {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let id = parts.extensions.get::<RequestId>().copied();
        id.map(Self).ok_or_else(|| Problem::internal("no request id around the handler"))
    }
}

/// Buy: take an amount off the account's balance. Needs the scope `purchases:write`.
///
/// With an `Idempotency-Key` a repeated request has the effect and the answer of the first one,
/// also through another key of the account; a decline is such an answer.
#[utoipa::path(post, path = "/v1/purchases", operation_id = "createPurchase",
    tag = "purchases", security(("api_key" = [])),
    params(("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 130,
        description = "1 to 128 visible ASCII characters, quoted or bare")),
    request_body = CreatePurchaseRequest,
    responses(
        (status = 201, body = Purchase,
            headers(("Idempotent-Replayed" = String, description = "`true` when it was made before"))),
        Declined, AnyRoute, WithApiKey, WithBody))]
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

/// The purchase in the path. What is no purchase's id names none: 404.
pub struct PurchaseInPath(pub PurchaseId);

impl<S: Send + Sync> FromRequestParts<S> for PurchaseInPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let text = path_parameter(parts, "id").await?;
        text.parse().map(Self).map_err(|_| not_found())
    }
}

/// Whose purchases are wanted.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "the parameters, for the OpenAPI document")]
pub struct PurchaseFilterParams {
    /// Only what this API key bought.
    #[param(pattern = "^key_[0-7][0-9a-hjkmnp-tv-z]{25}$")]
    key_id: Option<String>,
}

/// List what an account has bought, newest first.
#[utoipa::path(get, path = "/v1/accounts/{account}/purchases", operation_id = "listAccountPurchases",
    tag = "purchases",
    security(("admin_key" = [])),
    params(AccountPath,
        PurchaseFilterParams, PageParams),
    responses((status = 200, body = List<Purchase>),
        AnyRoute, WithAdminKey, WithParameters, WithTarget))]
pub async fn list_of_account(
    State(state): State<AppState>,
    admin: Admin,
    AccountInPath(account): AccountInPath,
    mut params: QueryParams,
) -> Result<Json<List<Purchase>>, Problem> {
    let key_id = params.optional("key_id", str::parse::<KeyId>);
    list(&state, &admin.tenant, &account, key_id, params).await
}

async fn list(
    state: &AppState,
    tenant: &Tenant,
    account: &crate::domain::account::ExternalId,
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
