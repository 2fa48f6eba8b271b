//! Security headers, which restrict what a browser may do with a response. Pages and the
//! documentation set their own content security policy.

use axum::{
    http::{HeaderName, HeaderValue, header},
    response::Response,
};

const HEADERS: [(HeaderName, &str); 6] = [
    // Pages replace this policy. A browser that shows another response runs no code and loads
    // nothing.
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    // A page's URL may contain the token of a link, which must not leak to other sites.
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    // Browsers that do not support frame-ancestors need this header.
    (header::X_FRAME_OPTIONS, "DENY"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// Adds each header that the response does not already have.
pub fn add(response: &mut Response) {
    let headers = response.headers_mut();
    // Reserves once, so that the map does not grow step by step.
    headers.reserve(HEADERS.len());
    for (name, value) in HEADERS {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
}
