//! The two cookies: that of a session, and that of a browser which is about to sign in.

use axum::http::{HeaderMap, HeaderValue, header};

use crate::domain::session_token::SessionToken;

/// Seconds that a browser keeps the cookie of the sign-in page: twice the life of a nonce.
const SIGN_IN_SECONDS: u32 = 600;

/// What a cookie is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cookie {
    /// Goes when the browser does; when it is over is for the store to say.
    Session,
    SignIn,
}

impl Cookie {
    /// Under `__Host-` no other host and no plain connection can set it. Browsers ask for `Secure`
    /// with that, which there is not on a loopback address without TLS.
    fn name(self, secure: bool) -> &'static str {
        match (self, secure) {
            (Self::Session, true) => "__Host-tollgate_session",
            (Self::Session, false) => "tollgate_session",
            (Self::SignIn, true) => "__Host-tollgate_sign_in",
            (Self::SignIn, false) => "tollgate_sign_in",
        }
    }

    /// The token that a browser sent; none, also, when it sent two that differ.
    pub fn read(self, headers: &HeaderMap, secure: bool) -> Option<SessionToken> {
        let name = self.name(secure);
        let mut values = headers
            .get_all(header::COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(';'))
            .filter_map(|pair| pair.trim_matches([' ', '\t']).split_once('='))
            .filter_map(|(key, value)| (key == name).then_some(value));
        let value = values.next()?;
        if values.any(|other| other != value) {
            return None;
        }
        SessionToken::parse(value).ok()
    }

    /// What gives it to a browser.
    pub fn set(self, token: &SessionToken, secure: bool) -> HeaderValue {
        let max_age = match self {
            Self::Session => None,
            Self::SignIn => Some(SIGN_IN_SECONDS),
        };
        self.header(token.expose(), max_age, secure)
    }

    /// What takes it away again.
    pub fn clear(self, secure: bool) -> HeaderValue {
        self.header("", Some(0), secure)
    }

    fn header(self, value: &str, max_age: Option<u32>, secure: bool) -> HeaderValue {
        let name = self.name(secure);
        let secure = if secure { "; Secure" } else { "" };
        let max_age = max_age.map(|seconds| format!("; Max-Age={seconds}")).unwrap_or_default();
        // Lax, so that it comes along with the redirect of a link that another site has opened.
        let text = format!("{name}={value}; Path=/{max_age}; HttpOnly; SameSite=Lax{secure}");
        let mut header = HeaderValue::try_from(text).expect("a token is visible ASCII");
        header.set_sensitive(true);
        header
    }
}

#[cfg(test)]
mod tests {
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
    fn the_cookie_of_exactly_this_name_is_read() {
        let plain = "x=1; tollgate_session=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA; y=\"2\"";
        let secure = "__Host-tollgate_session=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        assert_eq!(read(&[plain], false).as_deref(), Some(A));
        assert_eq!(read(&["x=1", plain], false).as_deref(), Some(A));
        assert_eq!(read(&[plain, plain], false).as_deref(), Some(A));
        assert_eq!(read(&[secure], true).as_deref(), Some(A));
        // What a plain connection may have set is no session of a secure one.
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
    fn cookies_have_all_their_attributes() {
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
