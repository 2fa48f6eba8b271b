//! Money as it stands in JSON.

use serde::Serialize;
use utoipa::ToSchema;

use super::fields::{Wrong, text};
use crate::domain::{
    amount::{Amount, Currency},
    tenant::Tenant,
};

/// What an account has.
#[derive(Serialize, ToSchema)]
pub struct Balance {
    /// Decimal string with all the currency's decimals.
    #[schema(example = "100.000000")]
    amount: String,
    #[schema(example = "TRX")]
    currency: String,
    /// Decimals of the currency.
    decimals: u8,
}

impl Balance {
    pub fn new(minor_units: i64, currency: &Currency) -> Self {
        Self {
            amount: currency.format(minor_units),
            currency: currency.code().to_owned(),
            decimals: currency.decimals(),
        }
    }
}

/// Reads an amount in the tenant's currency.
pub fn amount(tenant: &Tenant) -> impl FnOnce(serde_json::Value) -> Result<Amount, Wrong> {
    let currency = tenant.policy.currency.clone();
    text(move |text| Amount::parse(text, &currency))
}
