//! TRON addresses. An address is the base58check encoding of `0x41` and the account's 20 bytes, 34
//! characters in total.

/// The first byte of every address of the main network.
pub(super) const ADDRESS_PREFIX: u8 = 0x41;

/// The text is not the address of an account on the TRON main network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a TRON address is T followed by 33 base58 characters, with a correct checksum")]
pub struct AddressError;

/// Checks the length, the alphabet, the first byte and the checksum of an address.
///
/// # Errors
///
/// [`AddressError`] if any of these is wrong.
pub fn check_address(text: &str) -> Result<(), AddressError> {
    // This check limits the work of the decoder.
    if text.len() != 34 {
        return Err(AddressError);
    }
    match bs58::decode(text).with_check(Some(ADDRESS_PREFIX)).into_vec() {
        Ok(payload) if payload.len() == 21 => Ok(()),
        _ => Err(AddressError),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_addresses_are_accepted() {
        // The first address belongs to the private key 1. The second address belongs to the USDT
        // contract.
        for address in ["TMVQGm1qAQYVdetCeGRRkTWYYrLXuHK2HC", "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t"]
        {
            assert_eq!(check_address(address), Ok(()), "{address}");
        }
    }

    #[test]
    fn malformed_addresses_are_refused() {
        for address in [
            "",
            "TMVQGm1qAQYVdetCeGRRkTWYYrLXuHK2HD",
            "tMVQGm1qAQYVdetCeGRRkTWYYrLXuHK2HC",
            "TMVQGm1qAQYVdetCeGRRkTWYYrLXuHK2H",
            "TMVQGm1qAQYVdetCeGRRkTWYYrLXuHK2HCC",
            "TMVQGm1qAQYVdetCeGRRkTWYYrLXuHK2H0",
            "1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2",
            "0x7e5f4552091a69125d5dfcb7b8c2659029395bdf",
        ] {
            assert_eq!(check_address(address), Err(AddressError), "{address}");
        }
    }
}
