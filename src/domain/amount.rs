//! Amounts of money. The API uses decimal strings, the code uses `i64` minor units, and neither
//! uses floats.

use std::fmt;

pub use super::decimal_amount::{DecimalAmount, SignedDecimalAmount, short_decimal};

/// Maximum number of decimals of a currency. With more decimals, one unit would not fit into `i64`
/// minor units.
pub const MAX_DECIMALS: u8 = 18;

/// The currency of a tenant, which consists of its code and its number of decimals. One unit of a
/// currency with six decimals is 1,000,000 minor units.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Currency {
    code: CurrencyCode,
    decimals: u8,
}

/// The code of a currency: 2 to 10 capital letters and digits, beginning with a letter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CurrencyCode(Box<str>);

impl CurrencyCode {
    /// Maximum number of characters.
    pub const MAX_LENGTH: usize = 10;
}

impl From<&Currency> for CurrencyCode {
    fn from(currency: &Currency) -> Self {
        currency.code.clone()
    }
}

impl fmt::Display for CurrencyCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl serde::Serialize for CurrencyCode {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

#[cfg(feature = "server")]
super::schema::named!(
    CurrencyCode,
    "CurrencyCode",
    super::schema::string("The code of the tenant's currency.")
        .pattern(Some(format!("^[A-Z][A-Z0-9]{{1,{}}}$", CurrencyCode::MAX_LENGTH - 1)))
        .examples(["TRX"])
);

/// An error from creating a [`Currency`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CurrencyError {
    /// The code is too short or too long, begins with a digit, or contains a character other than A
    /// to Z and 0 to 9.
    #[error("a currency code has 2 to 10 capital letters and digits, and begins with a letter")]
    Code,
    /// There are more than [`MAX_DECIMALS`] decimals.
    #[error("a currency has 0 to 18 decimals")]
    Decimals,
}

impl Currency {
    /// Creates a currency with 0 to [`MAX_DECIMALS`] decimals. Any code of the right form is
    /// accepted.
    ///
    /// # Errors
    ///
    /// [`CurrencyError::Code`] if the code is not 2 to 10 capital letters and digits, beginning
    /// with a letter. [`CurrencyError::Decimals`] if there are more than [`MAX_DECIMALS`] decimals.
    pub fn new(code: &str, decimals: u8) -> Result<Self, CurrencyError> {
        let good = (2..=CurrencyCode::MAX_LENGTH).contains(&code.len())
            && code.starts_with(|first: char| first.is_ascii_uppercase())
            && code.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
        if !good {
            return Err(CurrencyError::Code);
        }
        if decimals > MAX_DECIMALS {
            return Err(CurrencyError::Decimals);
        }
        Ok(Self { code: CurrencyCode(code.into()), decimals })
    }

    /// Returns the code, such as `TRX`.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.code.0
    }

    /// Returns the number of decimals, from 0 to [`MAX_DECIMALS`].
    #[must_use]
    pub fn decimals(&self) -> u8 {
        self.decimals
    }

    /// Formats minor units as a decimal string with all decimals, such as `1.500000` for `1500000`
    /// minor units of TRX.
    #[must_use]
    pub fn format(&self, minor_units: i64) -> DecimalAmount {
        let decimals = usize::from(self.decimals);
        let sign = if minor_units < 0 { "-" } else { "" };
        let digits = format!("{:0>width$}", minor_units.unsigned_abs(), width = decimals + 1);
        let (whole, fraction) = digits.split_at(digits.len() - decimals);
        let point = if decimals == 0 { "" } else { "." };
        DecimalAmount::new(format!("{sign}{whole}{point}{fraction}"))
    }
}

/// An amount of money to pay, hold, credit or refund. It is more than zero, in minor units of the
/// tenant's currency.
///
/// ```
/// use tollgate::domain::amount::{Amount, Currency};
///
/// let trx = Currency::new("TRX", 6)?;
/// let amount = Amount::parse("1.5", &trx)?;
/// assert_eq!(amount.minor_units(), 1_500_000);
/// assert_eq!(trx.format(amount.minor_units()).as_str(), "1.500000");
///
/// assert!(Amount::parse("0.0000001", &trx).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Amount(i64);

/// An error from parsing an [`Amount`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AmountError {
    /// The text is not a plain decimal number.
    #[error(
        "an amount consists of digits with an optional point, such as \"12.5\", \
         without a sign, exponent, space or leading zero"
    )]
    Grammar,
    /// There are more digits after the point than the currency has decimals. Trailing zeros count
    /// as well. The field is the number of decimals of the currency.
    #[error("an amount has at most {0} decimals in this currency")]
    TooPrecise(u8),
    /// The number is zero.
    #[error("an amount must be more than zero")]
    Zero,
    /// The number is more than `i64::MAX` minor units.
    #[error("an amount is at most {0}")]
    TooLarge(MaxAmount),
}

/// The largest amount of a currency, for the message of [`AmountError::TooLarge`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxAmount(u8);

impl fmt::Display for MaxAmount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let currency = Currency { code: CurrencyCode("".into()), decimals: self.0 };
        fmt::Display::fmt(&currency.format(i64::MAX), f)
    }
}

impl Amount {
    /// Parses a decimal string such as `12.5`, without rounding.
    ///
    /// # Errors
    ///
    /// [`AmountError::Grammar`] if the text is not digits with an optional point,
    /// [`AmountError::TooPrecise`] if it has more decimals than the currency,
    /// [`AmountError::TooLarge`] if it is more than `i64::MAX` minor units, and
    /// [`AmountError::Zero`] if it is zero.
    pub fn parse(text: &str, currency: &Currency) -> Result<Self, AmountError> {
        let (whole, fraction) = match text.split_once('.') {
            Some((_, "")) => return Err(AmountError::Grammar),
            Some(parts) => parts,
            None => (text, ""),
        };
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        let leading_zero = whole.len() > 1 && whole.starts_with('0');
        if whole.is_empty() || leading_zero || !digits(whole) || !digits(fraction) {
            return Err(AmountError::Grammar);
        }
        let decimals = currency.decimals;
        if fraction.len() > usize::from(decimals) {
            return Err(AmountError::TooPrecise(decimals));
        }
        let zeros = usize::from(decimals) - fraction.len();
        let minor_units = whole
            .bytes()
            .chain(fraction.bytes())
            .chain(std::iter::repeat_n(b'0', zeros))
            .try_fold(0_i64, |sum, digit| sum.checked_mul(10)?.checked_add(i64::from(digit - b'0')))
            .ok_or(AmountError::TooLarge(MaxAmount(decimals)))?;
        Self::from_minor_units(minor_units).ok_or(AmountError::Zero)
    }

    /// Creates an amount of this many minor units. `None` unless the number is more than zero.
    #[must_use]
    pub fn from_minor_units(minor_units: i64) -> Option<Self> {
        (minor_units > 0).then_some(Self(minor_units))
    }

    /// Returns the number of minor units, from 1 to `i64::MAX`.
    #[must_use]
    pub fn minor_units(self) -> i64 {
        self.0
    }
}

#[cfg(feature = "server")]
super::schema::same_as!(Amount, DecimalAmount);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn trx() -> Currency {
        Currency::new("TRX", 6).expect("a good currency")
    }

    fn parse(text: &str) -> Result<i64, AmountError> {
        Amount::parse(text, &trx()).map(Amount::minor_units)
    }

    #[test]
    fn decimal_strings_are_read_exactly() {
        assert_eq!(parse("1.5"), Ok(1_500_000));
        assert_eq!(parse("1.500000"), Ok(1_500_000));
        assert_eq!(parse("0.000001"), Ok(1));
        assert_eq!(parse("9223372036854.775807"), Ok(i64::MAX));
    }

    #[test]
    fn malformed_and_out_of_range_amounts_are_refused() {
        for text in [
            "", ".", "1.", ".5", "+1", "-1", "1e3", "1,5", " 1", "1 ", "01", "0x1", "1.2.3", "١",
            "NaN",
        ] {
            assert_eq!(parse(text), Err(AmountError::Grammar), "{text:?}");
        }
        assert_eq!(parse("0.0000001"), Err(AmountError::TooPrecise(6)));
        assert_eq!(parse("0"), Err(AmountError::Zero));
        assert_eq!(parse("0.000000"), Err(AmountError::Zero));
        let too_large = AmountError::TooLarge(MaxAmount(6));
        assert_eq!(parse("9223372036854.775808"), Err(too_large));
        assert_eq!(parse(&"9".repeat(10_000)), Err(too_large));
        assert_eq!(too_large.to_string(), "an amount is at most 9223372036854.775807");
    }

    #[test]
    fn minor_units_are_written_with_all_decimals() {
        assert_eq!(trx().format(1_500_000).as_str(), "1.500000");
        assert_eq!(trx().format(-1).as_str(), "-0.000001");
        assert_eq!(trx().format(0).as_str(), "0.000000");
        assert_eq!(trx().format(i64::MIN).as_str(), "-9223372036854.775808");
        assert_eq!(Currency::new("JPY", 0).expect("good").format(7).as_str(), "7");
    }

    #[test]
    fn short_amounts_omit_trailing_zeros() {
        for (minor_units, short) in [
            (82_000_000, "82"),
            (1_500_000, "1.5"),
            (-1, "-0.000001"),
            (0, "0"),
            (100_100, "0.1001"),
        ] {
            assert_eq!(trx().format(minor_units).short(), short);
        }
        let usd = Currency::new("USD", 2).expect("good");
        for (minor_units, short) in [(2_500, "25"), (150, "1.50"), (-5, "-0.05"), (0, "0")] {
            assert_eq!(usd.format(minor_units).short(), short);
        }
        assert_eq!(Currency::new("JPY", 0).expect("good").format(70).short(), "70");
    }

    #[test]
    fn invalid_currencies_are_refused() {
        for code in ["", "A", "trx", "1TRX", "TR-X", "ABCDEFGHIJK"] {
            assert_eq!(Currency::new(code, 2), Err(CurrencyError::Code), "{code:?}");
        }
        assert_eq!(Currency::new("TRX", 19), Err(CurrencyError::Decimals));
    }

    proptest! {
        #[test]
        fn formatted_amount_parses_to_the_same_value(
            minor_units in 1..=i64::MAX, decimals in 0..=MAX_DECIMALS
        ) {
            let currency = Currency::new("XXX", decimals).expect("a good currency");
            let read = Amount::parse(currency.format(minor_units).as_str(), &currency);
            prop_assert_eq!(read.map(Amount::minor_units), Ok(minor_units));
        }

        #[test]
        fn parsing_never_panics(text in "[0-9.eE+-]{0,50}", decimals in 0..=MAX_DECIMALS) {
            let _ = Amount::parse(&text, &Currency::new("XXX", decimals).expect("a good currency"));
        }
    }
}
