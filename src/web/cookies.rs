//! Reads and writes cookie headers.

use axum::{
    http::{HeaderMap, HeaderValue, header},
    response::Response,
};

/// The value of a cookie that a browser sent; none, also, when it sent two that differ. What others
/// have set beside it may be any bytes.
pub fn value_of<'a>(name: &str, headers: &'a HeaderMap) -> Option<&'a str> {
    let mut values = headers
        .get_all(header::COOKIE)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b';'))
        .filter_map(|pair| pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"="));
    let value = values.next()?;
    if values.any(|other| other != value) {
        return None;
    }
    std::str::from_utf8(value).ok()
}

/// The value of `Set-Cookie` for this host alone. Without `max_age` the cookie lasts as long as the
/// browser runs.
pub fn cookie(name: &str, value: &str, max_age: Option<u32>, secure: bool) -> HeaderValue {
    let secure = if secure { "; Secure" } else { "" };
    let max_age = max_age.map(|seconds| format!("; Max-Age={seconds}")).unwrap_or_default();
    // Lax, so that it comes along with the redirect of a link that another site has opened.
    let text = format!("{name}={value}; Path=/{max_age}; HttpOnly; SameSite=Lax{secure}");
    HeaderValue::try_from(text).expect("tokens and names of tenants are visible ASCII")
}

/// Gives cookies to the browser along with a response.
pub fn with_cookies<const N: usize>(mut response: Response, cookies: [HeaderValue; N]) -> Response {
    for cookie in cookies {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}
