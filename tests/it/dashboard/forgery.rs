//! Tests the protection against cross-site request forgery. A request that another site causes a
//! browser to send changes nothing.

use std::fmt::Write as _;

use serde_json::json;

use super::visitor::{LOOPBACK, SECURE, Site, Visitor, form};
use crate::harness::{Call, WALLET, app::NewKey};

/// Lists every form of a signed-in owner, with valid fields.
fn forms(key: &NewKey) -> Vec<(String, Vec<(&'static str, String)>)> {
    let of_key = |action: &str| format!("/dashboard/keys/{}/{action}", key.id);
    let settings = || {
        [("name", "forged"), ("access", "read"), ("expires", "never")]
            .map(|(name, value)| (name, value.to_owned()))
            .to_vec()
    };
    let form_token = |letter: &str| ("form", letter.repeat(43));
    vec![
        ("/dashboard/keys/new".to_owned(), [settings(), vec![form_token("A")]].concat()),
        (of_key("edit"), settings()),
        (of_key("disable"), Vec::new()),
        (of_key("enable"), Vec::new()),
        (of_key("rotate"), vec![("grace", "0".to_owned()), form_token("E")]),
        (of_key("revoke"), Vec::new()),
        (of_key("compromised"), vec![form_token("I"), ("replace", "on".to_owned())]),
        ("/dashboard/logout".to_owned(), Vec::new()),
        ("/dashboard/logout-everywhere".to_owned(), Vec::new()),
        (of_key("limits"), vec![("calls-default", "1".to_owned())]),
    ]
}

/// Reads everything that a form could change.
async fn state(site: &Site) -> Vec<String> {
    let mut rows = Vec::new();
    for query in [
        "SELECT k::text FROM api_keys k ORDER BY 1",
        "SELECT e::text FROM audit_events e ORDER BY 1",
        // The query omits `last_seen_at`, because a refused form also updates this time.
        "SELECT s::text FROM (SELECT session_id, expires_at FROM dashboard_sessions) s ORDER BY 1",
    ] {
        let found = sqlx::query_scalar::<_, String>(query).fetch_all(&site.app.pool).await;
        rows.extend(found.expect("rows"));
    }
    rows
}

/// Signs in an owner. Returns the owner, a key of the account, and the CSRF token of the session.
async fn owner(site: &Site) -> (Visitor, NewKey, String) {
    site.app.wallet("5").await;
    site.set_dashboard(&site.app.tronagg, json!({"owner_rate_limits": true})).await.expect(200);
    let limits = json!([{"name": "default", "limit": 1000, "window_seconds": 60}]);
    let body = json!({"name": "a key", "rate_limits": limits});
    let key = site.app.key_with(&site.app.tronagg, WALLET, body).await;
    let mut owner = site.owner(&site.app.tronagg, WALLET).await;
    let page = owner.get("/dashboard/keys/new").await.expect(200);
    let csrf = page.field("/dashboard/keys/new", "csrf");
    (owner, key, csrf)
}

fn with_csrf(path: &str, fields: &[(&str, String)], csrf: Option<&str>) -> Call {
    let mut all: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    all.extend(csrf.map(|csrf| ("csrf", csrf)));
    form(path, &all)
}

#[tokio::test]
async fn form_without_the_csrf_token_of_its_session_changes_nothing() {
    let site = Site::start().await;
    let (mut owner, key, csrf) = owner(&site).await;
    let mut second = site.owner(&site.app.tronagg, WALLET).await;
    let page = second.get("/dashboard/keys/new").await.expect(200);
    let of_another_session = page.field("/dashboard/keys/new", "csrf");
    assert_ne!(of_another_session, csrf);
    let (cookie, lower) = (owner.session().to_owned(), csrf.to_lowercase());
    let before = state(&site).await;
    for (path, fields) in forms(&key) {
        for wrong in [
            None,
            Some(""),
            Some(of_another_session.as_str()),
            Some(cookie.as_str()),
            Some(&csrf[..42]),
            Some(lower.as_str()),
        ] {
            let call = with_csrf(&path, &fields, wrong).header("Origin", LOOPBACK);
            owner.send(call).await.expect(403).says("Nothing was changed");
        }
        // The service ignores a token in the query string.
        let in_query = format!("{path}?csrf={csrf}");
        let call = with_csrf(&in_query, &fields, None).header("Origin", LOOPBACK);
        owner.send(call).await.expect(403);
        assert_eq!(state(&site).await, before, "{path}");
    }
}

#[tokio::test]
async fn form_from_another_origin_changes_nothing() {
    for url in [LOOPBACK, SECURE] {
        let site = Site::start_at(url).await;
        let (mut owner, key, csrf) = owner(&site).await;
        let before = state(&site).await;
        for (path, fields) in forms(&key) {
            for headers in [
                &[][..],
                &[("Sec-Fetch-Site", "same-origin")],
                &[("Origin", "https://evil.example")],
                &[("Origin", "https://evil.example"), ("Sec-Fetch-Site", "same-origin")],
                &[("Origin", "http://keys.example.com")],
                &[("Origin", "https://keys.example.com.evil.example")],
                &[("Origin", "http://127.0.0.1:8081")],
                &[("Origin", "null")],
                &[("Origin", "null"), ("Sec-Fetch-Site", "cross-site")],
                &[("Origin", "null"), ("Sec-Fetch-Site", "same-site")],
                &[("Origin", "null"), ("Sec-Fetch-Site", "none")],
                &[("Referer", url)],
            ] {
                let mut call = with_csrf(&path, &fields, Some(&csrf));
                for (name, value) in headers {
                    call = call.header(name, value);
                }
                let page = owner.send(call).await.expect(403);
                page.says("This form was not sent from this site");
            }
            assert_eq!(state(&site).await, before, "{path}");
        }
        // Browsers send one of these two combinations of headers from the dashboard's own pages.
        // The service accepts both.
        let (disable, _) = forms(&key).swap_remove(2);
        let call = with_csrf(&disable, &[], Some(&csrf)).header("Origin", url);
        owner.send(call).await.expect(303);
        let (enable, _) = forms(&key).swap_remove(3);
        let call = with_csrf(&enable, &[], Some(&csrf)).header("Origin", "null");
        owner.send(call.header("Sec-Fetch-Site", "same-origin")).await.expect(303);
    }
}

#[tokio::test]
async fn get_and_head_requests_change_nothing() {
    let site = Site::start().await;
    let (mut owner, key, csrf) = owner(&site).await;
    let before = state(&site).await;
    for (path, fields) in forms(&key) {
        let mut query = format!("csrf={csrf}");
        for (name, value) in &fields {
            let _ = write!(query, "&{name}={value}");
        }
        for method in ["GET", "HEAD"] {
            let page = owner.send(Call::new(method, &format!("{path}?{query}"))).await;
            assert!(matches!(page.status, 200 | 405), "{method} {path}: {page:?}");
        }
        assert_eq!(state(&site).await, before, "{path}");
    }
}

#[tokio::test]
async fn wrong_media_type_oversized_body_or_wrong_method_changes_nothing() {
    let site = Site::start().await;
    let (mut owner, key, csrf) = owner(&site).await;
    let before = state(&site).await;
    let path = format!("/dashboard/keys/{}/revoke", key.id);
    // A page of another site can send the first two media types without a CORS preflight.
    for media_type in ["text/plain", "multipart/form-data; boundary=x", "application/json"] {
        let call = Call::new("POST", &path).body(media_type, format!("csrf={csrf}"));
        owner.send(call.header("Origin", LOOPBACK)).await.expect(415);
    }
    let large = format!("csrf={csrf}&reason={}", "a".repeat(20_000));
    let call = Call::new("POST", &path).body("application/x-www-form-urlencoded", large);
    owner.send(call.header("Origin", LOOPBACK)).await.expect(413);
    for method in ["PUT", "PATCH", "DELETE"] {
        let call = Call::new(method, &path).header("Origin", LOOPBACK);
        owner.send(call).await.expect(405);
    }
    assert_eq!(state(&site).await, before);
}
