//! Web origins, and links back to them.
//!
//! This module decides whether a link is allowed, but a browser follows the link. For this reason,
//! the module refuses every text that a browser could parse differently, such as `\`, spaces, user
//! names, and other notations of a host.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
};

/// Maximum length of a return URL, in characters.
pub const MAX_RETURN_URL: usize = 2000;

/// `scheme://host[:port]` as browsers write it in the header `Origin`: in lower case, without the
/// default port of the scheme. The scheme is `https`, or `http` if the host is a loopback host.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct WebOrigin {
    text: Box<str>,
    is_secure: bool,
    is_loopback: bool,
}

/// An error from parsing a [`WebOrigin`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WebOriginError {
    /// The text contains no `://`, or the rest is not a host with an optional port.
    #[error(
        "must be an origin such as \"https://app.example.com\", without a user, path \
         or query, and with an international name in its ASCII form"
    )]
    Grammar,
    /// The scheme is neither `https` nor `http`, or it is `http` and the host is not a loopback
    /// host.
    #[error("must begin with https://, or with http:// on localhost, 127.0.0.0/8 or [::1]")]
    Insecure,
}

impl WebOrigin {
    /// Parses an origin. The result is in lower case and omits the default port of the scheme.
    ///
    /// # Errors
    ///
    /// [`WebOriginError::Grammar`] if the text is not `scheme://host[:port]`, and
    /// [`WebOriginError::Insecure`] if the scheme is not `https`, nor `http` with a loopback host.
    pub fn parse(text: &str) -> Result<Self, WebOriginError> {
        let (scheme, authority) = text.split_once("://").ok_or(WebOriginError::Grammar)?;
        let is_secure = match scheme {
            _ if scheme.eq_ignore_ascii_case("https") => true,
            _ if scheme.eq_ignore_ascii_case("http") => false,
            _ => return Err(WebOriginError::Insecure),
        };
        let (host, port) = split_port(authority).ok_or(WebOriginError::Grammar)?;
        let (host, is_loopback) = read_host(host).ok_or(WebOriginError::Grammar)?;
        if !is_secure && !is_loopback {
            return Err(WebOriginError::Insecure);
        }
        let scheme = if is_secure { "https" } else { "http" };
        let implied = if is_secure { 443 } else { 80 };
        let text = match port.filter(|port| *port != implied) {
            Some(port) => format!("{scheme}://{host}:{port}"),
            None => format!("{scheme}://{host}"),
        };
        Ok(Self { text: text.into(), is_secure, is_loopback })
    }

    /// Returns the origin as text, without a trailing slash.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the host, with the port unless it is the default of the scheme.
    #[must_use]
    pub fn host(&self) -> &str {
        let scheme = if self.is_secure { "https://" } else { "http://" };
        &self.text[scheme.len()..]
    }

    /// Whether the scheme is `https`.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// Whether the host is `localhost`, in 127.0.0.0/8, or `[::1]`.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.is_loopback
    }
}

impl fmt::Display for WebOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl serde::Serialize for WebOrigin {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

super::schema::named!(
    WebOrigin,
    "WebOrigin",
    super::schema::string(
        "An origin, such as `https://app.example.com`. `http` is only for a loopback host."
    )
    .examples(["https://app.example.com"])
);

/// The target of a link from the dashboard back to the platform: an absolute URL of visible ASCII
/// characters. Before it is normalised, it has at most [`MAX_RETURN_URL`] characters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReturnUrl {
    text: Box<str>,
    origin: WebOrigin,
}

/// An error from parsing a [`ReturnUrl`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReturnUrlError {
    /// The text is longer than [`MAX_RETURN_URL`].
    #[error("must have at most 2000 characters")]
    Length,
    /// The text contains a character other than visible ASCII or a `\`, or lacks a `://`.
    #[error("must be an absolute URL of visible ASCII without \\. Percent-encode other characters")]
    Grammar,
    /// The part before the path contains an `@`, so it contains a user name or a password.
    #[error("must not contain a user name or a password")]
    Credentials,
    /// The part before the path is not a [`WebOrigin`].
    #[error(transparent)]
    Origin(#[from] WebOriginError),
}

impl ReturnUrl {
    /// Parses a URL. The origin is normalised as in [`WebOrigin::parse`], and an empty path becomes
    /// `/`. The rest stays unchanged.
    ///
    /// # Errors
    ///
    /// [`ReturnUrlError`], whose variants describe the cases.
    pub fn parse(text: &str) -> Result<Self, ReturnUrlError> {
        if text.len() > MAX_RETURN_URL {
            return Err(ReturnUrlError::Length);
        }
        // Browsers drop tabs and line feeds, and treat \ as /.
        if !text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\') {
            return Err(ReturnUrlError::Grammar);
        }
        let (scheme, rest) = text.split_once("://").ok_or(ReturnUrlError::Grammar)?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        if authority.contains('@') {
            return Err(ReturnUrlError::Credentials);
        }
        let origin = WebOrigin::parse(&format!("{scheme}://{authority}"))?;
        let slash = if rest.starts_with('/') { "" } else { "/" };
        Ok(Self { text: format!("{origin}{slash}{rest}").into(), origin })
    }

    /// Returns the whole URL, with its origin normalised.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the origin of the URL. Before you send a browser to it, check that it is one of the
    /// platform's origins.
    #[must_use]
    pub fn origin(&self) -> &WebOrigin {
        &self.origin
    }
}

impl fmt::Display for ReturnUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

super::schema::named!(
    ReturnUrl,
    "ReturnUrl",
    super::schema::formatted("uri", "An absolute URL of one of the platform's origins.")
        .max_length(Some(MAX_RETURN_URL))
);

fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    // In an IPv6 address, the search for the port starts after the closing bracket.
    let after_host = authority.rfind(']').map_or(0, |bracket| bracket + 1);
    let Some(colon) = authority[after_host..].find(':').map(|colon| after_host + colon) else {
        return Some((authority, None));
    };
    let digits = &authority[colon + 1..];
    let is_number = (1..=5).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    let port = digits.parse::<u16>().ok().filter(|port| is_number && *port != 0)?;
    Some((&authority[..colon], Some(port)))
}

/// Parses a host. Returns it as browsers write it, and whether it is a loopback host.
fn read_host(host: &str) -> Option<(String, bool)> {
    if let Some(address) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        let address: Ipv6Addr = address.parse().ok()?;
        // Browsers write IPv4-mapped addresses in hexadecimal. This parser refuses them, because
        // nobody needs them.
        let mapped = address.to_ipv4_mapped().is_some();
        return (!mapped).then(|| (format!("[{address}]"), address.is_loopback()));
    }
    let host = host.to_ascii_lowercase();
    let last = host.rsplit('.').next().unwrap_or_default();
    if last.starts_with(|first: char| first.is_ascii_digit()) {
        // A browser treats a host whose last label is a number as an IPv4 address. Only the
        // dotted-decimal notation is accepted.
        let address: Ipv4Addr = host.parse().ok()?;
        return Some((host, address.is_loopback()));
    }
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    let is_name = host.len() <= 253 && host.split('.').all(is_label);
    let is_loopback = host == "localhost";
    is_name.then_some((host, is_loopback))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_normalised_as_browsers_write_them() {
        for (text, shown, host) in [
            ("https://app.example.com", "https://app.example.com", "app.example.com"),
            ("HTTPS://App.Example.COM:443", "https://app.example.com", "app.example.com"),
            ("https://a.example:8443", "https://a.example:8443", "a.example:8443"),
            ("https://a.example:80", "https://a.example:80", "a.example:80"),
            ("http://localhost:80", "http://localhost", "localhost"),
            ("http://127.1.2.3:8080", "http://127.1.2.3:8080", "127.1.2.3:8080"),
            ("http://[0:0::1]:09", "http://[::1]:9", "[::1]:9"),
            ("https://[2001:DB8::1]", "https://[2001:db8::1]", "[2001:db8::1]"),
            (
                "https://xn--mnchen-3ya.example",
                "https://xn--mnchen-3ya.example",
                "xn--mnchen-3ya.example",
            ),
        ] {
            let origin = WebOrigin::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!((origin.as_str(), origin.host()), (shown, host));
            assert_eq!(origin.is_secure(), shown.starts_with("https"));
            assert_eq!(WebOrigin::parse(shown), Ok(origin));
        }
    }

    #[test]
    fn malformed_origins_are_refused() {
        let long = format!("https://{}.example", "a".repeat(64));
        for text in [
            "",
            "https",
            "https://",
            "https://a.example/",
            "https://a.example/path",
            "https://a.example?q",
            "https://a.example#f",
            "https://user@a.example",
            "https://a.example:",
            "https://a.example:0",
            "https://a.example:65536",
            "https://a.example:+1",
            "https://a.example:1:2",
            "https://a..example",
            "https://a.example.",
            "https://-a.example",
            "https://a_b.example",
            "https://a b.example",
            "https://münchen.example",
            "https://*.example.com",
            "https://1.2.3",
            "https://0x7f.0x1",
            "https://010.0.0.1",
            "https://[::ffff:1.2.3.4]",
            "https://[::1",
            "https://::1",
            "https://a.example, https://b.example",
            &long,
        ] {
            assert_eq!(WebOrigin::parse(text), Err(WebOriginError::Grammar), "{text:?}");
        }
    }

    #[test]
    fn http_is_accepted_only_for_loopback_hosts() {
        for text in [
            "http://a.example",
            "http://localhost.example",
            "http://128.0.0.1",
            "http://[::2]",
            "ftp://a.example",
            "javascript://a.example",
        ] {
            assert_eq!(WebOrigin::parse(text), Err(WebOriginError::Insecure), "{text:?}");
        }
        for text in ["http://localhost", "http://127.0.0.1", "http://[::1]"] {
            assert!(WebOrigin::parse(text).expect(text).is_loopback());
        }
        assert!(!WebOrigin::parse("https://a.example").expect("good").is_loopback());
    }

    #[test]
    fn return_urls_are_normalised_and_have_an_origin() {
        for (text, shown, origin) in [
            ("https://A.example", "https://a.example/", "https://a.example"),
            ("https://a.example:443/x?y=z#w", "https://a.example/x?y=z#w", "https://a.example"),
            ("https://a.example?next=@b", "https://a.example/?next=@b", "https://a.example"),
            ("http://localhost:3000/%20//", "http://localhost:3000/%20//", "http://localhost:3000"),
        ] {
            let url = ReturnUrl::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!((url.as_str(), url.origin().as_str()), (shown, origin));
            assert_eq!(ReturnUrl::parse(shown), Ok(url));
        }
    }

    #[test]
    fn ambiguous_and_insecure_return_urls_are_refused() {
        let long = format!("https://a.example/{}", "a".repeat(MAX_RETURN_URL));
        let insecure = ReturnUrlError::Origin(WebOriginError::Insecure);
        let grammar = ReturnUrlError::Origin(WebOriginError::Grammar);
        for (text, error) in [
            (long.as_str(), ReturnUrlError::Length),
            ("/path", ReturnUrlError::Grammar),
            ("//a.example", ReturnUrlError::Grammar),
            ("javascript:alert(1)", ReturnUrlError::Grammar),
            ("https://a.example\\@b.example", ReturnUrlError::Grammar),
            ("https://a.example/\n", ReturnUrlError::Grammar),
            ("https://a.example/ü", ReturnUrlError::Grammar),
            ("https://a.example@b.example/", ReturnUrlError::Credentials),
            ("https://u:p@a.example/", ReturnUrlError::Credentials),
            ("javascript://a.example/%0aalert(1)", insecure),
            ("http://a.example/", insecure),
            ("https:///a.example", grammar),
            ("https://a.example;b.example/", grammar),
        ] {
            assert_eq!(ReturnUrl::parse(text), Err(error), "{text:?}");
        }
    }
}
