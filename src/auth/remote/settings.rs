use std::{io, time::Duration};

use axum::http::Uri;

use crate::domain::api_key::ADMIN_PREFIX;

/// Limits of a [`RemoteVerifier`](super::RemoteVerifier).
///
/// Start with the default, and change the fields that should differ:
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
    /// Time limit of one verification, including the wait for a connection and one retry.
    pub timeout: Duration,
    /// Maximum number of verifications in flight, and of idle connections. Further verifications
    /// wait. Zero counts as one.
    pub max_connections: u16,
}

impl Default for RemoteSettings {
    /// Returns settings with a timeout of 2 seconds and at most 64 connections.
    fn default() -> Self {
        Self { timeout: Duration::from_secs(2), max_connections: 64 }
    }
}

/// The reason why a [`RemoteVerifier`](super::RemoteVerifier) cannot be created.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteVerifierError {
    /// The URL is not usable. The message gives the reason without quoting the URL, which may
    /// contain a password.
    #[error("the URL of the Tollgate server {0}. Use a URL such as https://tollgate.example")]
    Url(&'static str),
    #[error("the admin key does not begin with {prefix}", prefix = ADMIN_PREFIX)]
    /// The key is not an admin key, because its prefix is not [`ADMIN_PREFIX`].
    AdminKey,
    #[error("an https URL needs root certificates, but this machine has none that can be read")]
    /// The URL begins with `https://`, and no root certificate could be read. The error's `source`
    /// is the cause.
    RootCertificates(#[source] io::Error),
}

/// Appends the path of the verification route to the URL of a Tollgate server.
pub(super) fn endpoint_below(url: &str) -> Result<Uri, RemoteVerifierError> {
    const UNREADABLE: RemoteVerifierError = RemoteVerifierError::Url("is malformed");
    let base: Uri = url.parse().map_err(|_| UNREADABLE)?;
    let Some(("http" | "https", authority)) = base.scheme_str().zip(base.authority()) else {
        return Err(RemoteVerifierError::Url("does not begin with http:// or https://"));
    };
    if authority.as_str().contains('@') {
        return Err(RemoteVerifierError::Url("contains a user name"));
    }
    if authority.host().is_empty() {
        return Err(RemoteVerifierError::Url("has no host"));
    }
    // `Uri` would ignore an invalid port and use the default port of the scheme.
    if authority.as_str() != authority.host() && authority.port_u16().is_none() {
        return Err(RemoteVerifierError::Url("has an invalid port"));
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
    fn path_of_the_verification_route_is_appended_to_the_url() {
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
            assert!(error.starts_with("the URL of the Tollgate server "), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
