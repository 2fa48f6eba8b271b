//! The start page: `GET /` returns a page to browsers, and JSON to other clients.

use serde_json::{Value, json};
use tollgate::{
    domain::dashboard::WebOrigin,
    state::{AppState, Limits},
};

use crate::{
    dashboard::visitor::{LOOPBACK, attribute, tags},
    harness::{Answer, App, Call, app::service},
};

/// The header `Accept` of a browser.
const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

/// Starts a service that does not serve its documentation.
async fn without_docs() -> App {
    let app = App::start().await;
    let url = WebOrigin::parse(LOOPBACK).expect("the origin is valid");
    let state = AppState::new(app.node.clone(), Limits::default(), url, false);
    App { router: service(state), ..app }
}

fn get() -> Call {
    Call::new("GET", "/")
}

/// Lists the targets of the links in the content of a page.
fn links(page: &Answer) -> Vec<String> {
    let source = String::from_utf8_lossy(&page.body).into_owned();
    let (_, main) = source.split_once("<main").expect("the page has content");
    tags(main, "a").iter().filter_map(|tag| attribute(tag, "href")).collect()
}

#[tokio::test]
async fn client_that_does_not_prefer_html_gets_the_addresses_as_json() {
    let app = App::start().await;
    for call in [
        get(),
        get().header("Accept", "*/*"),
        get().header("Accept", "application/json"),
        get().header("Accept", "text/html;q=0.5, application/json"),
    ] {
        let answer = app.send(call).await.expect(200);
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.header("vary"), Some("Accept"));
        let expected = json!({
            "name": "tollgate",
            "version": env!("CARGO_PKG_VERSION"),
            "documentation_url": "http://127.0.0.1:8080/docs/book/",
            "openapi_url": "http://127.0.0.1:8080/openapi.json",
            "dashboard_url": "http://127.0.0.1:8080/dashboard",
            "health_url": "http://127.0.0.1:8080/readyz",
        });
        assert_eq!(answer.json, expected);
    }
}

#[tokio::test]
async fn browser_gets_a_page_with_links_and_the_status() {
    let app = App::start().await;
    let page = app.send(get().header("Accept", BROWSER)).await.expect(200);
    for (name, value) in [
        ("content-type", "text/html; charset=utf-8"),
        ("vary", "Accept"),
        ("cache-control", "no-store"),
        ("x-frame-options", "DENY"),
    ] {
        assert_eq!(page.header(name), Some(value), "{name}: {page:?}");
    }
    let policy = page.header("content-security-policy").expect("the response has a policy");
    assert!(policy.starts_with("default-src 'none'; style-src 'self'"), "{policy}");
    let source = String::from_utf8_lossy(&page.body);
    assert!(source.contains(env!("CARGO_PKG_VERSION")), "{source}");
    assert!(source.contains(">Ready<"), "{source}");
    let expected = ["/readyz", "/docs/book/", "/docs", "/openapi.json", "/dashboard"];
    assert_eq!(links(&page), expected);
}

#[tokio::test]
async fn start_page_contains_no_documentation_links_if_the_documentation_is_off() {
    let app = without_docs().await;
    let answer = app.send(get()).await.expect(200);
    assert_eq!(answer.json["documentation_url"], Value::Null);
    assert_eq!(answer.json["openapi_url"], Value::Null);
    assert_eq!(answer.text("/health_url"), "http://127.0.0.1:8080/readyz");
    let page = app.send(get().header("Accept", BROWSER)).await.expect(200);
    assert_eq!(links(&page), ["/readyz", "/dashboard"]);
}

#[tokio::test]
async fn start_page_accepts_head_and_refuses_methods_other_than_get() {
    let app = App::start().await;
    for (accept, media_type) in [("*/*", "application/json"), (BROWSER, "text/html; charset=utf-8")]
    {
        let answer = app.send(Call::new("HEAD", "/").header("Accept", accept)).await.expect(200);
        assert_eq!(answer.header("content-type"), Some(media_type));
        assert_eq!(answer.header("vary"), Some("Accept"));
        assert!(answer.body.is_empty(), "{answer:?}");
        for method in ["POST", "PUT", "PATCH", "DELETE"] {
            let call = Call::new(method, "/").header("Accept", accept);
            let answer = app.send(call).await.expect_problem(405, "method_not_allowed");
            assert_eq!(answer.header("allow"), Some("GET,HEAD"));
        }
    }
}
