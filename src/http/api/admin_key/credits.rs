//! Credits, which top up an account's balance.

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
        params::AccountPath,
        problems::{AnyRoute, WithAdminKey, WithBody, WithIdempotencyKey, WithTarget},
        replay::{RequiredIdempotencyKey, mark_replayed},
    },
    state::AppState,
    store,
};

/// A top-up of an account's balance.
#[derive(Serialize, ToSchema)]
pub struct Credit {
    id: CreditId,
    amount: DecimalAmount,
    currency: CurrencyCode,
    /// The balance after the credit.
    balance_after: DecimalAmount,
    #[schema(required = true)]
    reference: Option<Reference>,
    created_at: Timestamp,
}

impl Credit {
    fn new(credit: store::Credit, currency: &Currency) -> Self {
        Self {
            id: credit.id,
            amount: currency.format(credit.amount),
            currency: currency.into(),
            balance_after: currency.format(credit.balance_after),
            reference: credit.reference,
            created_at: credit.created_at,
        }
    }
}

#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateCreditRequest {
    /// Amount greater than zero, as a decimal string with at most as many decimals as the currency.
    amount: Amount,
    /// The tenant's own id for the credit, such as a payment number.
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
        let key = RequiredIdempotencyKey::read(&mut fields, headers);
        let request = amount.map(|amount| Self { amount, reference });
        fields.finish(request.zip(key))
    }
}

/// Top up an account
///
/// Adds the amount to the account's balance. Takes effect once per `Idempotency-Key`.
#[utoipa::path(post, path = "/v1/accounts/{account}/credits", operation_id = "createCredit",
    tag = "accounts",
    params(AccountPath, RequiredIdempotencyKey),
    request_body = CreateCreditRequest,
    responses(
        (status = 201, description = "The new credit.", body = Credit,
            headers(("Idempotent-Replayed"))),
        AnyRoute, WithAdminKey, WithBody, WithIdempotencyKey, WithTarget))]
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %admin.tenant.slug, account_id = %admin.tenant.account_id(&account)))]
pub async fn create(
    State(state): State<AppState>,
    admin: Admin,
    AccountPath { account }: AccountPath,
    headers: HeaderMap,
    fields: Fields,
) -> Result<Response, Problem> {
    let tenant = &admin.tenant;
    let (wanted, key) = CreateCreditRequest::read(fields, &headers, tenant)?;
    let credit = NewCredit { amount: wanted.amount, reference: wanted.reference };
    let credited = state.money.credit(tenant, account, credit, key, admin.origin).await?;
    let body = Json(Credit::new(credited.credit, &tenant.policy.currency));
    Ok(mark_replayed((StatusCode::CREATED, body).into_response(), credited.replayed))
}
