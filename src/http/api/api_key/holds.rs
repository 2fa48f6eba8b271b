//! Holds, which reserve a part of the balance for a purchase that may still fail.

use axum::{
    Json,
    extract::{FromRequestParts, State},
    http::{HeaderMap, StatusCode, request::Parts},
    response::Response,
};
use utoipa::{IntoParams, ToSchema};

use crate::{
    auth::{Principal, Problem},
    domain::{
        amount::Amount,
        hold::{HoldSeconds, HoldStatus, NewHold},
        id::HoldId,
        idempotency::IdempotencyKey,
        tenant::Tenant,
        text::Reference,
    },
    http::api::shared::{
        amounts::{Charge, amount},
        buyer::{ThisRequest, buyer, respond, tenant_of},
        fields::{Fields, integer, text},
        hold::{self, Hold, HoldList, HoldPage, VoidHoldRequest},
        params::{QueryParams, path_id},
        problems::{
            AnyRoute, Charged, Declined, HoldLimitReached, HoldNotCapturable, HoldNotOpen,
            WithApiKey, WithBody, WithBoundInFlight, WithIdempotencyKey, WithParameters,
            WithTarget,
        },
        replay::OptionalIdempotencyKey,
    },
    state::AppState,
    store::HoldFilter,
};

#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateHoldRequest {
    /// Amount greater than zero, as a decimal string with at most as many decimals as the currency.
    amount: Amount,
    /// Seconds until the hold expires.
    expires_in: Option<HoldSeconds>,
    /// The client's own id for the hold, such as an order number. When the hold is captured, the
    /// resulting purchase has the same reference.
    reference: Option<Reference>,
}

impl CreateHoldRequest {
    fn read(
        mut fields: Fields,
        headers: &HeaderMap,
        tenant: &Tenant,
    ) -> Result<(Self, Option<IdempotencyKey>), Problem> {
        let amount = fields.required("amount", amount(tenant));
        let expires_in = fields.optional("expires_in", integer(HoldSeconds::try_from));
        let reference = fields.optional("reference", text(Reference::parse));
        let key = OptionalIdempotencyKey::read(&mut fields, headers);
        let request = amount.map(|amount| (Self { amount, expires_in, reference }, key));
        fields.finish(request)
    }
}

#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CaptureHoldRequest {
    /// Amount to capture, at most the amount of the hold. Defaults to the amount of the hold.
    amount: Option<Amount>,
}

impl CaptureHoldRequest {
    fn read(mut fields: Fields, tenant: &Tenant) -> Result<Self, Problem> {
        let amount = fields.optional("amount", amount(tenant));
        fields.finish(Some(Self { amount }))
    }
}

/// The filter of a list of holds.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct HoldQuery {
    /// Returns only holds with this status.
    status: Option<HoldStatus>,
}

impl HoldQuery {
    fn read(params: &mut QueryParams) -> Self {
        Self { status: params.optional("status", str::parse) }
    }
}

/// The hold in the path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub struct HoldPath {
    /// The id of the hold.
    id: HoldId,
}

impl<S: Send + Sync> FromRequestParts<S> for HoldPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Ok(Self { id: path_id(parts, "id").await? })
    }
}

/// Create a hold
///
/// Reserves a part of the balance until the hold is captured or voided, or expires. Revoking the
/// key voids its open holds. Requires the scope `purchases:write`.
#[utoipa::path(post, path = "/v1/holds", operation_id = "createHold",
    tag = "holds",
    params(OptionalIdempotencyKey),
    request_body = CreateHoldRequest,
    responses(
        (status = 201, description = "The new hold.", body = Hold,
            headers(("Idempotent-Replayed"))),
        Declined, HoldLimitReached, AnyRoute, WithApiKey, Charged, WithBody,
        WithIdempotencyKey))]
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %principal.tenant, account = %principal.account, key_id = %principal.key_id))]
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
    let hold = NewHold { amount, reference, expires_in: expires_in.unwrap_or_default() };
    let decision = state.money.hold(&buyer, hold, key).await;
    respond(Charge::Hold, &buyer, StatusCode::CREATED, decision, Hold::new)
}

/// Capture a hold
///
/// Makes a purchase for the held amount or a part, and releases the rest. Requires the scope
/// `purchases:write`. Repeating the request with the same amount has no further effect.
#[utoipa::path(post, path = "/v1/holds/{id}/capture", operation_id = "captureHold",
    tag = "holds",
    params(HoldPath),
    request_body = Option<CaptureHoldRequest>,
    responses(
        (status = 200, description = "The captured hold.", body = Hold,
            headers(("Idempotent-Replayed"))),
        Declined, HoldNotCapturable, AnyRoute, WithApiKey, WithBody, WithTarget))]
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %principal.tenant, account = %principal.account, key_id = %principal.key_id, hold_id = %id))]
pub async fn capture(
    State(state): State<AppState>,
    principal: Principal,
    ThisRequest(request_id): ThisRequest,
    HoldPath { id }: HoldPath,
    fields: Fields,
) -> Result<Response, Problem> {
    let tenant = tenant_of(&state, &principal).await?;
    let wanted = CaptureHoldRequest::read(fields, &tenant)?;
    let buyer = buyer(tenant, &principal, request_id);
    let decision = state.money.capture(&buyer, id, wanted.amount).await;
    respond(Charge::Hold, &buyer, StatusCode::OK, decision, Hold::new)
}

/// Void a hold
///
/// Releases the held amount. Requires the scope `purchases:write`. Repeating the request has no
/// further effect.
#[utoipa::path(post, path = "/v1/holds/{id}/void", operation_id = "voidHold",
    tag = "holds",
    params(HoldPath),
    request_body = Option<VoidHoldRequest>,
    responses(
        (status = 200, description = "The voided hold.", body = Hold,
            headers(("Idempotent-Replayed"))),
        HoldNotOpen, AnyRoute, WithApiKey, WithBody, WithTarget))]
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %principal.tenant, account = %principal.account, key_id = %principal.key_id, hold_id = %id))]
pub async fn void(
    State(state): State<AppState>,
    principal: Principal,
    ThisRequest(request_id): ThisRequest,
    HoldPath { id }: HoldPath,
    fields: Fields,
) -> Result<Response, Problem> {
    let VoidHoldRequest {} = VoidHoldRequest::read(fields)?;
    let buyer = buyer(tenant_of(&state, &principal).await?, &principal, request_id);
    respond(Charge::Hold, &buyer, StatusCode::OK, state.money.void(&buyer, id).await, Hold::new)
}

/// List the account's holds
///
/// Returns the newest holds first. Requires the scope `purchases:read`.
#[utoipa::path(get, path = "/v1/holds", operation_id = "listHolds",
    tag = "holds",
    params(HoldQuery, HoldPage),
    responses((status = 200, description = "A page of holds.", body = HoldList),
        AnyRoute, WithApiKey, WithBoundInFlight, WithParameters))]
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %principal.tenant, account = %principal.account, key_id = %principal.key_id))]
pub async fn list(
    State(state): State<AppState>,
    principal: Principal,
    mut params: QueryParams,
) -> Result<HoldList, Problem> {
    let tenant = tenant_of(&state, &principal).await?;
    let HoldQuery { status } = HoldQuery::read(&mut params);
    let filter = HoldFilter { status, key_id: None };
    hold::list(&state, &tenant, &principal.account, &filter, params).await
}

/// Get a hold
///
/// Requires the scope `purchases:read`.
#[utoipa::path(get, path = "/v1/holds/{id}", operation_id = "getHold",
    tag = "holds",
    params(HoldPath),
    responses((status = 200, description = "The hold.", body = Hold),
        AnyRoute, WithApiKey, WithBoundInFlight, WithTarget))]
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %principal.tenant, account = %principal.account, key_id = %principal.key_id, hold_id = %id))]
pub async fn get(
    State(state): State<AppState>,
    principal: Principal,
    HoldPath { id }: HoldPath,
) -> Result<Json<Hold>, Problem> {
    let tenant = tenant_of(&state, &principal).await?;
    let hold = state.store.find_hold(&tenant, &principal.account, id).await?;
    Ok(Json(Hold::new(hold, &tenant.policy.currency)))
}
