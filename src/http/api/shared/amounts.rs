//! Amounts in JSON, and problems that contain amounts.

use serde::Serialize;
use utoipa::ToSchema;

use super::fields::{Fields, Wrong, text};
use crate::{
    auth::{Problem, ProblemCode},
    domain::{
        amount::{Amount, Currency, CurrencyCode, DecimalAmount},
        spend_limit::{SpendLimit, SpendPeriod},
        tenant::Tenant,
    },
    store::{Decline, Refusal, StoreError},
};

/// The balance of an account.
#[derive(Serialize, ToSchema)]
pub struct Balance {
    amount: DecimalAmount,
    /// The part of the balance that open holds reserve.
    held: DecimalAmount,
    /// The part of the balance that purchases can use.
    available: DecimalAmount,
    currency: CurrencyCode,
    /// Number of decimals of the currency.
    decimals: u8,
}

impl Balance {
    pub fn new(amount: i64, held: i64, currency: &Currency) -> Self {
        Self {
            amount: currency.format(amount),
            held: currency.format(held),
            available: currency.format(amount - held),
            currency: currency.into(),
            decimals: currency.decimals(),
        }
    }
}

/// Maximum sum of a key's purchases and open holds in a period.
#[derive(Serialize, ToSchema)]
#[schema(as = SpendLimit)]
pub struct SpendLimitBody {
    amount: DecimalAmount,
    period: SpendPeriod,
}

impl SpendLimitBody {
    pub fn new(limit: SpendLimit, currency: &Currency) -> Self {
        Self { amount: currency.format(limit.amount.minor_units()), period: limit.period }
    }
}

/// Reads an amount in the tenant's currency.
pub fn amount(tenant: &Tenant) -> impl FnOnce(serde_json::Value) -> Result<Amount, Wrong> {
    let currency = tenant.policy.currency.clone();
    text(move |text| Amount::parse(text, &currency))
}

/// Reads the members of a spend limit.
pub fn spend_limit(fields: &mut Fields, tenant: &Tenant) -> Option<SpendLimit> {
    let amount = fields.required("amount", amount(tenant));
    let period = fields.required("period", text(str::parse));
    Some(SpendLimit { amount: amount?, period: period? })
}

/// The kind of request that takes an amount from the available balance.
#[derive(Clone, Copy)]
pub enum Charge {
    Purchase,
    Hold,
}

impl Charge {
    const fn noun(self) -> &'static str {
        match self {
            Self::Purchase => "purchase",
            Self::Hold => "hold",
        }
    }
}

/// Builds a 402 with the requested amount and the available amount.
pub fn declined(charge: Charge, decline: &Decline, currency: &Currency) -> Problem {
    let noun = charge.noun();
    let code = currency.code();
    let [required, available] =
        [decline.required, decline.available].map(|amount| currency.format(amount));
    let [needs, has] = [&required, &available].map(DecimalAmount::short);
    let problem = match decline.limit {
        None => {
            let detail = format!(
                "The {noun} needs {needs} {code}, but only {has} {code} is available. \
                 Top up the account."
            );
            Problem::new(ProblemCode::InsufficientBalance, detail)
        }
        Some(limit) => {
            let amount = currency.format(limit.amount.minor_units());
            let period = limit.period;
            let detail = format!(
                "The {noun} needs {needs} {code}, but only {has} {code} is left of the key's \
                 spend limit of {} {code} ({period}). Raise the limit or use another key.",
                amount.short()
            );
            Problem::new(ProblemCode::SpendLimitExceeded, detail)
                .with("limit", amount)
                .with("period", period.as_str())
        }
    };
    // A repeated request gets the body of the first response, including the id of the first
    // request.
    problem
        .with("required", required)
        .with("available", available)
        .with("currency", code)
        .for_request(&decline.request_id.to_string())
}

/// Converts a store error to a problem. Some refusals contain an amount, whose text needs the
/// currency.
pub fn refused(error: StoreError, currency: &Currency) -> Problem {
    let code = currency.code();
    match error {
        StoreError::Refused(Refusal::RefundTooLarge { refundable }) => {
            let refundable = currency.format(refundable);
            let detail = format!(
                "Only {} {code} of the purchase can still be refunded. Refund at most this amount.",
                refundable.short()
            );
            Problem::new(ProblemCode::RefundTooLarge, detail)
                .with("refundable", refundable)
                .with("currency", code)
        }
        StoreError::Refused(Refusal::HoldTooSmall { held }) => {
            let held = currency.format(held);
            let detail =
                format!("The hold is for {} {code}. Capture at most this amount.", held.short());
            Problem::new(ProblemCode::HoldTooSmall, detail)
                .with("held", held)
                .with("currency", code)
        }
        error => error.into(),
    }
}
