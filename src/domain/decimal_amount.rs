//! Amounts of money as decimal strings, for responses and for people.

use std::fmt;

/// A fraction with this many decimals or fewer is customarily written in full: `1.50 USD`.
const CUSTOMARY_DECIMALS: usize = 2;

/// Number of digits of `i64::MAX`.
#[cfg(feature = "server")]
const MAX_DIGITS: usize = 19;

/// Minor units as a decimal string with all the currency's decimals, for responses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DecimalAmount(String);

impl DecimalAmount {
    pub(super) fn new(decimal: String) -> Self {
        Self(decimal)
    }

    /// Returns the decimal string, such as `1.500000`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the decimal string for people, without trailing zeros, such as `1.5` or `82`. If the
    /// currency has at most two decimals, a fraction keeps all of them, as in `1.50`.
    #[must_use]
    pub fn short(&self) -> &str {
        short_decimal(&self.0)
    }
}

/// Removes the trailing zeros of a decimal string, as [`DecimalAmount::short`] does.
#[must_use]
pub fn short_decimal(decimal: &str) -> &str {
    let Some((whole, fraction)) = decimal.split_once('.') else { return decimal };
    let digits = fraction.trim_end_matches('0').len();
    match digits {
        0 => whole,
        _ if fraction.len() <= CUSTOMARY_DECIMALS => decimal,
        _ => &decimal[..=whole.len() + digits],
    }
}

impl fmt::Display for DecimalAmount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<DecimalAmount> for String {
    fn from(amount: DecimalAmount) -> Self {
        amount.0
    }
}

impl From<DecimalAmount> for serde_json::Value {
    fn from(amount: DecimalAmount) -> Self {
        Self::String(amount.0)
    }
}

impl serde::Serialize for DecimalAmount {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

#[cfg(feature = "server")]
super::schema::named!(
    DecimalAmount,
    "Amount",
    super::schema::formatted(
        "decimal",
        "An amount in the tenant's currency, as a decimal string. Responses contain all the \
         currency's decimals; requests may contain fewer."
    )
    .pattern(Some(decimal_pattern("")))
    // The digits, plus a point.
    .max_length(Some(MAX_DIGITS + 1))
    .examples(["1.500000"])
);

/// A decimal string with a minus sign if the amount was taken from the balance.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignedDecimalAmount(DecimalAmount);

impl From<DecimalAmount> for SignedDecimalAmount {
    fn from(amount: DecimalAmount) -> Self {
        Self(amount)
    }
}

impl fmt::Display for SignedDecimalAmount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl serde::Serialize for SignedDecimalAmount {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serde::Serialize::serialize(&self.0, serializer)
    }
}

#[cfg(feature = "server")]
super::schema::named!(
    SignedDecimalAmount,
    "SignedAmount",
    super::schema::formatted(
        "decimal",
        "An amount that may be negative, as a decimal string with all the currency's decimals."
    )
    .pattern(Some(decimal_pattern("-?")))
    // The digits, plus a point and a minus sign.
    .max_length(Some(MAX_DIGITS + 2))
    .examples(["-1.500000"])
);

/// Returns the pattern of decimal strings. One digit or more is before the point, so at most
/// [`MAX_DIGITS`] - 1 digits are after it.
#[cfg(feature = "server")]
fn decimal_pattern(sign: &str) -> String {
    let more_digits = MAX_DIGITS - 1;
    format!("^{sign}(0|[1-9][0-9]{{0,{more_digits}}})(\\.[0-9]{{1,{more_digits}}})?$")
}
