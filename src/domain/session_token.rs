//! Tokens of the dashboard. A token belongs to a session, a dashboard link, a sign-in, or a form
//! that can be submitted only once.
//!
//! A token is 32 bytes from a CSPRNG, written as 43 characters of unpadded base64url. The database
//! stores only the SHA-256 of the token, so that a reader of the database cannot use the token.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;
use zeroize::Zeroizing;

/// Number of characters of a token.
pub const TOKEN_LENGTH: usize = 43;

/// A token, as a browser sends it. It is well formed, but only the store knows whether it exists.
#[derive(Clone)]
pub struct SessionToken(Zeroizing<String>);

/// The text is not a token, because its length or its alphabet is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed token")]
pub struct MalformedToken;

impl SessionToken {
    /// Creates a token from 32 bytes, which must come from a CSPRNG.
    #[must_use]
    pub fn generate(random: &Zeroizing<[u8; 32]>) -> Self {
        // The buffer has its full size from the start, because growing it would leave behind a copy
        // that is not wiped.
        let mut text = Zeroizing::new(String::with_capacity(TOKEN_LENGTH));
        URL_SAFE_NO_PAD.encode_string(random.as_slice(), &mut text);
        Self(text)
    }

    /// Parses a token that a browser sent.
    ///
    /// # Errors
    ///
    /// [`MalformedToken`] unless the text is [`TOKEN_LENGTH`] characters of base64url.
    pub fn parse(text: &str) -> Result<Self, MalformedToken> {
        let in_alphabet = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if text.len() != TOKEN_LENGTH || !text.bytes().all(in_alphabet) {
            return Err(MalformedToken);
        }
        Ok(Self(Zeroizing::new(text.to_owned())))
    }

    /// Computes the SHA-256 of the token.
    #[must_use]
    pub fn hash(&self) -> TokenHash {
        TokenHash(Sha256::digest(self.0.as_bytes()).into())
    }

    /// Returns the plaintext, for a cookie, a link, a hidden field or a message to sign.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SessionToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionToken([redacted])")
    }
}

/// The SHA-256 of a token. The database stores this hash instead of the token.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// Returns the 32 bytes of the digest.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns the id of the session whose token has this hash.
    #[must_use]
    #[expect(clippy::missing_panics_doc, reason = "a hash of 32 bytes has a prefix of 16 bytes")]
    pub fn session_id(&self) -> SessionId {
        let (first, _) = self.0.split_first_chunk().expect("32 bytes have a prefix of 16 bytes");
        SessionId(Uuid::from_bytes(*first))
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash([redacted])")
    }
}

/// The id of a dashboard session: the first 16 bytes of its token's hash. It grants no access.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct SessionId(Uuid);

impl SessionId {
    /// Returns the 16 bytes as a UUID. Its version bits are arbitrary.
    #[must_use]
    pub fn uuid(self) -> Uuid {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_survives_a_round_trip_through_its_text() {
        let token = SessionToken::generate(&Zeroizing::new([0xfb; 32]));
        assert_eq!(token.expose().len(), TOKEN_LENGTH);
        assert_eq!(token.expose(), "-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_s");
        let parsed = SessionToken::parse(token.expose()).expect("its own text");
        assert_eq!(parsed.hash(), token.hash());
    }

    #[test]
    fn malformed_tokens_are_refused() {
        for text in ["", "a", &"a".repeat(42), &"a".repeat(44), &"+".repeat(43), &"é".repeat(43)] {
            assert!(SessionToken::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn hash_is_sha_256_of_the_text_and_debug_shows_no_secret() {
        let token = SessionToken::parse(&"A".repeat(TOKEN_LENGTH)).expect("well formed");
        let hash: [u8; 32] = Sha256::digest("A".repeat(TOKEN_LENGTH).as_bytes()).into();
        assert_eq!(token.hash().as_bytes(), &hash);
        assert_eq!(token.hash().session_id().uuid().as_bytes().as_slice(), &hash[..16]);
        assert_eq!(
            format!("{token:?} {:?}", token.hash()),
            "SessionToken([redacted]) TokenHash([redacted])"
        );
    }
}
