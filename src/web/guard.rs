//! The rules for every page: response headers, a time limit, the allowed origin of a submitted
//! form, and the CSRF token in the form.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};

use super::failure::Failure;
use crate::{
    auth::Problem,
    domain::{dashboard::WebOrigin, id::RequestId, session_token::SessionToken},
};

/// Allows resources and form targets of this origin only. Forbids inline scripts, inline styles and
/// framing. The layer around all requests adds the headers that are not specific to pages.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; \
     img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; \
     frame-ancestors 'none'";

const PERMISSIONS_POLICY: &str = "camera=(), microphone=(), geolocation=(), payment=(), usb=()";

/// The configuration of [`protect`].
#[derive(Clone, Copy)]
pub struct Protection {
    /// Whether browsers connect to the service over TLS.
    pub secure: bool,
    /// Renders the page for a failure of the request with this id.
    pub render_failure: fn(Failure, Option<RequestId>) -> Response,
}

/// Renders the page of a [`Failure`] and sets the headers of every response. Forbids caching unless
/// the response already has a `Cache-Control` header.
pub async fn protect(
    State(protection): State<Protection>,
    request: Request,
    next: Next,
) -> Response {
    let request_id = request.extensions().get::<RequestId>().copied();
    let mut response = next.run(request).await;
    if let Some(failure) = response.extensions_mut().remove::<Failure>() {
        let page = (protection.render_failure)(failure, request_id);
        response = carry_over(response, page);
    }
    let headers = response.headers_mut();
    set_page_headers(headers, CONTENT_SECURITY_POLICY, protection.secure);
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Sets the headers of a page, including its content security policy. `secure` says whether
/// browsers reach the service over TLS.
pub fn set_page_headers(headers: &mut HeaderMap, policy: &'static str, secure: bool) {
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    let permissions = HeaderName::from_static("permissions-policy");
    headers.insert(permissions, HeaderValue::from_static(PERMISSIONS_POLICY));
    if secure {
        let a_year = HeaderValue::from_static("max-age=31536000");
        headers.insert(header::STRICT_TRANSPORT_SECURITY, a_year);
    }
}

/// Times out a request slightly earlier than the layer around all requests would, so that the
/// response is a page.
pub async fn answer_in_time(
    State(request_timeout): State<Duration>,
    request: Request,
    next: Next,
) -> Response {
    let limit = shorter(request_timeout);
    tokio::time::timeout(limit, next.run(request)).await.unwrap_or_else(|_| {
        let detail = "The request timed out. Check whether it took effect before you repeat it.";
        let problem = Problem::unavailable(detail).because("request timed out");
        Failure::Fault(problem).into_response()
    })
}

/// Leaves a second of `timeout` for rendering the page, or half of a `timeout` under two seconds.
fn shorter(timeout: Duration) -> Duration {
    timeout.saturating_sub(Duration::from_secs(1)).max(timeout / 2)
}

/// Copies the headers that the router set, such as `Allow`, to the page.
fn carry_over(old: Response, mut page: Response) -> Response {
    let (parts, _) = old.into_parts();
    for (name, value) in &parts.headers {
        if name != header::CONTENT_LENGTH && !page.headers().contains_key(name) {
            page.headers_mut().append(name, value.clone());
        }
    }
    page
}

/// Refuses a request with an unsafe method unless a page of this service sent the request.
pub async fn refuse_foreign_forms(
    State(public_url): State<Arc<WebOrigin>>,
    request: Request,
    next: Next,
) -> Response {
    if request.method().is_safe() || is_ours(request.headers(), &public_url) {
        next.run(request).await
    } else {
        Failure::ForeignForm.into_response()
    }
}

/// Whether the browser's headers show that a page of this service sent the request.
///
/// Under the policy `no-referrer`, a browser sends `Origin: null`. In this case the header
/// `Sec-Fetch-Site` decides, because no script can set it.
fn is_ours(headers: &HeaderMap, public_url: &WebOrigin) -> bool {
    match only(headers, &header::ORIGIN) {
        Some(b"null") => {
            let fetch_site = HeaderName::from_static("sec-fetch-site");
            only(headers, &fetch_site) == Some(b"same-origin")
        }
        Some(origin) => origin == public_url.as_str().as_bytes(),
        None => false,
    }
}

/// Returns the value of a header that occurs exactly once.
pub fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    values.next().is_none().then(|| value.as_bytes())
}

/// Derives the CSRF token of a cookie. Another site can make a browser submit a form, but it cannot
/// read the cookie and so cannot compute the token.
pub fn csrf_token(cookie: &SessionToken) -> String {
    let mut hasher = Sha256::new();
    hasher.update(b"tollgate csrf\0");
    hasher.update(cookie.expose().as_bytes());
    URL_SAFE_NO_PAD.encode(hasher.finalize())
}

/// Whether a form carries the token of this cookie.
pub fn is_csrf_token(sent: &str, cookie: &SessionToken) -> bool {
    // The duration of a comparison of digests reveals nothing about the expected token.
    Sha256::digest(sent.as_bytes()) == Sha256::digest(csrf_token(cookie).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn form_is_accepted_only_from_the_origin_of_tollgate() {
        let public_url = WebOrigin::parse("https://keys.example.com").expect("an origin");
        let origin = |values: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in values {
                let name = HeaderName::from_static(name);
                headers.append(name, HeaderValue::from_static(value));
            }
            is_ours(&headers, &public_url)
        };
        for ours in [
            &[("origin", "https://keys.example.com")][..],
            &[("origin", "https://keys.example.com"), ("sec-fetch-site", "same-origin")],
            &[("origin", "null"), ("sec-fetch-site", "same-origin")],
        ] {
            assert!(origin(ours), "{ours:?}");
        }
        for foreign in [
            &[][..],
            &[("sec-fetch-site", "same-origin")],
            &[("origin", "")],
            &[("origin", "null")],
            &[("origin", "null"), ("sec-fetch-site", "same-site")],
            &[("origin", "null"), ("sec-fetch-site", "cross-site")],
            &[("origin", "null"), ("sec-fetch-site", "none")],
            &[
                ("origin", "null"),
                ("sec-fetch-site", "same-origin"),
                ("sec-fetch-site", "cross-site"),
            ],
            &[("origin", "http://keys.example.com")],
            &[("origin", "https://keys.example.com:8443")],
            &[("origin", "https://keys.example.com.evil.example")],
            &[("origin", "https://keys.example.com/")],
            &[("origin", "https://evil.example"), ("sec-fetch-site", "same-origin")],
            &[("origin", "https://keys.example.com"), ("origin", "https://evil.example")],
        ] {
            assert!(!origin(foreign), "{foreign:?}");
        }
    }

    #[test]
    fn page_times_out_before_its_request() {
        for (timeout, expected) in [(15_000, 14_000), (3_000, 2_000), (1_500, 750), (10, 5)] {
            let timeout = Duration::from_millis(timeout);
            assert_eq!(shorter(timeout), Duration::from_millis(expected));
        }
    }

    #[test]
    fn csrf_token_is_valid_for_one_cookie_only() {
        let cookie = |letter: &str| SessionToken::parse(&letter.repeat(43)).expect("a token");
        let (mine, other) = (cookie("A"), cookie("E"));
        assert!(is_csrf_token(&csrf_token(&mine), &mine));
        assert!(!is_csrf_token(&csrf_token(&other), &mine));
        assert!(!is_csrf_token("", &mine));
        assert!(!is_csrf_token(mine.expose(), &mine), "the cookie itself is not a CSRF token");
        assert_eq!(csrf_token(&mine).len(), 43);
    }
}
