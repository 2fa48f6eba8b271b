//! Holds: parts of a balance that are reserved for what may still fail.

use axum::{
    Json,
    extract::{FromRequestParts, State},
    http::{HeaderMap, StatusCode, request::Parts},
    response::Response,
};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::{
    auth::{Principal, Problem},
    domain::{
        amount::{Amount, Currency},
        hold::{DEFAULT_HOLD_SECONDS, HoldStatus, MAX_HOLD_SECONDS, NewHold},
        id::{HoldId, KeyId, PurchaseId},
        idempotency::IdempotencyKey,
        tenant::Tenant,
        text::Reference,
        timestamp::Timestamp,
    },
    http::{
        api::shared::{
            amounts::amount,
            buyer::{ThisRequest, buyer, respond, tenant_of},
            fields::{Fields, integer, text},
            page::{List, Page, PageParams},
            params::{QueryParams, path_parameter},
            problems::{
                AnyRoute, Declined, HoldLimitReached, HoldNotCapturable, HoldNotOpen, WithApiKey,
                WithBody, WithIdempotencyKey, WithParameters, WithTarget,
            },
            replay::OptionalIdempotencyKey,
        },
        problem::not_found,
    },
    state::AppState,
    store,
};

/// A part of the balance that is reserved, or was.
#[derive(Serialize, ToSchema)]
pub struct Hold {
    #[schema(value_type = String, example = "hld_01h455vb4pex5vsknk084sn02q")]
    id: HoldId,
    /// `open`, `captured`, `voided` or `expired`.
    #[schema(pattern = "^(open|captured|voided|expired)$")]
    status: &'static str,
    #[schema(example = "1.500000")]
    amount: String,
    #[schema(example = "TRX")]
    currency: String,
    /// What was bought with it; the rest was released.
    #[schema(required = true)]
    captured: Option<String>,
    /// The purchase that was made with it.
    #[schema(value_type = Option<String>, required = true)]
    purchase_id: Option<PurchaseId>,
    /// The API key that made it.
    #[schema(value_type = String)]
    key_id: KeyId,
    #[schema(required = true)]
    reference: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// At exactly this time it is released, unless it was captured or voided before.
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
    /// When it was captured, voided or released.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    closed_at: Option<Timestamp>,
}

impl Hold {
    fn new(hold: store::Hold, currency: &Currency) -> Self {
        Self {
            id: hold.id,
            status: hold.status.as_str(),
            amount: currency.format(hold.amount),
            currency: currency.code().to_owned(),
            captured: hold.captured.map(|amount| currency.format(amount)),
            purchase_id: hold.purchase_id,
            key_id: hold.key_id,
            reference: hold.reference,
            created_at: hold.created_at,
            expires_at: hold.expires_at,
            closed_at: hold.closed_at,
        }
    }
}

#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateHoldRequest {
    /// A decimal string with at most the currency's decimals, more than zero.
    #[schema(value_type = String, example = "1.5")]
    amount: Amount,
    /// Seconds until it is released by itself.
    #[schema(value_type = Option<i64>, minimum = 1, maximum = 604800, default = 900)]
    expires_in: i32,
    /// The buyer's own id of it, such as an order number. The purchase has it too.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 200)]
    reference: Option<Reference>,
}

impl CreateHoldRequest {
    fn read(
        mut fields: Fields,
        headers: &HeaderMap,
        tenant: &Tenant,
    ) -> Result<(Self, Option<IdempotencyKey>), Problem> {
        let amount = fields.required("amount", amount(tenant));
        let seconds = |seconds| {
            let bounded = i32::try_from(seconds).ok();
            let bounded = bounded.filter(|seconds| (1..=MAX_HOLD_SECONDS).contains(seconds));
            bounded.ok_or("must be from 1 to 604800")
        };
        let expires_in = fields.optional("expires_in", integer(seconds));
        let expires_in = expires_in.unwrap_or(DEFAULT_HOLD_SECONDS);
        let reference = fields.optional("reference", text(Reference::parse));
        let key = fields.header(headers, "Idempotency-Key", IdempotencyKey::parse_header);
        let request = amount.map(|amount| (Self { amount, expires_in, reference }, key));
        fields.finish(request)
    }
}

#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CaptureHoldRequest {
    /// At most that of the hold. Absent: all of it.
    #[schema(value_type = Option<String>, example = "1.2")]
    amount: Option<Amount>,
}

impl CaptureHoldRequest {
    fn read(mut fields: Fields, tenant: &Tenant) -> Result<Self, Problem> {
        let amount = fields.optional("amount", amount(tenant));
        fields.finish(Some(Self { amount }))
    }
}

/// Nothing is said of a hold that is voided but its id, which is in the path.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VoidHoldRequest {}

/// Which holds are wanted.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "the parameters, for the OpenAPI document")]
pub struct HoldFilterParams {
    /// Only those that are so.
    #[param(pattern = "^(open|captured|voided|expired)$")]
    status: Option<String>,
}

/// The hold in the path. What is no hold's id names none: 404.
pub struct HoldInPath(HoldId);

impl<S: Send + Sync> FromRequestParts<S> for HoldInPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let text = path_parameter(parts, "id").await?;
        text.parse().map(Self).map_err(|_| not_found())
    }
}

/// Reserve a part of the balance. Needs the scope `purchases:write`.
///
/// It is not spent until it is captured, and cannot be spent otherwise until it is voided or expires.
#[utoipa::path(post, path = "/v1/holds", operation_id = "createHold",
    tag = "holds", security(("api_key" = [])),
    params(OptionalIdempotencyKey),
    request_body = CreateHoldRequest,
    responses(
        (status = 201, body = Hold,
            headers(("Idempotent-Replayed" = String, description = "`true` when it was made before"))),
        Declined, HoldLimitReached, AnyRoute, WithApiKey, WithBody, WithIdempotencyKey))]
pub async fn create(
    State(state): State<AppState>,
    principal: Principal,
    ThisRequest(request_id): ThisRequest,
    headers: HeaderMap,
    fields: Fields,
) -> Result<Response, Problem> {
    let tenant = tenant_of(&state, &principal).await?;
    let (wanted, key) = CreateHoldRequest::read(fields, &headers, &tenant)?;
    let CreateHoldRequest { amount, expires_in, reference } = wanted;
    let buyer = buyer(tenant, &principal, request_id);
    let hold = NewHold { amount, reference, expires_in };
    let decision = state.ledger.hold(&buyer, hold, key).await;
    respond(&buyer, StatusCode::CREATED, decision, Hold::new)
}

/// Buy with a hold, or with a part of it: the rest is released. Needs the scope `purchases:write`.
///
/// A hold is captured once. Repeating it with the same amount is harmless.
#[utoipa::path(post, path = "/v1/holds/{id}/capture", operation_id = "captureHold",
    tag = "holds", security(("api_key" = [])),
    params(("id" = String, Path, description = "The id of the hold")),
    request_body = Option<CaptureHoldRequest>,
    responses(
        (status = 200, body = Hold,
            headers(("Idempotent-Replayed" = String, description = "`true` when it was captured before"))),
        Declined, HoldNotCapturable, AnyRoute, WithApiKey, WithBody, WithTarget))]
pub async fn capture(
    State(state): State<AppState>,
    principal: Principal,
    ThisRequest(request_id): ThisRequest,
    HoldInPath(id): HoldInPath,
    fields: Fields,
) -> Result<Response, Problem> {
    let tenant = tenant_of(&state, &principal).await?;
    let wanted = CaptureHoldRequest::read(fields, &tenant)?;
    let buyer = buyer(tenant, &principal, request_id);
    let decision = state.ledger.capture(&buyer, id, wanted.amount).await;
    respond(&buyer, StatusCode::OK, decision, Hold::new)
}

/// Release a hold. Needs the scope `purchases:write`. Repeating it is harmless.
#[utoipa::path(post, path = "/v1/holds/{id}/void", operation_id = "voidHold",
    tag = "holds", security(("api_key" = [])),
    params(("id" = String, Path, description = "The id of the hold")),
    request_body = Option<VoidHoldRequest>,
    responses(
        (status = 200, body = Hold,
            headers(("Idempotent-Replayed" = String, description = "`true` when it was voided before"))),
        HoldNotOpen, AnyRoute, WithApiKey, WithBody, WithTarget))]
pub async fn void(
    State(state): State<AppState>,
    principal: Principal,
    ThisRequest(request_id): ThisRequest,
    HoldInPath(id): HoldInPath,
    fields: Fields,
) -> Result<Response, Problem> {
    fields.finish(Some(()))?;
    let buyer = buyer(tenant_of(&state, &principal).await?, &principal, request_id);
    respond(&buyer, StatusCode::OK, state.ledger.void(&buyer, id).await, Hold::new)
}

/// List the account's holds, newest first. Needs the scope `purchases:read`.
#[utoipa::path(get, path = "/v1/holds", operation_id = "listHolds",
    tag = "holds", security(("api_key" = [])),
    params(HoldFilterParams, PageParams),
    responses((status = 200, body = List<Hold>), AnyRoute, WithApiKey, WithParameters))]
pub async fn list(
    State(state): State<AppState>,
    principal: Principal,
    mut params: QueryParams,
) -> Result<Json<List<Hold>>, Problem> {
    let tenant = tenant_of(&state, &principal).await?;
    let account = &principal.account;
    let status = params.optional("status", str::parse::<HoldStatus>);
    let page = Page::<16>::read(params, format!("holds {} {account} {status:?}", tenant.id))?;
    let before = page.after.map(|bytes| HoldId::from_uuid(Uuid::from_bytes(bytes)));
    let holds = state.store.list_holds(&tenant, account, status, before, page.fetch()).await?;
    let shape = |hold| Hold::new(hold, &tenant.policy.currency);
    Ok(page.respond(holds, |hold| hold.id.uuid().into_bytes(), shape))
}

/// Read a hold of the account. Needs the scope `purchases:read`.
#[utoipa::path(get, path = "/v1/holds/{id}", operation_id = "getHold",
    tag = "holds", security(("api_key" = [])),
    params(("id" = String, Path, description = "The id of the hold")),
    responses((status = 200, body = Hold), AnyRoute, WithApiKey, WithTarget))]
pub async fn get(
    State(state): State<AppState>,
    principal: Principal,
    HoldInPath(id): HoldInPath,
) -> Result<Json<Hold>, Problem> {
    let tenant = tenant_of(&state, &principal).await?;
    let hold = state.store.find_hold(&tenant, &principal.account, id).await?;
    Ok(Json(Hold::new(hold, &tenant.policy.currency)))
}
