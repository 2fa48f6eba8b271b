//! Tests of the form that reports a key as compromised, and of the list of the key's purchases.

use serde_json::json;
use time::Duration;

use super::{
    times,
    visitor::{Page, Site, Visitor, find_key},
};
use crate::harness::{Call, WALLET, app::NewKey};

async fn start() -> (Site, Visitor, NewKey) {
    let site = Site::start().await;
    site.app.wallet("20").await;
    let body = json!({"name": "bot", "scopes": ["write"], "metadata": {"team": "x"},
        "spend_limit": {"amount": "15", "period": "month"}});
    let key = site.app.key_with(&site.app.tronagg, WALLET, body).await;
    let owner = site.owner(&site.app.tronagg, WALLET).await;
    (site, owner, key)
}

async fn buy(site: &Site, key: &NewKey, reference: &str) {
    let call = key.call("POST", "/v1/purchases");
    let body = json!({"amount": "1.5", "reference": reference, "description": "what it was"});
    site.api(call.json(body)).await.expect(201);
}

fn path(key: &NewKey, rest: &str) -> String {
    format!("/dashboard/keys/{}/{rest}", key.id)
}

/// Moves all existing purchases two days into the past.
async fn age_purchases(site: &Site) {
    let update = "SET session_replication_role = replica;
        UPDATE purchases SET created_at = created_at - interval '2 days';
        UPDATE ledger_entries SET created_at = created_at - interval '2 days';
        SET session_replication_role = DEFAULT";
    sqlx::raw_sql(update).execute(&site.app.pool).await.expect("the update succeeds");
}

#[tokio::test]
async fn compromised_key_is_revoked_immediately_and_replaced_with_the_same_settings() {
    let (site, mut owner, key) = start().await;
    buy(&site, &key, "mine").await;
    let form = path(&key, "compromised");
    let done = owner.submit(&form, &form, &[("replace", "on")]).await.expect(200);
    let new = done.key("ta_");
    assert_ne!(new, key.text);
    site.api(key.call("GET", "/v1/me")).await.expect_problem(401, "invalid_api_key");
    let me = Call::new("GET", "/v1/me").header("X-API-Key", &new);
    let me = site.api(me).await.expect(200);
    assert_eq!(me.text("/key/name"), "bot");
    assert_eq!(me.json["key"]["scopes"], json!(["write"]));
    let list = format!("/v1/accounts/{WALLET}/keys?status=all");
    let keys = site.api(site.app.tronagg.call("GET", &list)).await.expect(200);
    let [new, old] = keys.data() else { panic!("{keys:?}") };
    assert_eq!(new["metadata"], json!({"team": "x"}));
    assert_eq!(new["spend_limit"]["amount"], "15.000000");
    assert_eq!(new["spend_limit"]["period"], "month");
    for setting in ["name", "scopes", "expires_at", "metadata"] {
        assert_eq!(new[setting], old[setting], "{setting}");
    }
    assert_eq!(old["revoked_reason"], "compromised");
    done.says("mine");
    done.says("1.5 TRX");
    site.app.check_ledger().await;
}

#[tokio::test]
async fn compromised_key_is_revoked_even_if_no_replacement_is_requested() {
    let (site, mut owner, key) = start().await;
    let form = path(&key, "compromised");
    let done = owner.submit(&form, &form, &[]).await.expect(200);
    assert_eq!(find_key(&done.source, "ta_"), None);
    site.api(key.call("GET", "/v1/me")).await.expect_problem(401, "invalid_api_key");
    let list = format!("/v1/accounts/{WALLET}/keys?status=all");
    let keys = site.api(site.app.tronagg.call("GET", &list)).await.expect(200);
    assert_eq!(keys.data().len(), 1);
}

/// Whether the page offers a replacement for the key.
fn offers_replacement(page: &Page) -> bool {
    page.source.contains("id=\"replace\"")
}

#[tokio::test]
async fn rotated_key_is_replaced_only_after_its_successor_is_revoked() {
    let (site, mut owner, key) = start().await;
    let rotate = path(&key, "rotate");
    let rotated = owner.submit(&rotate, &rotate, &[("grace", "3600")]).await.expect(200);
    let successor = rotated.key("ta_");
    let list = format!("/v1/accounts/{WALLET}/keys?status=all");
    let keys = site.api(site.app.tronagg.call("GET", &list)).await.expect(200);
    let id = keys.data()[0]["id"].as_str().expect("an id").to_owned();
    let form = path(&key, "compromised");
    let form_page = owner.get(&form).await.expect(200);
    // A form that was opened before the rotation may still submit a request for a replacement.
    let done = owner.send_form(&form_page, &form, &[("replace", "on")]).await.expect(200);
    for page in [&form_page, &done] {
        page.says("Its replacement still works");
        page.says(&format!("href=\"/dashboard/keys/{id}\""));
    }
    assert!(!offers_replacement(&form_page), "{form_page:?}");
    assert_eq!(find_key(&done.source, "ta_"), None);
    site.api(key.call("GET", "/v1/me")).await.expect_problem(401, "invalid_api_key");
    let me = Call::new("GET", "/v1/me").header("X-API-Key", &successor);
    site.api(me).await.expect(200);

    let revoke = format!("/v1/accounts/{WALLET}/keys/{id}/revoke");
    site.api(site.app.tronagg.call("POST", &revoke).json(json!({}))).await.expect(200);
    assert!(offers_replacement(&owner.get(&form).await.expect(200)));
    let done = owner.submit(&form, &form, &[("replace", "on")]).await.expect(200);
    done.does_not_say("We did not create a new key");
    let me = Call::new("GET", "/v1/me").header("X-API-Key", &done.key("ta_"));
    let me = site.api(me).await.expect(200);
    // The new key does not expire at the end of the old key's grace period.
    assert!(me.json["key"]["expires_at"].is_null(), "{me:?}");
}

#[tokio::test]
async fn replacement_is_enabled_and_is_offered_only_if_it_can_be_created() {
    let (site, mut owner, key) = start().await;
    let pause = site.app.tronagg.call("PATCH", &key.path).json(json!({"enabled": false}));
    site.api(pause).await.expect(200);
    let form = path(&key, "compromised");
    let form_page = owner.get(&form).await.expect(200);
    form_page.says("This key is disabled, but the new key will be enabled.");
    let done = owner.send_form(&form_page, &form, &[("replace", "on")]).await.expect(200);
    let me = Call::new("GET", "/v1/me").header("X-API-Key", &done.key("ta_"));
    site.api(me).await.expect(200);

    // The revoked key no longer counts toward the key limit, so a replacement needs room below the
    // limit.
    assert!(offers_replacement(&owner.get(&form).await.expect(200)));
    for _ in 0..4 {
        site.app.key(&site.app.tronagg, WALLET).await;
    }
    let full = owner.get(&form).await.expect(200);
    full.says("the account has reached its key limit (5)");
    assert!(!offers_replacement(&full), "{full:?}");

    let account = format!("/v1/accounts/{WALLET}");
    let suspend = site.app.tronagg.call("PATCH", &account).json(json!({"status": "suspended"}));
    site.api(suspend).await.expect(200);
    let mut owner = site.owner(&site.app.tronagg, WALLET).await;
    let suspended = owner.get(&form).await.expect(200);
    suspended.says("We cannot create a new key: the account is suspended.");
    assert!(!offers_replacement(&suspended), "{suspended:?}");
}

#[tokio::test]
async fn purchases_of_a_key_can_be_filtered_by_day_and_downloaded() {
    let (site, mut owner, key) = start().await;
    let other = site.app.key(&site.app.tronagg, WALLET).await;
    buy(&site, &key, "early").await;
    buy(&site, &other, "by another key").await;
    age_purchases(&site).await;
    buy(&site, &key, "late").await;
    let yesterday = (times::now(&site.app).await - Duration::days(1)).date().to_string();
    for (query, shows_early) in [(String::new(), true), (format!("?since={yesterday}"), false)] {
        for file in ["purchases", "purchases.csv"] {
            let page = owner.get(&path(&key, &format!("{file}{query}"))).await.expect(200);
            page.says("late");
            assert_eq!(page.source.contains("early"), shows_early, "{page:?}");
            page.does_not_say("by another key");
        }
    }
    let csv = owner.get(&path(&key, "purchases.csv")).await.expect(200).source;
    let lines: Vec<&str> = csv.split("\r\n").collect();
    assert_eq!(lines.len(), 1 + 2 + 1, "{csv}");
    assert!(lines[0].starts_with("id,created_at,amount,currency,"), "{csv}");
    assert!(lines[1].contains(",1.500000,TRX,") && lines[1].contains(",late,"), "{csv}");
    assert_eq!(lines[3], "", "the last line ends with CRLF");

    let form = path(&key, "compromised");
    let page = owner.submit(&form, &form, &[("since", "last week")]).await.expect(400);
    assert!(page.source.contains("id=\"since-error\""), "{page:?}");
    // The refused form did not revoke the key.
    site.api(key.call("GET", "/v1/me")).await.expect(200);
    let done = owner.submit(&form, &form, &[("since", yesterday.as_str())]).await.expect(200);
    done.says("late");
    done.does_not_say("early");
    owner.get(&path(&key, "purchases?since=last+week")).await.expect(400);
    site.app.check_ledger().await;
}

#[tokio::test]
async fn statement_can_be_filtered_and_downloaded() {
    let (site, mut owner, key) = start().await;
    let other = site.app.key(&site.app.tronagg, WALLET).await;
    buy(&site, &key, "of the first").await;
    buy(&site, &other, "of the second").await;
    let today = times::now(&site.app).await.date();
    let (today, old) = (today.to_string(), (today - Duration::days(9)).to_string());
    for (query, first, second, credit) in [
        (String::new(), true, true, true),
        (format!("?key={}", key.id), true, false, false),
        ("?kind=purchase".to_owned(), true, true, false),
        ("?kind=credit".to_owned(), false, false, true),
        (format!("?from={today}"), true, true, true),
        (format!("?from={old}&to={old}"), false, false, false),
    ] {
        for page in ["balance", "balance.csv"] {
            let shown = owner.get(&format!("/dashboard/{page}{query}")).await.expect(200);
            assert_eq!(shown.source.contains("of the first"), first, "{query}: {shown:?}");
            assert_eq!(shown.source.contains("of the second"), second, "{query}: {shown:?}");
            if page == "balance.csv" {
                assert_eq!(shown.source.contains(",credit,"), credit, "{query}: {shown:?}");
            }
        }
    }
    let page = owner.get("/dashboard/balance").await.expect(200);
    page.says("17 TRX");
    let absent = "key_01h455vb4pex5vsknk084sn02q";
    for (query, field) in [
        (format!("key={absent}"), "key"),
        ("key=x".to_owned(), "key"),
        ("kind=x".to_owned(), "kind"),
    ] {
        for page in ["balance", "balance.csv"] {
            let wrong = owner.get(&format!("/dashboard/{page}?{query}")).await.expect(400);
            assert!(wrong.source.contains(&format!("id=\"{field}-error\"")), "{query}: {wrong:?}");
        }
    }
    // The page also accepts the smallest possible cursor.
    owner.get(&format!("/dashboard/balance?cursor={}", i64::MIN)).await.expect(200);
    site.app.check_ledger().await;
}
