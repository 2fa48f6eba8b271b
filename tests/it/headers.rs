//! The security headers of all responses except the pages of the dashboard, which
//! `dashboard/headers.rs` checks.

use std::time::Duration;

use tollgate::state::Limits;

use crate::harness::{
    Answer, App, Call, WALLET,
    app::{respond, service, state_of},
};

/// The content security policy of responses that are not pages.
const NO_PAGE: &str = "default-src 'none'; frame-ancestors 'none'";

/// Asserts that the response has each security header once.
#[track_caller]
fn check_headers(answer: &Answer, policy: &str) {
    for (name, expected) in [
        ("content-security-policy", policy),
        ("referrer-policy", "no-referrer"),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        let values: Vec<_> = answer.headers.get_all(name).iter().collect();
        assert_eq!(values, [expected], "{name}: {answer:?}");
    }
}

#[tokio::test]
async fn every_response_contains_the_security_headers() {
    let app = App::start().await;
    app.wallet("10").await;
    let key = app.key(&app.tronagg, WALLET).await;
    let get = |path: &str| Call::new("GET", path);
    for (status, call) in [
        (200, get("/livez")),
        (200, get("/readyz")),
        (200, key.call("GET", "/v1/me")),
        (200, Call::new("HEAD", "/livez")),
        (201, key.buy("1")),
        (402, key.buy("1000")),
        (401, get("/v1/me")),
        (200, app.tronagg.call("GET", &format!("/v1/accounts/{WALLET}/ledger.csv"))),
        (401, get("/v1/accounts")),
        (404, get("/nothing/here")),
        (404, get("/docs/nothing")),
        (405, key.call("DELETE", "/v1/me")),
    ] {
        check_headers(&app.send(call).await.expect(status), NO_PAGE);
    }
    app.check_ledger().await;
}

#[tokio::test]
async fn response_to_a_request_that_timed_out_contains_the_security_headers() {
    let app = App::start().await;
    app.wallet("10").await;
    let limits = Limits { request_timeout: Duration::from_millis(200), ..Limits::default() };
    let router = service(state_of(app.node.clone(), limits));
    let _locked = app.lock_accounts().await;
    let call = app.tronagg.call("PATCH", &format!("/v1/accounts/{WALLET}"));
    let call = call.json(serde_json::json!({"status": "suspended"}));
    let answer = respond(&router, call.into_request()).await;
    check_headers(&answer.expect_problem(503, "unavailable"), NO_PAGE);
}

#[tokio::test]
async fn documentation_is_served_with_the_security_headers_and_its_own_policy() {
    let app = App::start().await;
    let policy = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
                  connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'";
    for (status, path) in [
        (303, "/docs"),
        (200, "/docs/"),
        (200, "/docs/index.html"),
        (200, "/docs/swagger-ui-bundle.js"),
        (200, "/docs/swagger-ui.css"),
        (200, "/openapi.json"),
    ] {
        check_headers(&app.send(Call::new("GET", path)).await.expect(status), policy);
    }
    // The page contains no inline scripts or styles.
    let page = app.send(Call::new("GET", "/docs/")).await.expect(200);
    let page = String::from_utf8(page.body).expect("the text is UTF-8");
    assert!(!page.contains("<style") && !page.contains("style=\""), "{page}");
    assert_eq!(page.matches("<script").count(), page.matches("<script src=\"").count(), "{page}");
}
