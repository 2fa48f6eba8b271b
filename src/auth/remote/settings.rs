use std::{io, time::Duration};

use axum::http::Uri;

use crate::domain::api_key::ADMIN_PREFIX;

/// Bounds of a [`RemoteVerifier`](super::RemoteVerifier).
///
/// Begin with the default, and change what should differ:
///
/// ```
/// use std::time::Duration;
///
/// use tollgate::auth::RemoteSettings;
///
/// let mut settings = RemoteSettings::default();
/// settings.timeout = Duration::from_millis(500);
/// assert_eq!(settings.max_connections, 64);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct RemoteSettings {
    /// For a whole verification: its turn, its connection, its answer, and the second try.
    pub timeout: Duration,
    /// Verifications in flight at once, and connections that are kept; a further one waits for its
    /// turn. Zero counts as one.
    pub max_connections: u16,
}

impl Default for RemoteSettings {
    /// 2 seconds, 64 connections.
    fn default() -> Self {
        Self { timeout: Duration::from_secs(2), max_connections: 64 }
    }
}

/// Why a [`RemoteVerifier`](super::RemoteVerifier) cannot be created.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteVerifierError {
    /// The URL cannot be used. The text says why, without the URL itself, which may contain a
    /// password.
    #[error("the URL of the Tollgate {0}: it must be such as https://tollgate.example")]
    Url(&'static str),
    #[error("the admin key for the Tollgate does not begin with {prefix}", prefix = ADMIN_PREFIX)]
    /// The key is not an admin key, because its prefix is not [`ADMIN_PREFIX`].
    AdminKey,
    #[error("no root certificates can be read on this machine, and an https URL needs them")]
    /// The URL begins with `https://`, and no root certificate could be read. The source says why.
    RootCertificates(#[source] io::Error),
}

/// Where keys are verified, below the URL of a Tollgate.
pub(super) fn endpoint_below(url: &str) -> Result<Uri, RemoteVerifierError> {
    const UNREADABLE: RemoteVerifierError = RemoteVerifierError::Url("cannot be read");
    let base: Uri = url.parse().map_err(|_| UNREADABLE)?;
    let Some(("http" | "https", authority)) = base.scheme_str().zip(base.authority()) else {
        return Err(RemoteVerifierError::Url("does not begin with http:// or https://"));
    };
    if authority.as_str().contains('@') {
        return Err(RemoteVerifierError::Url("has a user name in it"));
    }
    if authority.host().is_empty() {
        return Err(RemoteVerifierError::Url("names no host"));
    }
    // A port that is none would be passed over, and that of the scheme taken.
    if authority.as_str() != authority.host() && authority.port_u16().is_none() {
        return Err(RemoteVerifierError::Url("has a port that is none"));
    }
    if url.contains(['?', '#']) {
        return Err(RemoteVerifierError::Url("has a query or a fragment"));
    }
    let path = format!("{}/v1/keys/verify", base.path().trim_end_matches('/'));
    let mut parts = base.into_parts();
    parts.path_and_query = Some(path.parse().map_err(|_| UNREADABLE)?);
    Uri::from_parts(parts).map_err(|_| UNREADABLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_endpoint_is_below_the_url() {
        for (url, endpoint) in [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080/v1/keys/verify"),
            ("https://tollgate.example", "https://tollgate.example/v1/keys/verify"),
            ("https://tollgate.example/", "https://tollgate.example/v1/keys/verify"),
            ("https://example.com/tollgate/", "https://example.com/tollgate/v1/keys/verify"),
            ("HTTP://[::1]:80", "http://[::1]:80/v1/keys/verify"),
        ] {
            let found = endpoint_below(url).expect("a good URL");
            assert_eq!(found.to_string(), endpoint);
        }
    }

    #[test]
    fn invalid_urls_are_refused_without_repeating_the_password() {
        for url in [
            "",
            "/",
            "tollgate.example",
            "tollgate.example:8080",
            "ftp://tollgate.example",
            "http://",
            "http:///v1",
            "http://:8080",
            "http://tollgate.example:",
            "http://tollgate.example:99999",
            "http://tollgate.example:http",
            "http://root:hunter2@tollgate.example",
            "http://tollgate.example?a=b",
            "http://tollgate.example/#a",
            "http://tollgate.example/a b",
            " http://tollgate.example",
        ] {
            let error = endpoint_below(url).expect_err(url).to_string();
            assert!(error.starts_with("the URL of the Tollgate "), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
