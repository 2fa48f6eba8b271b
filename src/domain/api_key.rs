//! The plaintext of an API key, the hash that the database stores, and the hint that people see.
//!
//! A key is a prefix followed by 43 characters of unpadded base64url: 32 bytes from a CSPRNG.
//! Plaintext ([`KeyText`]), digest ([`KeyHash`]) and hint ([`KeyHint`]) are different types, so
//! that none can be used in place of another. `Debug` never shows the plaintext, and dropping a
//! [`KeyText`] wipes its memory.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// Number of characters in the body of a key, which is 32 bytes in unpadded base64url.
pub const BODY_LENGTH: usize = 43;

/// Maximum number of characters of a prefix.
pub const MAX_PREFIX_LENGTH: usize = 16;

/// The prefix of every admin key. A tenant's prefix must not be confusable with it.
pub const ADMIN_PREFIX: &str = "tg_admin_";

/// The beginning of a key. It shows which tenant issued the key, and for which environment.
///
/// A prefix has 2 to 16 characters and matches `^[a-z][a-z0-9]*(_[a-z0-9]+)*_$`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct KeyPrefix(Box<str>);

/// An error from parsing the prefix of a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PrefixError {
    /// The text does not follow the grammar of a [`KeyPrefix`].
    #[error(
        "a prefix has 2 to 16 characters: groups of lowercase letters and digits, each followed by \
         one underscore, and the first character is a letter, such as ta_ or tt_live_"
    )]
    Grammar,
    /// The text begins with [`ADMIN_PREFIX`], or [`ADMIN_PREFIX`] begins with the text.
    #[error(
        "tg_admin_ is reserved for admin keys. A prefix must neither begin with it nor be its \
         beginning"
    )]
    Reserved,
}

impl KeyPrefix {
    /// Parses the prefix of a tenant.
    ///
    /// # Errors
    ///
    /// [`PrefixError::Grammar`] if the text is not a prefix, and [`PrefixError::Reserved`] if keys
    /// with this prefix could be confused with admin keys.
    pub fn parse(text: &str) -> Result<Self, PrefixError> {
        if !is_prefix(text) {
            return Err(PrefixError::Grammar);
        }
        if ADMIN_PREFIX.starts_with(text) || text.starts_with(ADMIN_PREFIX) {
            return Err(PrefixError::Reserved);
        }
        Ok(Self(text.into()))
    }

    /// Returns the prefix of the admin keys.
    #[must_use]
    pub fn admin() -> Self {
        Self(ADMIN_PREFIX.into())
    }

    /// Returns the prefix with its final `_`, such as `ta_`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_prefix(text: &str) -> bool {
    let Some(groups) = text.strip_suffix('_') else {
        return false;
    };
    text.len() <= MAX_PREFIX_LENGTH
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && groups.split('_').all(|group| {
            !group.is_empty()
                && group.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        })
}

/// The plaintext of a key, which is the secret that its owner sends.
///
/// The plaintext is well formed, but the key may not exist. A verifier has to look it up.
///
/// ```
/// use tollgate::domain::api_key::KeyText;
///
/// let key = KeyText::parse("ta_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")?;
/// assert_eq!(key.prefix(), "ta_");
/// assert_eq!(key.hint().as_str(), "ta_AAAA…AAAA");
/// assert_eq!(format!("{key:?}"), "KeyText(ta_[redacted])");
///
/// assert!(KeyText::parse("ta_short").is_err());
/// # Ok::<(), tollgate::domain::api_key::MalformedKey>(())
/// ```
#[derive(Clone)]
pub struct KeyText {
    text: Zeroizing<String>,
    prefix_length: usize,
}

/// The text cannot be a key, because its length, its alphabet or the grammar of its prefix is
/// wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed key")]
pub struct MalformedKey;

impl KeyText {
    /// Creates a key from 32 bytes, which must come from a CSPRNG.
    #[must_use]
    pub fn generate(prefix: &KeyPrefix, random: &Zeroizing<[u8; 32]>) -> Self {
        let prefix_length = prefix.0.len();
        // The buffer has its full size from the start, because growing it would leave behind a copy
        // that is not wiped.
        let mut text = Zeroizing::new(String::with_capacity(prefix_length + BODY_LENGTH));
        text.push_str(&prefix.0);
        URL_SAFE_NO_PAD.encode_string(random.as_slice(), &mut text);
        Self { text, prefix_length }
    }

    /// Parses a key that a client presented: a prefix and 43 characters of base64url. Any final
    /// character of the alphabet is accepted, although issued keys end with one of only 16.
    ///
    /// # Errors
    ///
    /// [`MalformedKey`] if the length, the alphabet or the grammar of the prefix is wrong.
    pub fn parse(text: &str) -> Result<Self, MalformedKey> {
        let prefix_length = text.len().checked_sub(BODY_LENGTH).ok_or(MalformedKey)?;
        let (prefix, body) = text.split_at_checked(prefix_length).ok_or(MalformedKey)?;
        let in_alphabet = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if !is_prefix(prefix) || !body.bytes().all(in_alphabet) {
            return Err(MalformedKey);
        }
        Ok(Self { text: Zeroizing::new(text.to_owned()), prefix_length })
    }

    /// Returns the prefix with its final `_`. The prefix may belong to no tenant, and it may be
    /// [`ADMIN_PREFIX`].
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.text[..self.prefix_length]
    }

    /// Computes the SHA-256 of the whole key, including the prefix.
    #[must_use]
    pub fn hash(&self) -> KeyHash {
        KeyHash(Sha256::digest(self.text.as_bytes()).into())
    }

    /// Returns the hint, which people may see.
    #[must_use]
    pub fn hint(&self) -> KeyHint {
        let body = &self.text[self.prefix_length..];
        KeyHint(format!("{}{}…{}", self.prefix(), &body[..4], &body[BODY_LENGTH - 4..]))
    }

    /// Returns the plaintext. Call this only to show a new key to its owner, or to send the key in
    /// a request.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for KeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyText({}[redacted])", self.prefix())
    }
}

/// The SHA-256 of a key, 32 bytes. The database stores this hash instead of the key.
///
/// ```
/// use tollgate::domain::api_key::{KeyHash, KeyText};
///
/// let key = KeyText::parse("ta_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")?;
/// let stored: [u8; 32] = *key.hash().as_bytes();
///
/// assert_eq!(KeyHash::from_bytes(stored), key.hash());
/// assert_eq!(format!("{:?}", key.hash()), "KeyHash([redacted])");
/// # Ok::<(), tollgate::domain::api_key::MalformedKey>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    /// Restores a stored hash from the bytes that [`Self::as_bytes`] returned.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the 32 bytes of the hash, which the database stores.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns the tag that nodes use to announce a change to the key.
    #[must_use]
    #[expect(clippy::missing_panics_doc, reason = "32 bytes have a prefix of 8 bytes")]
    pub fn tag(&self) -> KeyTag {
        let (first, _) = self.0.split_first_chunk().expect("32 bytes have a prefix of 8 bytes");
        KeyTag(u64::from_be_bytes(*first))
    }
}

/// The first eight bytes of a key's hash. Nodes use it to notify each other that a key changed. If
/// two keys share a tag, a node looks both up again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct KeyTag(u64);

impl KeyTag {
    /// Restores a tag that another node sent, from the number that [`Self::bits`] returned.
    #[must_use]
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// Returns the eight bytes as a big-endian number.
    #[must_use]
    pub fn bits(self) -> u64 {
        self.0
    }
}

/// Writes sixteen hexadecimal digits.
impl fmt::Display for KeyTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash([redacted])")
    }
}

/// The prefix, the first four characters of the body, `…`, and the last four characters. The hint
/// helps people to distinguish keys, but does not reveal the other 35 characters of the body.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyHint(String);

impl KeyHint {
    /// Returns the hint, such as `ta_BwcH…HBwc`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn prefix(text: &str) -> KeyPrefix {
        KeyPrefix::parse(text).expect("a good prefix")
    }

    #[test]
    fn key_with_the_prefix_ta_has_46_characters() {
        let key = KeyText::generate(&prefix("ta_"), &Zeroizing::new([7; 32]));
        assert_eq!(key.expose().len(), 46);
        assert_eq!(key.prefix(), "ta_");
        assert_eq!(key.hint().as_str(), "ta_BwcH…HBwc");
    }

    #[test]
    fn hash_is_sha_256_of_the_whole_key() {
        let text = format!("ta_{}", "A".repeat(43));
        let hash = KeyText::parse(&text).expect("well formed").hash();
        assert_eq!(hash.as_bytes(), &<[u8; 32]>::from(Sha256::digest(text.as_bytes())));
    }

    #[test]
    fn debug_shows_no_secret() {
        let key = KeyText::generate(&prefix("tt_live_"), &Zeroizing::new([9; 32]));
        let shown = format!("{key:?} {:?}", key.hash());
        assert_eq!(shown, "KeyText(tt_live_[redacted]) KeyHash([redacted])");
    }

    #[test]
    fn malformed_keys_are_refused() {
        let body = "a".repeat(43);
        for text in [
            String::new(),
            body.clone(),
            "ta_".into(),
            format!("ta_{}", &body[1..]),
            format!("ta_{}", "a".repeat(40)),
            format!("ta_{body}a"),
            format!("Ta_{body}"),
            format!("ta{body}"),
            format!("_{body}"),
            format!("ta__{body}"),
            format!("1a_{body}"),
            format!("ta_{}+", &body[1..]),
            format!("ta_{}=", &body[1..]),
            format!("ta_{}é", &body[2..]),
            format!("é_{body}"),
            format!(" ta_{body}"),
            format!("abcdefghijklmnop_{body}"),
        ] {
            assert_eq!(KeyText::parse(&text).err(), Some(MalformedKey), "{text:?}");
        }
    }

    #[test]
    fn any_final_character_of_the_alphabet_is_accepted() {
        for last in ('a'..='z').chain('A'..='Z').chain('0'..='9').chain(['-', '_']) {
            KeyText::parse(&format!("ta_{}{last}", "a".repeat(42))).expect("well formed");
        }
    }

    #[test]
    fn prefixes_follow_the_grammar() {
        for good in ["a_", "ta_", "tt_live_", "t2_x9_", "abcdefghijklmno_"] {
            assert!(KeyPrefix::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "_", "ta", "Ta_", "2a_", "_ta_", "ta__", "t-a_", "abcdefghijklmnop_"] {
            assert_eq!(KeyPrefix::parse(bad), Err(PrefixError::Grammar), "{bad}");
        }
        for reserved in ["tg_", "tg_admin_", "tg_admin_x_"] {
            assert_eq!(KeyPrefix::parse(reserved), Err(PrefixError::Reserved), "{reserved}");
        }
    }

    proptest! {
        #[test]
        fn generated_key_parses_to_the_same_hash(random: [u8; 32]) {
            let key = KeyText::generate(&prefix("tt_live_"), &Zeroizing::new(random));
            let parsed = KeyText::parse(key.expose()).expect("generated keys are well formed");
            prop_assert_eq!(parsed.hash(), key.hash());
            prop_assert_eq!(parsed.prefix(), "tt_live_");
        }

        #[test]
        fn parsing_never_panics(text in "\\PC{0,80}") {
            let _ = KeyText::parse(&text);
        }
    }
}
