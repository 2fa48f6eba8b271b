//! Every page escapes text from users, and every download neutralizes spreadsheet formulas in it.

use serde_json::json;

use super::visitor::{Page, Site, encode};
use crate::harness::WALLET;

const SCRIPT: &str = "<script>alert(1)</script>";
const ATTRIBUTE: &str = "\"'><img src=x onerror=alert(1)>";
const FORMULA: &str = "=HYPERLINK(\"http://evil.example\")";

/// Asserts that no text from a user opens a tag or ends an attribute.
fn assert_escaped(page: &Page) {
    for raw in ["<script>alert", "<img src=x", "onerror=alert(1)>", "\"'>"] {
        assert!(!page.source.contains(raw), "{raw} in {page:?}");
    }
}

#[tokio::test]
async fn names_references_and_reasons_are_escaped_on_every_page() {
    let site = Site::start().await;
    let app = &site.app;
    app.wallet("20").await;
    let name = format!("{SCRIPT}{ATTRIBUTE}");
    let key = app.key_with(&app.tronagg, WALLET, json!({"name": name})).await;
    for (reference, description) in [(SCRIPT, ATTRIBUTE), (ATTRIBUTE, SCRIPT)] {
        let body = json!({"amount": "1", "reference": reference, "description": description});
        site.api(key.call("POST", "/v1/purchases").json(body)).await.expect(201);
    }
    let body = json!({"amount": "1", "reference": format!("{SCRIPT}{ATTRIBUTE}")});
    let hold = site.api(key.call("POST", "/v1/holds").json(body)).await.expect(201);
    site.set_dashboard(&app.tronagg, json!({"name": "<b>Agg</b>\"'><i>"})).await.expect(200);
    let mut owner = site.owner(&app.tronagg, WALLET).await;
    let of_key = |rest: &str| format!("/dashboard/keys/{}{rest}", key.id);
    for path in [
        "/dashboard/keys".to_owned(),
        "/dashboard/balance".to_owned(),
        "/dashboard/holds".to_owned(),
        format!("/dashboard/holds/{}/void", hold.text("/id")),
        "/dashboard/log".to_owned(),
        of_key(""),
        of_key("/edit"),
        of_key("/rotate"),
        of_key("/revoke"),
        of_key("/compromised"),
        of_key("/purchases"),
    ] {
        let page = owner.get(&path).await.expect(200);
        assert_escaped(&page);
        assert!(!page.source.contains("<b>Agg"), "{page:?}");
        page.says("<b>Agg</b>\"'><i>");
        if path != "/dashboard/log" {
            page.says(SCRIPT);
        }
    }
    let link = site.link(&app.tronagg, WALLET).await;
    let asked = site.visitor().get(&link).await.expect(200);
    assert_escaped(&asked);
    assert!(!asked.source.contains("<b>Agg"), "{asked:?}");
    asked.says("<b>Agg</b>\"'><i>");
    let rotate = of_key("/rotate");
    let rotated = owner.submit(&rotate, &rotate, &[("grace", "3600")]).await.expect(200);
    assert_escaped(&rotated);
    rotated.says(&name);
    let revoke = of_key("/revoke");
    let reason = [("reason", name.as_str())];
    owner.submit(&revoke, &revoke, &reason).await.expect(303);
    for path in ["/dashboard/log".to_owned(), of_key(""), "/dashboard/keys?show=all".to_owned()] {
        let page = owner.get(&path).await.expect(200);
        assert_escaped(&page);
        page.says(&name);
    }
    let compromised = of_key("/compromised");
    let done = owner.submit(&compromised, &compromised, &[]).await.expect(200);
    assert_escaped(&done);
    done.says(ATTRIBUTE);
    app.check_ledger().await;
}

#[tokio::test]
async fn rejected_form_fields_and_query_parameters_are_escaped() {
    let site = Site::start().await;
    let app = &site.app;
    // The id of an account can also contain markup.
    let account = "<script>alert(1)</script>\"'>";
    let limits = json!([{"name": "default", "limit": 1000, "window_seconds": 60}]);
    let body = json!({"name": "a", "rate_limits": limits});
    let put = format!("/v1/accounts/{}", encode(account));
    site.api(app.tradetally.call("PUT", &put)).await.expect(201);
    let keys = format!("{put}/keys");
    site.set_dashboard(&app.tradetally, json!({"owner_rate_limits": true})).await.expect(200);
    let made = site.api(app.tradetally.call("POST", &keys).json(body)).await.expect(201);
    let id = made.text("/id").to_owned();
    let mut owner = site.owner(&app.tradetally, account).await;
    let new = "/dashboard/keys/new";
    let fields = [
        ("name", "\u{7}<script>alert(1)</script>"),
        ("access", ATTRIBUTE),
        ("scopes", ATTRIBUTE),
        ("expires", SCRIPT),
        ("expires_on", ATTRIBUTE),
        ("limit_amount", SCRIPT),
        ("limit_period", ATTRIBUTE),
    ];
    assert_escaped(&owner.submit(new, new, &fields).await.expect(400));
    let edit = format!("/dashboard/keys/{id}/edit");
    assert_escaped(&owner.submit(&edit, &edit, &fields).await.expect(400));
    let lower = format!("/dashboard/keys/{id}/limits");
    for text in [SCRIPT, ATTRIBUTE] {
        let fields = [("calls-default", text)];
        assert_escaped(&owner.submit(&lower, &lower, &fields).await.expect(400));
    }
    let typed = encode(&format!("{SCRIPT}{ATTRIBUTE}"));
    for path in [
        "/dashboard/keys?show=TYPED&done=TYPED&q=TYPED&sort=TYPED&page=TYPED",
        "/dashboard/holds?key=TYPED&q=TYPED&sort=TYPED&page=TYPED",
        "/dashboard/keys/ID?cursor=TYPED&events=TYPED",
        "/dashboard/keys/ID/purchases?since=TYPED&q=TYPED&cursor=TYPED",
        "/dashboard/balance?from=TYPED&to=TYPED&key=TYPED&kind=TYPED&q=TYPED&order=TYPED&cursor=TYPED",
        "/dashboard/log?q=TYPED&cursor=TYPED",
        "/dashboard/TYPED",
        "/dashboard/TYPED/login",
        "/dashboard/keys/TYPED",
        "/dashboard/enter?token=TYPED",
    ] {
        let path = path.replace("TYPED", &typed).replace("ID", &id);
        let page = owner.get(&path).await;
        assert!(matches!(page.status, 200 | 400 | 404 | 410), "{page:?}");
        assert_escaped(&page);
    }
    let page = owner.get("/dashboard/keys").await.expect(200);
    assert_escaped(&page);
    // The notice about a concurrent change quotes the new name of the key.
    let form = owner.get(&edit).await.expect(200);
    let name = format!("{SCRIPT}{ATTRIBUTE}");
    let rename = app.tradetally.call("PATCH", &format!("{keys}/{id}"));
    site.api(rename.json(json!({"name": name}))).await.expect(200);
    let fields = [("name", name.as_str()), ("access", "read"), ("expires", "never")];
    let refused = owner.send_form(&form, &edit, &fields).await.expect(409);
    assert_escaped(&refused);
    refused.says(&format!("name “{name}”"));
}

#[tokio::test]
async fn csv_download_neutralizes_spreadsheet_formulas() {
    let site = Site::start().await;
    site.app.wallet("20").await;
    let key = site.app.key(&site.app.tronagg, WALLET).await;
    for text in [FORMULA, "+1+1", "-1+1", "@SUM(A1)", "a;=1+1", "\"quoted\", and more"] {
        let body = json!({"amount": "1", "reference": text, "description": text});
        site.api(key.call("POST", "/v1/purchases").json(body)).await.expect(201);
    }
    let mut owner = site.owner(&site.app.tronagg, WALLET).await;
    for path in
        [format!("/dashboard/keys/{}/purchases.csv", key.id), "/dashboard/balance.csv".to_owned()]
    {
        let csv = owner.get(&path).await.expect(200).source;
        for safe in [
            "\"'=HYPERLINK(\"\"http://evil.example\"\")\"",
            "\"'+1+1\"",
            "\"'-1+1\"",
            "\"'@SUM(A1)\"",
            "\"a;'=1+1\"",
            "\"\"\"quoted\"\", and more\"",
        ] {
            assert!(csv.contains(safe), "{safe} in {csv}");
        }
        for raw in [",=", ",+", ",@", ",\"=", ",\"+", ",\"@"] {
            assert!(!csv.contains(raw), "{raw} in {csv}");
        }
    }
    site.app.check_ledger().await;
}
