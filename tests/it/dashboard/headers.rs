//! Response headers. In every test, `Visitor::send` checks the headers that all responses contain.
//! The tests here check the headers that differ between responses. They also check that the content
//! security policy allows everything that a page needs.

use std::{sync::Arc, time::Duration};

use http_body_util::BodyExt as _;
use serde_json::json;
use tollgate::{
    dashboard,
    domain::dashboard::WebOrigin,
    http::router,
    state::{AppState, Limits},
};
use tower::ServiceExt as _;

use super::visitor::{LOOPBACK, Page, SECURE, Site, Visitor, attribute, tags};
use crate::harness::{Call, WALLET, app::NewKey};

/// Signs in an owner with a key and a purchase. Returns the owner, the key, and the paths of all
/// pages that the owner can open.
async fn pages(site: &Site) -> (Visitor, NewKey, Vec<String>) {
    let app = &site.app;
    app.wallet("20").await;
    let limits = json!([{"name": "default", "limit": 1000, "window_seconds": 60}]);
    let body = json!({"name": "bot", "expires_in": 3600, "rate_limits": limits});
    let key = app.key_with(&app.tronagg, WALLET, body).await;
    app.send(key.buy("1.5")).await.expect(201);
    let hold = key.call("POST", "/v1/holds").json(json!({"amount": "1"}));
    let hold = app.send(hold).await.expect(201);
    let change = json!({
        "wallet_sign_in": "create", "color": "#b4005a", "name": "TronAgg",
        "owner_rate_limits": true,
    });
    site.set_dashboard(&app.tronagg, change).await.expect(200);
    let owner = site.owner(&app.tronagg, WALLET).await;
    let mut paths: Vec<String> = [
        "/dashboard/keys",
        "/dashboard/keys?show=all",
        "/dashboard/keys?done=changed",
        "/dashboard/keys/new",
        "/dashboard/balance",
        "/dashboard/holds",
        "/dashboard/log",
        "/dashboard/signed-out",
        "/dashboard/tronagg/login",
    ]
    .map(str::to_owned)
    .to_vec();
    for suffix in ["", "/edit", "/limits", "/rotate", "/revoke", "/compromised", "/purchases"] {
        paths.push(format!("/dashboard/keys/{}{suffix}", key.id));
    }
    paths.push(format!("/dashboard/holds/{}/void", hold.text("/id")));
    paths.push(site.link(&app.tronagg, WALLET).await);
    (owner, key, paths)
}

#[tokio::test]
async fn every_response_contains_the_security_headers_including_redirects_errors_and_downloads() {
    for site in [Site::start().await, Site::start_at(SECURE).await] {
        let (mut owner, key, paths) = pages(&site).await;
        for path in &paths {
            let page = owner.get(path).await.expect(200);
            assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"), "{path}");
        }
        let mut visitor = site.visitor();
        for (status, path) in [
            (303, "/dashboard"),
            (303, "/dashboard/keys"),
            (410, "/dashboard/enter?token=x"),
            (404, "/dashboard/nobody/login"),
            (404, "/dashboard/nothing/here/at/all"),
            (404, "/dashboard/assets/0/dashboard.css"),
            (404, "/dashboard/accent/red.css"),
            (404, "/dashboard/logo/x/y"),
        ] {
            visitor.get(path).await.expect(status);
        }
        visitor.post("/dashboard/keys/new", &[]).await.expect(401);
        let delete = Call::new("DELETE", "/dashboard/log");
        visitor.send(delete.clone()).await.expect(403);
        visitor.send(delete.header("Origin", site.url)).await.expect(405);
        visitor.send(Call::new("HEAD", "/dashboard/signed-out")).await.expect(200);
        let csv = format!("/dashboard/keys/{}/purchases.csv", key.id);
        for path in ["/dashboard/balance.csv", csv.as_str()] {
            let file = owner.get(path).await.expect(200);
            let media_type = file.header("content-type").expect("a type");
            assert!(media_type.starts_with("text/csv; charset=utf-8"), "{file:?}");
            let disposition = file.header("content-disposition").expect("a disposition");
            assert!(disposition.starts_with("attachment;"), "{disposition}");
        }
    }
}

#[tokio::test]
async fn timed_out_request_gets_an_error_page_with_the_security_headers() {
    let site = Site::start().await;
    let limits = Limits { request_timeout: Duration::from_secs(1), ..Limits::default() };
    let url = WebOrigin::parse(LOOPBACK).expect("an origin");
    let state = AppState::new(site.app.node.clone(), limits, url, false);
    let pages = dashboard::routes(&state);
    let service = router(state, pages, Arc::default());
    let mut held = site.app.pool.begin().await.expect("a transaction");
    let lock = "LOCK TABLE dashboard_sessions IN ACCESS EXCLUSIVE MODE";
    sqlx::query(lock).execute(&mut *held).await.expect("the lock is acquired");
    let cookie = format!("tollgate_session={}", "A".repeat(43));
    let call = Call::new("GET", "/dashboard/keys").header("Cookie", &cookie);
    let response = service.oneshot(call.into_request()).await.expect("infallible");
    let (parts, body) = response.into_parts();
    let body = body.collect().await.expect("a body").to_bytes();
    let source = String::from_utf8_lossy(&body).into_owned();
    let page = Page { status: parts.status.as_u16(), headers: parts.headers, source }.expect(503);
    page.says("The service is temporarily unavailable");
    for (name, value) in [
        ("content-type", "text/html; charset=utf-8"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-store"),
        ("retry-after", "1"),
    ] {
        assert_eq!(page.header(name), Some(value), "{name}: {page:?}");
    }
    let policy = page.header("content-security-policy").expect("a policy");
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
}

#[tokio::test]
async fn pages_use_nothing_that_the_content_security_policy_forbids() {
    let site = Site::start().await;
    let (mut owner, _, paths) = pages(&site).await;
    for path in &paths {
        let page = owner.get(path).await.expect(200);
        for (tag, name) in [("script", "src"), ("link", "href"), ("img", "src")] {
            for found in tags(&page.source, tag) {
                let source = attribute(&found, name);
                let source = source.unwrap_or_else(|| panic!("<{found}> on {path}"));
                assert!(source.starts_with("/dashboard/"), "{source} on {path}");
            }
        }
        for found in tags(&page.source, "form") {
            let action = attribute(&found, "action").expect("an action");
            assert!(action.starts_with("/dashboard/"), "{action} on {path}");
        }
        assert_eq!(tags(&page.source, "style"), Vec::<String>::new(), "{path}");
        // The check reads only tags, because the text between them may contain anything.
        for tag in page.source.split('<').skip(1).map(|rest| rest.split('>').next()) {
            let tag = tag.expect("there is a first part");
            assert_eq!(attribute(tag, "style"), None, "<{tag}> on {path}");
            let handler = tag.split_whitespace().find(|word| {
                word.starts_with("on")
                    && word
                        .split_once('=')
                        .is_some_and(|(name, _)| name.bytes().all(|byte| byte.is_ascii_lowercase()))
            });
            assert_eq!(handler, None, "<{tag}> on {path}");
            let link = attribute(tag, "href").unwrap_or_default();
            assert!(!link.trim_start().to_ascii_lowercase().starts_with("javascript:"), "{path}");
        }
    }
}

#[tokio::test]
async fn assets_are_cacheable_and_pages_are_not() {
    let site = Site::start().await;
    let (mut owner, _, _) = pages(&site).await;
    let page = owner.get("/dashboard/keys").await.expect(200);
    let mut assets: Vec<String> =
        tags(&page.source, "link").iter().filter_map(|tag| attribute(tag, "href")).collect();
    assets.extend(tags(&page.source, "script").iter().filter_map(|tag| attribute(tag, "src")));
    let mut types = Vec::new();
    for path in assets {
        // A visitor without a session can also load the assets, because the signed-out page uses
        // them.
        let asset = site.visitor().get(&path).await.expect(200);
        types.push(asset.header("content-type").expect("a type").to_owned());
        let cache_control = asset.header("cache-control");
        if path.starts_with("/dashboard/assets/") {
            assert_eq!(cache_control, Some("public, max-age=31536000, immutable"), "{path}");
        }
        assert!(asset.headers.get("set-cookie").is_none(), "{path}");
    }
    for expected in ["text/css", "text/javascript", "image/svg+xml"] {
        let mut found = types.iter().filter(|media_type| media_type.starts_with(expected));
        assert!(found.next().is_some(), "{expected} in {types:?}");
    }
}

#[tokio::test]
async fn accent_style_sheet_is_served_only_for_a_six_digit_colour() {
    let site = Site::start().await;
    let mut visitor = site.visitor();
    let sheet = visitor.get("/dashboard/accent/b4005a.css").await.expect(200);
    assert!(sheet.header("content-type").is_some_and(|kind| kind.starts_with("text/css")));
    assert!(sheet.source.contains("--accent:"), "{sheet:?}");
    for wrong in [
        "b4005",
        "b4005aa",
        "B4005G",
        "%23b4005a",
        "b4005a%7D",
        "b4005a;x",
        "..%2Fkeys",
        "b4005a.css",
    ] {
        visitor.get(&format!("/dashboard/accent/{wrong}.css")).await.expect(404);
    }
}
