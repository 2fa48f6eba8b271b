use axum::http::{HeaderMap, HeaderName, HeaderValue, header::AUTHORIZATION};

use crate::domain::api_key::KeyText;

/// The API key of a request, from either header. The key is well formed, but not verified yet.
#[derive(Debug)]
pub struct Credentials(KeyText);

/// The reason why the headers of a request yield no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CredentialsError {
    /// The headers contain no key. They are absent or empty, or the scheme of `Authorization` is
    /// not Bearer.
    Missing,
    /// The headers contain two or more different keys. The gate uses none of them, because the
    /// caller's intention is unclear.
    Conflicting,
    /// The headers contain one value, and [`KeyText::parse`] refuses it.
    Malformed,
}

impl Credentials {
    /// Reads the key from `header` and `Authorization: Bearer`. Both may contain the same key. The
    /// query string is never read.
    ///
    /// # Errors
    ///
    /// [`CredentialsError`] if these headers contain no key, different keys, or text that is not a
    /// key.
    pub fn read(headers: &HeaderMap, header: &HeaderName) -> Result<Self, CredentialsError> {
        let own = headers.get_all(header).iter().map(HeaderValue::as_bytes);
        Self::only(own.chain(bearer_tokens(headers)))
    }

    /// Reads the key from `header` alone.
    ///
    /// # Errors
    ///
    /// [`CredentialsError`] if the header contains no key, different keys, or text that is not a
    /// key.
    pub fn read_header(headers: &HeaderMap, header: &HeaderName) -> Result<Self, CredentialsError> {
        Self::only(headers.get_all(header).iter().map(HeaderValue::as_bytes))
    }

    /// Reads the key from `Authorization: Bearer` alone.
    ///
    /// # Errors
    ///
    /// [`CredentialsError`] if the header contains no key, different keys, or text that is not a
    /// key.
    pub fn read_bearer(headers: &HeaderMap) -> Result<Self, CredentialsError> {
        Self::only(bearer_tokens(headers))
    }

    /// Returns the well-formed key, for a verifier to look up.
    #[must_use]
    pub fn into_key(self) -> KeyText {
        self.0
    }

    fn only<'a>(texts: impl Iterator<Item = &'a [u8]>) -> Result<Self, CredentialsError> {
        let mut texts = texts.filter(|text| !text.is_empty());
        let first = texts.next().ok_or(CredentialsError::Missing)?;
        if texts.any(|other| other != first) {
            return Err(CredentialsError::Conflicting);
        }
        let text = std::str::from_utf8(first).map_err(|_| CredentialsError::Malformed)?;
        KeyText::parse(text).map(Self).map_err(|_| CredentialsError::Malformed)
    }
}

/// Returns the tokens of all `Authorization` headers with the scheme Bearer, in any case (RFC 9110
/// §11.1).
fn bearer_tokens(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    headers.get_all(AUTHORIZATION).iter().filter_map(|value| {
        let (scheme, token) = value.as_bytes().split_at_checked(6)?;
        let rest = token.trim_ascii_start();
        // "Bearerish" is a different scheme.
        let separated = rest.is_empty() || rest.len() < token.len();
        (scheme.eq_ignore_ascii_case(b"bearer") && separated).then_some(rest)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ta_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    const OTHER: &str = "ta_BAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    fn read(headers: &[(&'static str, &[u8])]) -> Result<String, CredentialsError> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_bytes(value).expect("a header value"));
        }
        Credentials::read(&map, &HeaderName::from_static("x-api-key"))
            .map(|credentials| credentials.into_key().expose().to_owned())
    }

    #[test]
    fn key_is_read_from_either_header() {
        let bearer = |scheme: &str| format!("{scheme} {KEY}").into_bytes();
        assert_eq!(read(&[("x-api-key", KEY.as_bytes())]).as_deref(), Ok(KEY));
        for scheme in ["Bearer", "bearer", "BEARER", "Bearer  "] {
            assert_eq!(read(&[("authorization", &bearer(scheme))]).as_deref(), Ok(KEY));
        }
        let both = [("x-api-key", KEY.as_bytes()), ("authorization", &bearer("Bearer")[..])];
        assert_eq!(read(&both).as_deref(), Ok(KEY));
        let basic = [("x-api-key", KEY.as_bytes()), ("authorization", b"Basic YTpi")];
        assert_eq!(read(&basic).as_deref(), Ok(KEY));
    }

    #[test]
    fn two_different_keys_are_refused() {
        let other = format!("Bearer {OTHER}").into_bytes();
        for headers in [
            [("x-api-key", KEY.as_bytes()), ("x-api-key", OTHER.as_bytes())],
            [("x-api-key", KEY.as_bytes()), ("authorization", &other[..])],
        ] {
            assert_eq!(read(&headers), Err(CredentialsError::Conflicting));
        }
    }

    #[test]
    fn missing_and_malformed_keys_are_different_errors() {
        let authorization: [&[u8]; 4] = [b"Bearer", b"Bearer ", b"Basic YTpi", b"Bearerta_ x"];
        assert_eq!(read(&[]), Err(CredentialsError::Missing));
        assert_eq!(read(&[("x-api-key", b"")]), Err(CredentialsError::Missing));
        for value in authorization {
            assert_eq!(read(&[("authorization", value)]), Err(CredentialsError::Missing));
        }
        for value in [&b"ta_short"[..], b"\xff\xfe", &KEY.as_bytes()[..45]] {
            assert_eq!(read(&[("x-api-key", value)]), Err(CredentialsError::Malformed));
        }
    }
}
