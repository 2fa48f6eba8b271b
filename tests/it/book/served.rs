//! The server serves the book at `/docs/book/`. The response headers allow everything that the
//! pages of the book need.

use crate::{
    dashboard::visitor::{LOOPBACK, SECURE, router_at},
    harness::{App, Call},
};

const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

fn get(path: &str) -> Call {
    Call::new("GET", path)
}

#[tokio::test]
async fn book_is_served_with_the_headers_of_a_page_and_its_own_policy() {
    for (url, hsts) in [(LOOPBACK, None), (SECURE, Some("max-age=31536000"))] {
        let app = App::start().await;
        let app = App { router: router_at(&app, url), ..app };
        let root = app.send(get("/docs/book/")).await.expect(200);
        let index = app.send(get("/docs/book/index.html")).await.expect(200);
        assert_eq!(root.body, index.body);
        assert!(String::from_utf8_lossy(&root.body).contains("Tollgate"), "{root:?}");
        for page in [root, index] {
            for (name, value) in [
                ("content-type", "text/html; charset=utf-8"),
                ("cache-control", "no-cache"),
                ("content-security-policy", POLICY),
                ("referrer-policy", "no-referrer"),
                ("x-content-type-options", "nosniff"),
                ("x-frame-options", "DENY"),
                ("cross-origin-opener-policy", "same-origin"),
                ("cross-origin-resource-policy", "same-origin"),
                (
                    "permissions-policy",
                    "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
                ),
            ] {
                let values: Vec<_> = page.headers.get_all(name).iter().collect();
                assert_eq!(values, [value], "{name}: {page:?}");
            }
            assert_eq!(page.header("strict-transport-security"), hsts);
        }
    }
}

#[tokio::test]
async fn request_with_the_current_entity_tag_of_a_page_gets_304() {
    let app = App::start().await;
    let page = app.send(get("/docs/book/")).await.expect(200);
    let tag = page.header("etag").expect("an entity tag").to_owned();
    let current = app.send(get("/docs/book/").header("If-None-Match", &tag)).await.expect(304);
    assert!(current.body.is_empty(), "{current:?}");
    assert_eq!(current.header("etag"), Some(tag.as_str()));
    assert_eq!(current.header("cache-control"), Some("no-cache"));
    let old = get("/docs/book/").header("If-None-Match", "\"0123456789abcdef\"");
    assert_eq!(app.send(old).await.expect(200).body, page.body);
    let head = app.send(Call::new("HEAD", "/docs/book/")).await.expect(200);
    assert!(head.body.is_empty(), "{head:?}");
    assert_eq!(head.header("etag"), Some(tag.as_str()));
}

#[tokio::test]
async fn address_without_a_trailing_slash_redirects_and_unknown_pages_return_404() {
    let app = App::start().await;
    let redirect = app.send(get("/docs/book")).await.expect(308);
    assert_eq!(redirect.header("location"), Some("/docs/book/"));
    for path in [
        "/docs/book/nothing.html",
        "/docs/book/nothing/",
        "/docs/book/index",
        "/docs/book/../book.toml",
        "/docs/book/%2e%2e/book.toml",
        "/docs/book//index.html",
        "/docs/book/.nojekyll",
    ] {
        app.send(get(path)).await.expect_problem(404, "not_found");
    }
    let answer = app.send(Call::new("POST", "/docs/book/")).await;
    let answer = answer.expect_problem(405, "method_not_allowed");
    assert_eq!(answer.header("allow"), Some("GET,HEAD"));
    // The server still serves the API reference at `/docs/`.
    app.send(get("/docs/")).await.expect(200);
    app.send(get("/docs/swagger-ui.css")).await.expect(200);
}
