//! Currencies, and amounts in currencies with any number of decimals.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate::domain::amount::{Amount, Currency};

fuzz_target!(|input: (&str, u8)| {
    let (text, decimals) = input;
    if let Ok(currency) = Currency::new(text, decimals) {
        assert_eq!((currency.code(), currency.decimals()), (text, decimals));
    }
    let Ok(currency) = Currency::new("TRX", decimals) else { return };
    if let Ok(amount) = Amount::parse(text, &currency) {
        let minor_units = amount.minor_units();
        assert!(minor_units > 0);
        let formatted = currency.format(minor_units).to_string();
        assert_eq!(Amount::parse(&formatted, &currency), Ok(amount));
    }
});
