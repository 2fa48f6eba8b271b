//! Verifies a key for a tenant's backend, and optionally makes a purchase with the key.

use std::{net::IpAddr, sync::Arc};

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    auth::{Denied, GateDecision, Presented, Principal, Problem, RateLimited},
    domain::{
        account::ExternalId,
        amount::{Amount, DecimalAmount},
        api_key::{KeyText, MalformedKey},
        id::{KeyId, RequestId},
        idempotency::IdempotencyKey,
        key_clients::Client,
        purchase::NewPurchase,
        rate_limit::{Cost, LimitState},
        scope::{Scope, ScopeSet},
        tenant::{Environment, Slug, Tenant},
        text::{Metadata, Reference},
        timestamp::Timestamp,
        usage::UsageOutcome,
        verification::{Denial, VerificationCode},
    },
    http::api::shared::{
        admin::Admin,
        amounts::amount,
        buyer::{ThisRequest, buyer},
        fields::{Fields, integer, scopes, text},
        problems::{AnyRoute, WithAdminKey, WithBody, WithIdempotencyKey},
        purchase::Purchase,
        rate_limit_state::RateLimitState,
        replay::mark_replayed,
    },
    money::Decision,
    node::count_for,
    state::AppState,
    store::{Refusal, StoreError},
};

/// The route, as the clients of a key show it.
const ROUTE: &str = "/v1/keys/verify";

/// The result of a verification. `valid` and `code` are always present. Every other member is
/// present only if its value is known.
#[derive(Serialize, ToSchema)]
pub struct VerifyResponse {
    /// Whether to accept the request that carried the key.
    valid: bool,
    code: VerificationCode,
    #[serde(flatten)]
    key: VerifiedKey,
    /// The required scopes that the key lacks. Present if `code` is `INSUFFICIENT_SCOPE`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    missing_scopes: Vec<Scope>,
    /// The rate limits that the verification was charged to, or whose refusal `code` reports.
    /// Absent if no limit applies. Limits of the tenant are not listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    rate_limits: Option<Vec<RateLimitState>>,
    /// The names of the limits that refuse the call. Limits that are smaller than the cost come
    /// first, then the limit that resets last. Present if `code` is `RATE_LIMITED`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    limits: Option<Vec<String>>,
    /// Seconds until the limits that refuse the call have reset. Absent if the cost is larger than
    /// a limit, so that waiting does not help.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, minimum = 1)]
    retry_after: Option<u32>,
    /// The purchase for the charge. Present if the charge succeeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    purchase: Option<Purchase>,
    /// The amount of the charge. Present if `code` is `INSUFFICIENT_BALANCE` or
    /// `SPEND_LIMIT_EXCEEDED`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    required: Option<DecimalAmount>,
    /// The available amount. If `code` is `INSUFFICIENT_BALANCE`, this is the balance minus open
    /// holds. If `code` is `SPEND_LIMIT_EXCEEDED`, this is the remaining part of the limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    available: Option<DecimalAmount>,
}

/// The verified key. Its members are absent if no key was found.
#[derive(Serialize, ToSchema, Default)]
pub struct VerifiedKey {
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    tenant: Option<Slug>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    environment: Option<Environment>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    key_id: Option<KeyId>,
    /// The tenant's own id for the account.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    account: Option<ExternalId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    scopes: Option<ScopeSet>,
    /// Time at which the key expires. `null` if the key does not expire.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Option<Timestamp>>,
}

#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VerifyRequest {
    /// The API key that a client presented.
    #[schema(value_type = String)]
    key: Result<KeyText, MalformedKey>,
    /// Required scopes. The key's scopes must imply each of them.
    scopes: Option<ScopeSet>,
    /// Number of calls that the verification counts as in rate limits. Defaults to 1.
    cost: Option<Cost>,
    /// Address of the client that presented the key. Without it, a key that may be used only from
    /// some networks is `IP_NOT_ALLOWED`.
    #[schema(value_type = Option<String>, min_length = 2, max_length = 45, example = "203.0.113.7")]
    client_ip: Option<IpAddr>,
    /// Purchase to make with the key if the key is valid. The key then also needs the scope
    /// `purchases:write`.
    charge: Option<ChargeRequest>,
}

#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChargeRequest {
    /// Amount greater than zero, as a decimal string with at most as many decimals as the currency.
    amount: Amount,
    reference: Option<Reference>,
    /// Idempotency key of the purchase, as in the header `Idempotency-Key`.
    idempotency_key: IdempotencyKey,
}

impl VerifyRequest {
    fn read(mut fields: Fields, tenant: &Tenant) -> Result<Self, Problem> {
        let malformed_is_an_answer = |text: &str| Ok::<_, MalformedKey>(KeyText::parse(text));
        let key = fields.required("key", text(malformed_is_an_answer));
        let scopes = fields.optional("scopes", scopes);
        let cost = fields.optional("cost", integer(Cost::try_from));
        let client_ip = fields.optional("client_ip", text(client_ip));
        let charge = fields.object("charge", |charge| ChargeRequest::read(charge, tenant));
        let request = key.map(|key| Self { key, scopes, cost, client_ip, charge });
        fields.finish(request)
    }
}

/// Parses an address. An IPv4-mapped IPv6 address is its IPv4 address.
fn client_ip(text: &str) -> Result<IpAddr, &'static str> {
    let address = text.parse::<IpAddr>().map(|address| address.to_canonical());
    address.map_err(|_| "must be an IP address, such as 203.0.113.7")
}

impl VerifyRequest {
    /// Returns the scopes that the key must have. A charge asks for `purchases:write`.
    fn asked_scopes(&self) -> Vec<Scope> {
        let charge_scope = self.charge.as_ref().map(|_| Scope::purchases_write());
        self.scopes.iter().flat_map(ScopeSet::iter).cloned().chain(charge_scope).collect()
    }
}

impl ChargeRequest {
    fn read(fields: &mut Fields, tenant: &Tenant) -> Option<Self> {
        let amount = fields.required("amount", amount(tenant));
        let reference = fields.optional("reference", text(Reference::parse));
        let key = fields.required("idempotency_key", text(IdempotencyKey::parse));
        Some(Self { amount: amount?, reference, idempotency_key: key? })
    }
}

impl VerifyResponse {
    fn new(code: VerificationCode, key: VerifiedKey) -> Self {
        Self {
            valid: code == VerificationCode::Valid,
            code,
            key,
            missing_scopes: Vec::new(),
            rate_limits: None,
            limits: None,
            retry_after: None,
            purchase: None,
            required: None,
            available: None,
        }
    }

    fn denied(denial: Denial, key: VerifiedKey) -> Result<Self, Problem> {
        let code = VerificationCode::try_from(denial).map_err(|_| denial)?;
        Ok(Self::new(code, key))
    }

    /// Adds the limits that refuse the call.
    fn limited_by(self, limited: Option<RateLimited>, now: Timestamp) -> Self {
        let Some(RateLimited { limits, retry_after, states, .. }) = limited else { return self };
        Self { limits: Some(limits), retry_after, ..self.charged_to(Some(states), now) }
    }

    /// Adds the limits that the call was charged to.
    fn charged_to(self, limits: Option<Vec<LimitState>>, now: Timestamp) -> Self {
        let limits = limits.filter(|limits| !limits.is_empty());
        let rate_limits = limits.map(|limits| RateLimitState::list(limits, now));
        Self { rate_limits, ..self }
    }

    fn lacking(missing_scopes: Vec<Scope>, key: VerifiedKey) -> Self {
        Self { missing_scopes, ..Self::new(VerificationCode::InsufficientScope, key) }
    }
}

impl VerifiedKey {
    fn new(principal: &Principal) -> Self {
        Self {
            tenant: Some(principal.tenant.clone()),
            environment: Some(principal.environment),
            key_id: Some(principal.key_id),
            account: Some(principal.account.clone()),
            scopes: Some(principal.scopes.clone()),
            expires_at: Some(principal.expires_at),
        }
    }
}

/// Verify an API key
///
/// Verifies a key that a client presented. With `charge`, also makes a purchase with the key. The
/// status is 200 even if the key is refused. `valid` and `code` contain the result. For a key of
/// another tenant, `code` is `NOT_FOUND`.
#[utoipa::path(post, path = "/v1/keys/verify", operation_id = "verifyKey",
    tag = "gate",
    request_body = VerifyRequest,
    responses(
        (status = 200, description = "The result of the verification.", body = VerifyResponse,
            headers(("Idempotent-Replayed"))),
        AnyRoute, WithAdminKey, WithBody, WithIdempotencyKey))]
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %admin.tenant.slug))]
pub async fn verify(
    State(state): State<AppState>,
    admin: Admin,
    ThisRequest(request_id): ThisRequest,
    fields: Fields,
) -> Result<Response, Problem> {
    let tenant = &admin.tenant;
    let request = VerifyRequest::read(fields, tenant)?;
    let (response, replayed) = answer(&state, &admin, request, request_id).await?;
    count_for(tenant, response.code.metric_label());
    Ok(mark_replayed(Json(response).into_response(), replayed))
}

async fn answer(
    state: &AppState,
    admin: &Admin,
    request: VerifyRequest,
    request_id: RequestId,
) -> Result<(VerifyResponse, bool), Problem> {
    let tenant = &admin.tenant;
    // A text without the tenant's prefix cannot be a key of the tenant, so it needs no lookup.
    let key = request.key.as_ref().ok();
    let key = key.filter(|key| key.prefix() == tenant.policy.prefix.as_str());
    let Some(key) = key else {
        return Ok((VerifyResponse::denied(Denial::NotFound, VerifiedKey::default())?, false));
    };
    // The user agent of this request is the backend's.
    let client = Client { address: request.client_ip, user_agent: &[], route: ROUTE };
    let asked = request.asked_scopes();
    let presented = Presented::new(key)
        .for_tenant(Some((&tenant.slug, tenant.environment)))
        .for_scopes(&asked)
        .from_client(request.client_ip)
        .costing(Some(request.cost.unwrap_or(Cost::ONE)));
    let found = match state.node.verify(&presented).await {
        Ok(found) => found,
        Err(Denied { reason, principal, rate_limited, .. }) => {
            let outcome = GateDecision::Denied(reason).usage();
            if let (Some(principal), Some(outcome)) = (&principal, outcome) {
                state.usage.record(principal, outcome, &client);
            }
            let key = principal.as_ref().map(VerifiedKey::new).unwrap_or_default();
            let denied = VerifyResponse::denied(reason, key)?;
            return Ok((denied.limited_by(rate_limited.map(|limited| *limited), admin.now), false));
        }
    };
    let missing: Vec<Scope> =
        asked.iter().filter(|scope| !found.scopes.allows(scope)).cloned().collect();
    let decided = if missing.is_empty() {
        let limits = found.limits.as_ref().map(|limits| limits.states(&asked));
        let decided = decide(state, tenant, &found, request, request_id).await;
        decided.map(|(answer, replayed)| (answer.charged_to(limits, admin.now), replayed))
    } else {
        Ok((VerifyResponse::lacking(missing, VerifiedKey::new(&found)), false))
    };
    // The key was accepted, even if the charge failed.
    let decision =
        decided.as_ref().map_or(GateDecision::Passed, |(answer, _)| answer.code.decision());
    state.usage.record(&found, decision.usage().unwrap_or(UsageOutcome::Valid), &client);
    decided
}

/// Makes the charge with a valid key that has all required scopes.
async fn decide(
    state: &AppState,
    tenant: &Arc<Tenant>,
    found: &Principal,
    request: VerifyRequest,
    request_id: RequestId,
) -> Result<(VerifyResponse, bool), Problem> {
    match request.charge {
        Some(charge) => self::charge(state, tenant, found, charge, request_id).await,
        None => Ok((VerifyResponse::new(VerificationCode::Valid, VerifiedKey::new(found)), false)),
    }
}

async fn charge(
    state: &AppState,
    tenant: &Arc<Tenant>,
    found: &Principal,
    charge: ChargeRequest,
    request_id: RequestId,
) -> Result<(VerifyResponse, bool), Problem> {
    let key = VerifiedKey::new(found);
    let currency = &tenant.policy.currency;
    let purchase = NewPurchase {
        amount: charge.amount,
        reference: charge.reference,
        description: None,
        metadata: Metadata::default(),
    };
    let buyer = buyer(Arc::clone(tenant), found, request_id);
    match state.money.purchase(&buyer, purchase, Some(charge.idempotency_key)).await {
        Ok(Decision::Made { made, replayed }) => {
            let purchase = Some(Purchase::new(made, currency));
            let made = VerifyResponse::new(VerificationCode::Valid, key);
            Ok((VerifyResponse { purchase, ..made }, replayed))
        }
        Ok(Decision::Declined(decline)) => {
            let code = match decline.limit {
                None => VerificationCode::InsufficientBalance,
                Some(_) => VerificationCode::SpendLimitExceeded,
            };
            let declined = VerifyResponse {
                required: Some(currency.format(decline.required)),
                available: Some(currency.format(decline.available)),
                ..VerifyResponse::new(code, key)
            };
            Ok((declined, decline.replayed))
        }
        // The key changed between the lookup and the charge.
        Err(StoreError::Refused(Refusal::KeyDenied(denial))) => {
            Ok((VerifyResponse::denied(denial, key)?, false))
        }
        Err(StoreError::Refused(Refusal::ScopeLost)) => {
            let lost = vec![Scope::purchases_write()];
            Ok((VerifyResponse::lacking(lost, VerifiedKey::new(found)), false))
        }
        Err(error) => Err(error.into()),
    }
}
