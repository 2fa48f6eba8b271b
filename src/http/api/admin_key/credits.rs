//! Credits: top-ups of an account's balance.

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
        amount::{Amount, Currency},
        credit::NewCredit,
        id::CreditId,
        idempotency::IdempotencyKey,
        tenant::Tenant,
        text::Reference,
        timestamp::Timestamp,
    },
    http::api::shared::{
        admin::Admin,
        amounts::amount,
        fields::{Fields, text},
        params::{AccountInPath, AccountPath},
        problems::{AnyRoute, WithAdminKey, WithBody, WithIdempotencyKey, WithTarget},
        replay::{RequiredIdempotencyKey, idempotency_key, mark_replayed},
    },
    state::AppState,
    store,
};

/// A top-up.
#[derive(Serialize, ToSchema)]
pub struct Credit {
    #[schema(value_type = String, example = "crd_01h455vb4pex5vsknk084sn02q")]
    id: CreditId,
    #[schema(example = "100.000000")]
    amount: String,
    #[schema(example = "TRX")]
    currency: String,
    /// The balance once it had been added.
    balance_after: String,
    #[schema(required = true)]
    reference: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

impl Credit {
    fn new(credit: store::Credit, currency: &Currency) -> Self {
        Self {
            id: credit.id,
            amount: currency.format(credit.amount),
            currency: currency.code().to_owned(),
            balance_after: currency.format(credit.balance_after),
            reference: credit.reference,
            created_at: credit.created_at,
        }
    }
}

#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateCreditRequest {
    /// A decimal string with at most the currency's decimals, more than zero.
    #[schema(value_type = String, example = "100")]
    amount: Amount,
    /// The tenant's own id of it, such as a payment's number.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 200)]
    reference: Option<Reference>,
}

impl CreateCreditRequest {
    fn read(
        mut fields: Fields,
        headers: &HeaderMap,
        tenant: &Tenant,
    ) -> Result<(Self, IdempotencyKey), Problem> {
        let amount = fields.required("amount", amount(tenant));
        let reference = fields.optional("reference", text(Reference::parse));
        let key = idempotency_key(&mut fields, headers);
        let request = amount.map(|amount| Self { amount, reference });
        fields.finish(request.zip(key))
    }
}

/// Top an account up, once for each `Idempotency-Key`.
#[utoipa::path(post, path = "/v1/accounts/{account}/credits", operation_id = "createCredit",
    tag = "accounts",
    security(("admin_key" = [])),
    params(AccountPath,
        RequiredIdempotencyKey),
    request_body = CreateCreditRequest,
    responses(
        (status = 201, body = Credit,
            headers(("Idempotent-Replayed" = String, description = "`true` when it was made before"))),
        AnyRoute, WithAdminKey, WithBody, WithIdempotencyKey, WithTarget))]
pub async fn create(
    State(state): State<AppState>,
    admin: Admin,
    AccountInPath(account): AccountInPath,
    headers: HeaderMap,
    fields: Fields,
) -> Result<Response, Problem> {
    let tenant = &admin.tenant;
    let (wanted, key) = CreateCreditRequest::read(fields, &headers, tenant)?;
    let credit = NewCredit { amount: wanted.amount, reference: wanted.reference };
    let credited = state.ledger.credit(tenant, account, credit, key, admin.origin).await?;
    let body = Json(Credit::new(credited.credit, &tenant.policy.currency));
    Ok(mark_replayed((StatusCode::CREATED, body).into_response(), credited.replayed))
}
