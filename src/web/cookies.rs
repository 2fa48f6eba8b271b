//! Reads and writes cookie headers.

use axum::{
    http::{HeaderMap, HeaderValue, header},
    response::Response,
};

/// Returns the value of a cookie in the request, or `None` if the cookie is absent or has two
/// different values. The other cookies may contain any bytes.
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

/// Builds a `Set-Cookie` value for this host only. Without `max_age`, the cookie ends with the
/// browser session.
pub fn cookie(name: &str, value: &str, max_age: Option<u32>, secure: bool) -> HeaderValue {
    let secure = if secure { "; Secure" } else { "" };
    let max_age = max_age.map(|seconds| format!("; Max-Age={seconds}")).unwrap_or_default();
    // `Lax` lets the browser send the cookie when another site links to the dashboard.
    let text = format!("{name}={value}; Path=/{max_age}; HttpOnly; SameSite=Lax{secure}");
    HeaderValue::try_from(text).expect("tokens and names of tenants are visible ASCII")
}

/// Adds cookies to a response.
pub fn with_cookies<const N: usize>(mut response: Response, cookies: [HeaderValue; N]) -> Response {
    for cookie in cookies {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}
