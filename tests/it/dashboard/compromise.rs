//! A key that somebody else has seen, and what it has bought.

use serde_json::json;
use time::Duration;

use super::{
    times,
    visitor::{Site, Visitor},
};
use crate::harness::{Call, WALLET, app::NewKey};

async fn start() -> (Site, Visitor, NewKey) {
    let site = Site::start().await;
    site.app.wallet("20").await;
    let body = json!({"name": "bot", "scopes": ["write"], "metadata": {"team": "x"},
        "spend_limit": {"amount": "15", "period": "total"}});
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

/// As if all that was bought until now had been bought two days earlier.
async fn age_purchases(site: &Site) {
    let moved = "SET session_replication_role = replica;
        UPDATE purchases SET created_at = created_at - interval '2 days';
        UPDATE ledger_entries SET created_at = created_at - interval '2 days';
        SET session_replication_role = DEFAULT";
    sqlx::raw_sql(moved).execute(&site.app.pool).await.expect("it is moved");
}

#[tokio::test]
async fn it_is_revoked_at_once_and_replaced_by_one_like_it() {
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
    assert_eq!(new["spend_limit"]["amount"], "15.000000");
    assert_eq!(old["revoked_reason"], "compromised");
    done.says("mine");
    done.says("1.500000");
    site.app.check_ledger().await;
}

#[tokio::test]
async fn without_a_new_key_it_is_revoked_all_the_same() {
    let (site, mut owner, key) = start().await;
    let form = path(&key, "compromised");
    owner.submit(&form, &form, &[]).await.expect(200).does_not_say("ta_A");
    site.api(key.call("GET", "/v1/me")).await.expect_problem(401, "invalid_api_key");
    let list = format!("/v1/accounts/{WALLET}/keys?status=all");
    let keys = site.api(site.app.tronagg.call("GET", &list)).await.expect(200);
    assert_eq!(keys.data().len(), 1);
}

#[tokio::test]
async fn what_it_has_bought_is_listed_since_a_day_and_downloaded() {
    let (site, mut owner, key) = start().await;
    let other = site.app.key(&site.app.tronagg, WALLET).await;
    buy(&site, &key, "early").await;
    buy(&site, &other, "by another key").await;
    age_purchases(&site).await;
    buy(&site, &key, "late").await;
    let yesterday = (times::now(&site.app).await - Duration::days(1)).date().to_string();
    for (query, early) in [(String::new(), true), (format!("?since={yesterday}"), false)] {
        for file in ["purchases", "purchases.csv"] {
            let page = owner.get(&path(&key, &format!("{file}{query}"))).await.expect(200);
            page.says("late");
            assert_eq!(page.source.contains("early"), early, "{page:?}");
            page.does_not_say("by another key");
        }
    }
    let csv = owner.get(&path(&key, "purchases.csv")).await.expect(200).source;
    let lines: Vec<&str> = csv.split("\r\n").collect();
    assert_eq!(lines.len(), 1 + 2 + 1, "{csv}");
    assert!(lines[0].starts_with("id,created_at,amount,currency,"), "{csv}");
    assert!(lines[1].contains(",1.500000,TRX,") && lines[1].contains(",late,"), "{csv}");
    assert_eq!(lines[3], "", "the last line ends");

    let form = path(&key, "compromised");
    let page = owner.submit(&form, &form, &[("since", "last week")]).await.expect(400);
    assert!(page.source.contains("id=\"since-error\""), "{page:?}");
    // Nothing was done yet.
    site.api(key.call("GET", "/v1/me")).await.expect(200);
    let done = owner.submit(&form, &form, &[("since", yesterday.as_str())]).await.expect(200);
    done.says("late");
    done.does_not_say("early");
    owner.get(&path(&key, "purchases?since=last+week")).await.expect(400);
    site.app.check_ledger().await;
}

#[tokio::test]
async fn the_statement_is_filtered_and_downloaded() {
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
    page.says("17.000000");
    site.app.check_ledger().await;
}
