//! The cookies of the dashboard: for the session, for the browser during a sign-in, and for the
//! platform at which the visitor last signed in.

use axum::http::{HeaderMap, HeaderValue};

use crate::{
    domain::{
        session_token::SessionToken,
        tenant::{Environment, Slug, Tenant},
    },
    web::cookies::{cookie, value_of},
};

/// Lifetime of the sign-in cookie in seconds: twice the lifetime of a nonce.
const SIGN_IN_SECONDS: u32 = 600;

/// Lifetime in seconds of the cookie that names the last platform: 30 days.
const LAST_SECONDS: u32 = 30 * 24 * 60 * 60;

/// A cookie that contains a token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cookie {
    /// Lasts until the browser is closed. The store decides when the session ends.
    Session,
    SignIn,
}

impl Cookie {
    /// Returns the name of the cookie. With the prefix `__Host-`, no other host and no plain
    /// connection can set the cookie. The prefix requires `Secure`, which is impossible on a
    /// loopback address without TLS.
    fn name(self, secure: bool) -> &'static str {
        match (self, secure) {
            (Self::Session, true) => "__Host-tollgate_session",
            (Self::Session, false) => "tollgate_session",
            (Self::SignIn, true) => "__Host-tollgate_sign_in",
            (Self::SignIn, false) => "tollgate_sign_in",
        }
    }

    /// Returns the token that the browser sent, or `None` if it sent two different tokens.
    pub fn read(self, headers: &HeaderMap, secure: bool) -> Option<SessionToken> {
        SessionToken::parse(value_of(self.name(secure), headers)?).ok()
    }

    /// Returns the header value that sets the cookie.
    pub fn set(self, token: &SessionToken, secure: bool) -> HeaderValue {
        let max_age = match self {
            Self::Session => None,
            Self::SignIn => Some(SIGN_IN_SECONDS),
        };
        let mut cookie = cookie(self.name(secure), token.expose(), max_age, secure);
        cookie.set_sensitive(true);
        cookie
    }

    /// Returns the header value that deletes the cookie.
    pub fn clear(self, secure: bool) -> HeaderValue {
        cookie(self.name(secure), "", Some(0), secure)
    }
}

/// The platform of the last sign-in. The cookie is not secret. Anyone can set it, so its content is
/// validated like a path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LastSignIn {
    pub slug: Slug,
    pub environment: Environment,
}

impl LastSignIn {
    pub fn at(tenant: &Tenant) -> Self {
        Self { slug: tenant.slug.clone(), environment: tenant.environment }
    }

    fn name(secure: bool) -> &'static str {
        if secure { "__Host-tollgate_last" } else { "tollgate_last" }
    }

    /// Returns the platform that the browser remembers, if its name is well-formed.
    pub fn read(headers: &HeaderMap, secure: bool) -> Option<Self> {
        let (environment, slug) = value_of(Self::name(secure), headers)?.split_once('.')?;
        Some(Self { slug: slug.parse().ok()?, environment: environment.parse().ok()? })
    }

    /// Returns the header value that sets the cookie.
    pub fn set(&self, secure: bool) -> HeaderValue {
        let value = format!("{}.{}", self.environment.as_str(), self.slug);
        cookie(Self::name(secure), &value, Some(LAST_SECONDS), secure)
    }

    /// Returns the header value that deletes the cookie.
    pub fn clear(secure: bool) -> HeaderValue {
        cookie(Self::name(secure), "", Some(0), secure)
    }
}

#[cfg(test)]
mod tests {
    use axum::http::header;

    use super::*;

    fn read(cookies: &[&'static str], secure: bool) -> Option<String> {
        let mut headers = HeaderMap::new();
        for cookie in cookies {
            headers.append(header::COOKIE, HeaderValue::from_static(cookie));
        }
        Cookie::Session.read(&headers, secure).map(|token| token.expose().to_owned())
    }

    const A: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    #[test]
    fn only_the_cookie_with_exactly_this_name_is_read() {
        let plain = "x=1; tollgate_session=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA; y=\"2\"";
        let secure = "__Host-tollgate_session=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        assert_eq!(read(&[plain], false).as_deref(), Some(A));
        assert_eq!(read(&["x=1", plain], false).as_deref(), Some(A));
        assert_eq!(read(&[plain, plain], false).as_deref(), Some(A));
        assert_eq!(read(&[secure], true).as_deref(), Some(A));
        // A secure connection ignores a cookie that a plain connection may have set.
        assert_eq!(read(&[plain], true), None);
        assert_eq!(read(&[secure], false), None);
        for other in [
            "",
            "tollgate_session",
            "tollgate_session=",
            "tollgate_session=short",
            "xtollgate_session=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            "tollgate_session2=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            "Tollgate_session=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            "tollgate_session=\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"",
        ] {
            assert_eq!(read(&[other], false), None, "{other}");
        }
        let another = "tollgate_session=BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB";
        assert_eq!(read(&[plain, another], false), None);
    }

    #[test]
    fn malformed_cookies_of_other_sites_are_skipped() {
        for beside in
            [&b"x=\xfc; "[..], b"x=\xc3\xbc; ", b"\xff; ", b"=; ", b"; ;; ", b"x==\x80;\t"]
        {
            for whole in [
                [beside, b"tollgate_session=", A.as_bytes()].concat(),
                [&b"tollgate_session="[..], A.as_bytes(), b"; ", beside].concat(),
            ] {
                let mut headers = HeaderMap::new();
                headers.append(header::COOKIE, HeaderValue::from_bytes(&whole).expect("a value"));
                let token = Cookie::Session.read(&headers, false).expect("a token");
                assert_eq!(token.expose(), A, "{headers:?}");
            }
        }
    }

    #[test]
    fn last_sign_in_cookie_names_a_tenant_or_is_ignored() {
        let read = |value: &str| {
            let mut headers = HeaderMap::new();
            let cookie = HeaderValue::try_from(format!("tollgate_last={value}")).expect("a value");
            headers.append(header::COOKIE, cookie);
            LastSignIn::read(&headers, false)
        };
        for (value, slug, environment) in
            [("live.tronagg", "tronagg", Environment::Live), ("test.a-b", "a-b", Environment::Test)]
        {
            let slug: Slug = slug.parse().expect("a slug");
            let last = LastSignIn { slug, environment };
            assert_eq!(read(value).as_ref(), Some(&last));
            let set = last.set(false);
            let expected =
                format!("tollgate_last={value}; Path=/; Max-Age=2592000; HttpOnly; SameSite=Lax");
            assert_eq!(set.to_str().expect("ASCII"), expected);
        }
        for value in [
            "",
            "tronagg",
            "live.",
            ".tronagg",
            "live.TronAgg",
            "live.a/b",
            "live.a.b",
            "other.a",
            "live.//evil.example",
            "live.a%2Fb",
        ] {
            assert_eq!(read(value), None, "{value}");
        }
        let cleared = LastSignIn::clear(true);
        let expected = "__Host-tollgate_last=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax; Secure";
        assert_eq!(cleared.to_str().expect("ASCII"), expected);
    }

    #[test]
    fn cookies_are_set_with_all_required_attributes() {
        let token = SessionToken::parse(A).expect("a token");
        let shown = |value: HeaderValue| value.to_str().expect("ASCII").to_owned();
        assert_eq!(
            shown(Cookie::Session.set(&token, true)),
            format!("__Host-tollgate_session={A}; Path=/; HttpOnly; SameSite=Lax; Secure")
        );
        assert_eq!(
            shown(Cookie::SignIn.set(&token, false)),
            format!("tollgate_sign_in={A}; Path=/; Max-Age=600; HttpOnly; SameSite=Lax")
        );
        assert_eq!(
            shown(Cookie::Session.clear(true)),
            "__Host-tollgate_session=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax; Secure"
        );
    }
}
