//! Messages that the owner of a TRON account signs with `signMessageV2`.
//!
//! The signature covers the keccak256 of `"\x19TRON Signed Message:\n"`, the length of the message
//! in bytes as decimal digits, and the message. It consists of r, s and v: 65 bytes in hexadecimal.

use k256::ecdsa::{RecoveryId, Signature, VerifyingKey};
use sha3::{Digest as _, Keccak256};

use super::tron::ADDRESS_PREFIX;

const HEADER: &[u8] = b"\x19TRON Signed Message:\n";

/// Number of bytes of a signature, which consists of r, s and v.
const SIGNATURE_LENGTH: usize = 65;

/// The reason why a signature is refused. The messages address the person who signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// The text is not 65 bytes in hexadecimal, with or without `0x`, or r, s or v is out of range.
    #[error(
        "The signature is malformed. Send the 65 bytes in hexadecimal that signMessageV2 returns."
    )]
    Malformed,
    /// s is in the upper half of the curve's order. Each signature has a second form with such an
    /// s. It is refused, so that nobody can derive a different valid signature from a valid one.
    #[error(
        "The signature is not in canonical form, because its s is in the upper half of the order."
    )]
    HighS,
    /// The recovered key belongs to an address other than the claimed one, or no key can be
    /// recovered.
    #[error(
        "The signature belongs to another account or another message. Sign the message unchanged, \
         with the account that it names, using signMessageV2."
    )]
    AnotherAccount,
}

/// Checks that the owner of `address` signed `message`.
///
/// A public key can be recovered from almost any signature, even from the signature of a different
/// message or of the older format, which writes 32 as the length of every message. Only the
/// comparison of the recovered key's address with `address` detects such a signature.
///
/// # Errors
///
/// [`SignatureError::Malformed`] if `signature` is not a signature in hexadecimal,
/// [`SignatureError::HighS`] if it is not in canonical form, and [`SignatureError::AnotherAccount`]
/// if it does not belong to `address` and `message`.
pub fn verify(address: &str, message: &str, signature: &str) -> Result<(), SignatureError> {
    let (signature, recovery_id) = read_signature(signature)?;
    let key =
        VerifyingKey::recover_from_prehash(&hash(message.as_bytes()), &signature, recovery_id)
            .map_err(|_| SignatureError::AnotherAccount)?;
    if address_of(&key) == address { Ok(()) } else { Err(SignatureError::AnotherAccount) }
}

fn read_signature(text: &str) -> Result<(Signature, RecoveryId), SignatureError> {
    let bytes = read_hex(text.strip_prefix("0x").unwrap_or(text))?;
    let [scalars @ .., v] = &bytes;
    // tronweb writes v as 27 or 28, and tronpy writes it as 0 or 1.
    let recovery_id = match *v {
        0x1b | 0x00 => RecoveryId::new(false, false),
        0x1c | 0x01 => RecoveryId::new(true, false),
        _ => return Err(SignatureError::Malformed),
    };
    let signature = Signature::from_slice(scalars).map_err(|_| SignatureError::Malformed)?;
    // Each signature has a second form with another s. Only one of the two forms is accepted, so
    // that nobody can derive a second valid signature from the first.
    if signature.normalize_s() != signature {
        return Err(SignatureError::HighS);
    }
    Ok((signature, recovery_id))
}

fn read_hex(digits: &str) -> Result<[u8; SIGNATURE_LENGTH], SignatureError> {
    let (pairs, []) = digits.as_bytes().as_chunks::<2>() else {
        return Err(SignatureError::Malformed);
    };
    if pairs.len() != SIGNATURE_LENGTH {
        return Err(SignatureError::Malformed);
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).ok_or(SignatureError::Malformed);
    let mut bytes = [0; SIGNATURE_LENGTH];
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        let value = digit(*high)? * 16 + digit(*low)?;
        *byte = u8::try_from(value).expect("two hexadecimal digits are a byte");
    }
    Ok(bytes)
}

/// Computes the hash that the owner of the account signs.
fn hash(message: &[u8]) -> [u8; 32] {
    let length = message.len().to_string();
    Keccak256::new_with_prefix(HEADER).chain_update(length).chain_update(message).finalize().into()
}

/// Computes the base58check address of a public key.
fn address_of(key: &VerifyingKey) -> String {
    let point = key.to_sec1_point(false);
    // This omits the first byte, which only indicates that both coordinates follow.
    let digest: [u8; 32] = Keccak256::digest(&point.as_bytes()[1..]).into();
    let mut payload = [ADDRESS_PREFIX; 21];
    payload[1..].copy_from_slice(&digest[12..]);
    bs58::encode(payload).with_check().into_string()
}

#[cfg(test)]
mod tests {
    use k256::ecdsa::SigningKey;

    use super::*;

    /// The address of the private key 1.
    const ADDRESS: &str = "TMVQGm1qAQYVdetCeGRRkTWYYrLXuHK2HC";
    const OTHER_ADDRESS: &str = "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t";
    const HELLO: &str = "hello world";
    const HELLO_SIGNATURE: &str = "0x0dc0b53d525e0103a6013061cf18e60cf158809149f2b8994a545af65a7004cb1eeaff560e801ab51b28df5d42549aa024c2aa7e9d34de1e01294b9afb5e6c7e1c";
    const ZURICH: &str = "Zürich ✓";
    const ZURICH_SIGNATURE: &str = "0xdb558b611b7f19eb8440266e1cc1250f882841b71ed675b875d171d95fc3f6860b74a046b19100d56d687df8a9a93fb0a676fd2ac525353018055af60d3935281c";
    /// A message that consists of binary bytes, in hexadecimal.
    const BYTES: &str = "47173285a8d7341e5e972fc677286384f802f8ef42a5ec5f03bbfa254cb01fad";
    const BYTES_SIGNATURE: &str = "0x7e65909ea47c732a4734bf6c41959761b23a58f4ca34e265428fb4576ee1db402e1e007a9019131a999e9dbbe81cc1f8ba424135a529a1b56220fec02e7647fa1c";

    /// The order of the group of secp256k1.
    const ORDER: [u64; 4] = [
        0xffff_ffff_ffff_ffff,
        0xffff_ffff_ffff_fffe,
        0xbaae_dce6_af48_a03b,
        0xbfd2_5e8c_d036_4141,
    ];

    fn to_hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn from_hex(text: &str) -> Vec<u8> {
        let digits = text.as_bytes().as_chunks::<2>().0.iter();
        digits
            .map(|pair| {
                let pair = str::from_utf8(pair).expect("ASCII");
                u8::from_str_radix(pair, 16).expect("hexadecimal")
            })
            .collect()
    }

    /// Signs a hash with the private key 1, as a wallet does.
    fn sign(hash: &[u8; 32]) -> String {
        let mut private_key = [0_u8; 32];
        private_key[31] = 1;
        let key = SigningKey::from_slice(&private_key).expect("a private key");
        let (signature, recovery_id) = key.sign_prehash_recoverable(hash);
        format!("0x{}{:02x}", to_hex(&signature.to_bytes()), recovery_id.to_byte() + 0x1b)
    }

    /// Computes the second form of a signature, with the order minus `s`, and the other `v`.
    fn with_high_s(signature: &str) -> String {
        let s = from_hex(&signature[66..130]);
        let (mut limbs, mut borrow) = (Vec::new(), 0);
        // The loop starts with the least significant limb.
        for (limb, order) in s.rchunks(8).zip(ORDER.iter().rev()) {
            let limb = u64::from_be_bytes(limb.try_into().expect("eight bytes"));
            let (value, first) = order.overflowing_sub(limb);
            let (value, second) = value.overflowing_sub(borrow);
            borrow = u64::from(first || second);
            limbs.push(value);
        }
        let other_s: String = limbs.iter().rev().map(|limb| format!("{limb:016x}")).collect();
        let v = if signature.ends_with("1b") { "1c" } else { "1b" };
        format!("{}{other_s}{v}", &signature[..66])
    }

    #[test]
    fn signatures_match_the_test_vectors_of_tronweb() {
        assert_eq!(
            to_hex(&hash(HELLO.as_bytes())),
            "cf02daeb2bea196ed5692322a66ed50080ce74ff8cb711199f1b04f3c13bc10d"
        );
        assert_eq!(
            to_hex(&hash(&from_hex(BYTES))),
            "66733cf31ee3f133db9561efdca3d65ba930bdf57fb1af3b6cc0ba4966ecc882"
        );
        for (message, signature) in [
            (HELLO.as_bytes().to_vec(), HELLO_SIGNATURE),
            (from_hex(BYTES), BYTES_SIGNATURE),
            (ZURICH.as_bytes().to_vec(), ZURICH_SIGNATURE),
        ] {
            let (read, recovery_id) = read_signature(signature).expect("well formed");
            let key = VerifyingKey::recover_from_prehash(&hash(&message), &read, recovery_id);
            assert_eq!(address_of(&key.expect("a key")), ADDRESS);
            assert_eq!(sign(&hash(&message)), signature);
        }
        assert_eq!(verify(ADDRESS, HELLO, HELLO_SIGNATURE), Ok(()));
        assert_eq!(verify(ADDRESS, ZURICH, ZURICH_SIGNATURE), Ok(()));
    }

    #[test]
    fn both_notations_of_a_signature_are_accepted() {
        let digits = &HELLO_SIGNATURE[2..];
        let of_tronpy = format!("{}01", &digits[..128]);
        for signature in [digits, &of_tronpy, &format!("0x{of_tronpy}"), &digits.to_uppercase()] {
            assert_eq!(verify(ADDRESS, HELLO, signature), Ok(()), "{signature}");
        }
        // The other `v` recovers another key.
        for v in ["00", "1b"] {
            let signature = format!("{}{v}", &digits[..128]);
            let refused = verify(ADDRESS, HELLO, &signature);
            assert_eq!(refused, Err(SignatureError::AnotherAccount), "{v}");
        }
    }

    #[test]
    fn malformed_signatures_are_refused() {
        let digits = &HELLO_SIGNATURE[2..];
        let zero = "0".repeat(64);
        let order = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";
        for signature in [
            "",
            "0x",
            &digits[..128],
            &digits[..129],
            &format!("{digits}00"),
            &format!("{digits}0"),
            &format!("0x0x{digits}"),
            &format!(" {digits}"),
            &format!("0X{digits}"),
            &format!("{}g", &digits[..129]),
            &format!("{}é", &digits[..128]),
            &format!("{}02", &digits[..128]),
            &format!("{}1d", &digits[..128]),
            &format!("{zero}{}", &digits[64..]),
            &format!("{}{zero}1c", &digits[..64]),
            &format!("{order}{}", &digits[64..]),
            &format!("{}{order}1c", &digits[..64]),
        ] {
            let refused = verify(ADDRESS, HELLO, signature);
            assert_eq!(refused, Err(SignatureError::Malformed), "{signature:?}");
        }
    }

    #[test]
    fn signature_with_a_high_s_is_refused() {
        for (message, signature) in [(HELLO, HELLO_SIGNATURE), (ZURICH, ZURICH_SIGNATURE)] {
            let high = with_high_s(signature);
            assert_eq!(with_high_s(&high), signature);
            assert_eq!(verify(ADDRESS, message, &high), Err(SignatureError::HighS));
        }
    }

    #[test]
    fn signature_of_another_message_or_address_is_refused() {
        for (address, message) in [
            (ADDRESS, "hello world "),
            (ADDRESS, "Hello world"),
            (ADDRESS, ""),
            (OTHER_ADDRESS, HELLO),
            ("", HELLO),
            ("tmvqgm1qaqyvdetcegrrktwyyrlxuhk2hc", HELLO),
        ] {
            let refused = verify(address, message, HELLO_SIGNATURE);
            assert_eq!(refused, Err(SignatureError::AnotherAccount), "{address} {message:?}");
        }
    }

    #[test]
    fn signature_of_the_older_message_format_is_refused() {
        let older = Keccak256::new_with_prefix(HEADER).chain_update("32").chain_update(HELLO);
        let signature = sign(&older.finalize().into());
        let (read, _) = read_signature(&signature).expect("well formed");
        assert_eq!(read.normalize_s(), read);
        assert_eq!(verify(ADDRESS, HELLO, &signature), Err(SignatureError::AnotherAccount));
    }

    #[test]
    fn message_length_is_counted_in_bytes() {
        let by_characters =
            Keccak256::new_with_prefix(HEADER).chain_update("8").chain_update(ZURICH);
        let signature = sign(&by_characters.finalize().into());
        assert_eq!(verify(ADDRESS, ZURICH, &signature), Err(SignatureError::AnotherAccount));
    }
}
