//! Idempotency keys and fingerprints, with which a request and its retries take effect only once.
//!
//! Follows draft-ietf-httpapi-idempotency-key-header-07. The value of the header is a
//! structured-field string (`"abc"`), but many clients send it without quotes (`abc`). Both mean
//! the same key.

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{canonical_json, text_enum::text_enum};

/// The key that a client chooses so that its retries have no further effect. It has 1 to 128
/// visible ASCII characters, not counting the quotes of the header.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct IdempotencyKey(Box<str>);

/// The text is not an [`IdempotencyKey`]. Its length is wrong, it contains a character other than
/// visible ASCII, or the quotes or escapes are wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an idempotency key has 1 to 128 visible ASCII characters without spaces, quoted or bare")]
pub struct IdempotencyKeyError;

impl IdempotencyKey {
    /// Maximum number of characters, without quotes.
    pub const MAX_LENGTH: usize = 128;

    /// Parses the value of the header `Idempotency-Key`, with or without quotes. Surrounding spaces
    /// and tabs are ignored.
    ///
    /// # Errors
    ///
    /// [`IdempotencyKeyError`] if the quotes or escapes are wrong, or if the key itself is
    /// malformed.
    pub fn parse_header(value: &str) -> Result<Self, IdempotencyKeyError> {
        let value = value.trim_matches([' ', '\t']);
        match value.strip_prefix('"') {
            Some(rest) => Self::parse(&unquote(rest).ok_or(IdempotencyKeyError)?),
            None => Self::parse(value),
        }
    }

    /// Parses a key without quotes, as in JSON bodies and in the database.
    ///
    /// # Errors
    ///
    /// [`IdempotencyKeyError`] if the text is not 1 to 128 visible ASCII characters.
    pub fn parse(text: &str) -> Result<Self, IdempotencyKeyError> {
        let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
        if visible && (1..=Self::MAX_LENGTH).contains(&text.len()) {
            Ok(Self(text.into()))
        } else {
            Err(IdempotencyKeyError)
        }
    }

    /// Returns the key without quotes.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

super::schema::named!(
    IdempotencyKey,
    "IdempotencyKey",
    super::schema::string("Visible ASCII characters without spaces.")
        .pattern(Some("^[!-~]+$"))
        .min_length(Some(1))
        .max_length(Some(IdempotencyKey::MAX_LENGTH))
);

text_enum! {
    /// The operation of an idempotency key. Each operation has separate keys, so an account's
    /// idempotency key for a purchase cannot conflict with the tenant's idempotency key for a
    /// credit.
    pub enum IdempotentOperation {
        /// Spends a part of an account's balance.
        Purchase = "purchase",
        /// Reserves a part of an account's balance.
        Hold = "hold",
        /// Tops up an account's balance.
        Credit = "credit",
        /// Pays back a purchase or a part of it.
        Refund = "refund",
    }
}

/// Parses the rest of a structured-field string after its first quote (RFC 9651 §4.2.5).
fn unquote(rest: &str) -> Option<String> {
    let mut text = String::with_capacity(rest.len());
    let mut characters = rest.chars();
    loop {
        match characters.next()? {
            '"' => return characters.next().is_none().then_some(text),
            '\\' => match characters.next()? {
                escaped @ ('"' | '\\') => text.push(escaped),
                _ => return None,
            },
            character => text.push(character),
        }
    }
}

/// SHA-256 of a request's operation and canonical body. A retry has the same fingerprint as the
/// first request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Computes the fingerprint of a request. The order of the members of `body` does not matter.
    /// `operation` distinguishes requests of different operations that have the same body.
    #[must_use]
    pub fn of(operation: IdempotentOperation, body: &Value) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(operation.as_str().as_bytes());
        hasher.update(b"\n");
        hasher.update(canonical_json::to_string(body).as_bytes());
        Self(hasher.finalize().into())
    }

    /// Restores a stored fingerprint. Returns `None` if the number of bytes is not 32.
    #[must_use]
    pub fn from_stored(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Returns the 32 bytes of the fingerprint, which the database stores.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn quoted_and_bare_values_are_the_same_key() {
        let bare = IdempotencyKey::parse_header("abc-1").expect("good");
        assert_eq!(IdempotencyKey::parse_header("\"abc-1\""), Ok(bare.clone()));
        assert_eq!(IdempotencyKey::parse_header(" abc-1 "), Ok(bare));
        assert_eq!(IdempotencyKey::parse_header(r#""a\"\\""#).expect("good").as_str(), r#"a"\"#);
    }

    #[test]
    fn malformed_keys_are_refused() {
        let long = "a".repeat(129);
        for value in ["", "\"\"", "\"", "\"a", "\"a\"b", "a b", "\"a b\"", r#""a\b""#, "é", &long]
        {
            assert_eq!(IdempotencyKey::parse_header(value), Err(IdempotencyKeyError), "{value:?}");
        }
    }

    #[test]
    fn fingerprint_depends_on_operation_and_values_but_not_on_member_order() {
        use IdempotentOperation::{Credit, Purchase};
        let purchase = Fingerprint::of(Purchase, &json!({"amount": 1, "reference": "a"}));
        assert_eq!(purchase, Fingerprint::of(Purchase, &json!({"reference": "a", "amount": 1})));
        assert_ne!(purchase, Fingerprint::of(Purchase, &json!({"reference": "a", "amount": 2})));
        assert_ne!(purchase, Fingerprint::of(Credit, &json!({"amount": 1, "reference": "a"})));
    }
}
