//! Owners can search, sort and page the lists. The list of keys shows figures for each key.

use serde_json::{Value, json};

use super::visitor::{Site, Visitor};
use crate::harness::{WALLET, app::NewKey};

async fn start() -> (Site, Visitor) {
    let site = Site::start().await;
    site.app.wallet("100").await;
    let owner = site.owner(&site.app.tronagg, WALLET).await;
    (site, owner)
}

async fn key(site: &Site, name: &str) -> NewKey {
    site.app.key_with(&site.app.tronagg, WALLET, json!({"name": name})).await
}

/// Creates keys with these names and revokes them, since an account may have only five live keys.
async fn revoked_keys(site: &Site, names: &[&str]) -> Vec<NewKey> {
    let mut keys = Vec::new();
    for name in names {
        let key = key(site, name).await;
        let revoke = site.app.tronagg.call("POST", &format!("{}/revoke", key.path));
        site.api(revoke).await.expect(200);
        keys.push(key);
    }
    keys
}

async fn buy(site: &Site, key: &NewKey, body: Value) -> String {
    let bought = site.api(key.call("POST", "/v1/purchases").json(body)).await;
    bought.expect(201).text("/id").to_owned()
}

/// Returns the values of an attribute of the rows, in the order of the page.
async fn rows(owner: &mut Visitor, path: &str, attribute: &str) -> Vec<String> {
    let page = owner.get(path).await.expect(200);
    let start = format!("<tr {attribute}=\"");
    let rows = page.source.split(&start).skip(1);
    rows.map(|row| row.split('"').next().expect("a value").to_owned()).collect()
}

#[tokio::test]
async fn keys_can_be_searched_by_name_id_and_hint() {
    let (site, mut owner) = start().await;
    let keys = revoked_keys(&site, &["Grid bot", "grid <2>", "Watcher"]).await;
    let hint = format!("{}…{}", &keys[2].text[..7], &keys[2].text[42..]);
    let ids: Vec<&str> = keys.iter().map(|key| key.id.as_str()).collect();
    for (text, expected) in [
        ("GRID", vec![ids[1], ids[0]]),
        ("<2", vec![ids[1]]),
        (ids[0], vec![ids[0]]),
        (&hint, vec![ids[2]]),
        ("", vec![ids[2], ids[1], ids[0]]),
    ] {
        let path = format!("/dashboard/keys?show=all&q={}", super::visitor::encode(text));
        assert_eq!(rows(&mut owner, &path, "data-key").await, expected, "{text}");
    }
    let none = owner.get("/dashboard/keys?show=all&q=nowhere").await.expect(200);
    none.says("No keys match.");
    assert!(none.source.contains("type=\"search\" value=\"nowhere\""), "{none:?}");
}

#[tokio::test]
async fn keys_can_be_sorted_by_name_last_use_and_expiry() {
    let (site, mut owner) = start().await;
    let b = key(&site, "b").await;
    let body = json!({"name": "A", "expires_in": 900_000});
    let a = site.app.key_with(&site.app.tronagg, WALLET, body).await;
    let body = json!({"name": "c", "expires_in": 90_000});
    let c = site.app.key_with(&site.app.tronagg, WALLET, body).await;
    sqlx::query(
        "INSERT INTO api_key_last_used (account_id, key_id, last_used_at)
         SELECT account_id, key_id, now() - interval '1 hour' * (name = 'A')::int
         FROM api_keys WHERE name IN ('A', 'b')",
    )
    .execute(&site.app.pool)
    .await
    .expect("the last uses");
    for (sort, expected) in [
        ("name", [&a, &b, &c]),
        ("last_used", [&b, &a, &c]),
        ("expiry", [&c, &a, &b]),
        ("", [&c, &a, &b]),
        ("unknown", [&c, &a, &b]),
    ] {
        let sorted = rows(&mut owner, &format!("/dashboard/keys?sort={sort}"), "data-key").await;
        assert_eq!(sorted, expected.map(|key| key.id.clone()), "{sort}");
    }
}

#[tokio::test]
async fn long_list_of_keys_shows_a_search_form_and_numbered_pages() {
    let (site, mut owner) = start().await;
    let few = owner.get("/dashboard/keys?show=all").await.expect(200);
    assert!(!few.source.contains("id=\"search\""), "{few:?}");
    let names: Vec<String> = (0..52).map(|number| format!("key {number:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    revoked_keys(&site, &names).await;
    let first = owner.get("/dashboard/keys?show=all&sort=name").await.expect(200);
    assert!(first.source.contains("id=\"search\""), "{first:?}");
    first.says("key 49");
    first.does_not_say("key 50");
    first.says("Next page");
    first.does_not_say("Previous page");
    let second = owner.get("/dashboard/keys?show=all&sort=name&page=2").await.expect(200);
    second.says("key 51");
    second.does_not_say("key 49");
    second.says("Previous page");
    let beyond = owner.get("/dashboard/keys?show=all&sort=name&page=99").await.expect(200);
    assert_eq!(beyond.text(), second.text(), "a page after the last one is the last one");
    second.does_not_say("Next page");
}

#[tokio::test]
async fn statement_can_be_searched_by_reference_and_id_and_sorted_in_both_directions() {
    let (site, mut owner) = start().await;
    let key = key(&site, "bot").await;
    let mut ids = Vec::new();
    for number in 0..60 {
        let reference = if number % 30 == 7 { "Needle" } else { "hay" };
        ids.push(buy(&site, &key, json!({"amount": "0.5", "reference": reference})).await);
    }
    let found = rows(&mut owner, "/dashboard/balance?q=needle", "data-cause").await;
    assert_eq!(found, [ids[37].as_str(), ids[7].as_str()]);
    let found = rows(&mut owner, "/dashboard/balance?q=needle&order=asc", "data-cause").await;
    assert_eq!(found, [ids[7].as_str(), ids[37].as_str()]);
    let by_id = format!("/dashboard/balance?q={}", ids[20]);
    assert_eq!(rows(&mut owner, &by_id, "data-cause").await, [ids[20].as_str()]);

    // The oldest entry is the first top-up of the account. The next page contains newer entries.
    let oldest = owner.get("/dashboard/balance?order=asc").await.expect(200);
    oldest.says("Newer entries");
    let next = oldest.source.split("cursor=").nth(1).expect("a link to the next page");
    let next: String = next.chars().take_while(char::is_ascii_digit).collect();
    let path = format!("/dashboard/balance?order=asc&cursor={next}");
    let second = rows(&mut owner, &path, "data-cause").await;
    assert_eq!(second.first(), Some(&ids[49]));
    assert_eq!(second.last(), Some(&ids[59]));

    let purchases = format!("/dashboard/keys/{}/purchases?q=NEEDLE", key.id);
    let found = rows(&mut owner, &purchases, "data-purchase").await;
    assert_eq!(found, [ids[37].as_str(), ids[7].as_str()]);
    let none = format!("/dashboard/keys/{}/purchases?q=nowhere", key.id);
    owner.get(&none).await.expect(200).says("No purchases match.");
    owner.get("/dashboard/balance?q=nowhere").await.expect(200).says("No entries match.");
}

#[tokio::test]
async fn security_log_can_be_searched_by_event_key_and_detail() {
    let (site, mut owner) = start().await;
    let bot = key(&site, "Grid bot").await;
    key(&site, "Watcher").await;
    let revoke = site.app.tronagg.call("POST", &format!("{}/revoke", bot.path));
    site.api(revoke.json(json!({"reason": "it leaked"}))).await.expect(200);
    let found = owner.get("/dashboard/log?q=LEAKED").await.expect(200);
    found.says("Key revoked");
    found.does_not_say("Key created");
    let found = owner.get("/dashboard/log?q=watcher").await.expect(200);
    found.says("Key created");
    found.does_not_say("Key revoked");
    owner.get("/dashboard/log?q=nowhere").await.expect(200).says("No events match.");
}

#[tokio::test]
async fn list_shows_the_call_and_its_time_immediately_after_a_purchase() {
    let (site, mut owner) = start().await;
    let key = key(&site, "bot").await;
    owner.get("/dashboard/keys").await.expect(200).says("0 calls");
    buy(&site, &key, json!({"amount": "9"})).await;
    // The node keeps its counts of calls in memory until it writes them.
    let counted: i64 = sqlx::query_scalar("SELECT count(*) FROM api_key_usage")
        .fetch_one(&site.app.pool)
        .await
        .expect("the counts");
    assert_eq!(counted, 0);
    let list = owner.get("/dashboard/keys").await.expect(200);
    list.says("1 call");
    list.says("9 TRX");
    list.says("just now");
    let revoke = owner.get(&format!("/dashboard/keys/{}/revoke", key.id)).await.expect(200);
    revoke.says("just now");
    let page = owner.get(&format!("/dashboard/keys/{}", key.id)).await.expect(200);
    let figures: Vec<&str> = page.source.split("class=\"figure\">").skip(1).collect();
    assert!(figures[0].starts_with("1</span>"), "{page:?}");
    page.says("just now");
}

#[tokio::test]
async fn amounts_have_no_trailing_zeros() {
    let (site, mut owner) = start().await;
    let key = key(&site, "bot").await;
    buy(&site, &key, json!({"amount": "18"})).await;
    buy(&site, &key, json!({"amount": "0.25"})).await;
    let balance = owner.get("/dashboard/balance").await.expect(200);
    for amount in ["81.75 TRX", "82 TRX", "−18 TRX", "−0.25 TRX", "+100 TRX"] {
        balance.says(amount);
    }
    assert!(!balance.text().contains("000 TRX"), "{balance:?}");
}

#[tokio::test]
async fn search_for_a_whole_key_redirects_to_a_search_for_its_hint() {
    let (site, mut owner) = start().await;
    let key = key(&site, "bot").await;
    let hint = format!("{}…{}", &key.text[..7], &key.text[42..]);
    let purchases = format!("/dashboard/keys/{}/purchases", key.id);
    let lists = ["/dashboard/keys", "/dashboard/holds", "/dashboard/balance", "/dashboard/log"];
    for path in lists.into_iter().chain([purchases.as_str()]) {
        let search = owner.get(&format!("{path}?q=+{}&page=2", key.text)).await;
        search.does_not_say(&key.text);
        let to = format!("{path}?q={}&page=2", hint.replace('…', "%E2%80%A6"));
        search.expect_redirect(&to);
    }
    let found = owner.get(&format!("/dashboard/keys?q={}", super::visitor::encode(&hint))).await;
    found.expect(200).says(&key.id);
}

#[tokio::test]
async fn search_continues_after_the_entries_that_one_request_reads() {
    let (site, mut owner) = start().await;
    let key = key(&site, "bot").await;
    let needle = buy(&site, &key, json!({"amount": "0.000001", "reference": "Needle"})).await;
    // One request reads 2,000 entries.
    for _ in 0..21 {
        let hay = || buy(&site, &key, json!({"amount": "0.000001", "reference": "hay"}));
        futures_util::future::join_all((0..100).map(|_| hay())).await;
    }
    let first = owner.get("/dashboard/balance?q=needle").await.expect(200);
    first.says("No match in the entries searched so far.");
    let next = first.source.split("rel=\"next\" href=\"").nth(1).expect("a link to the next page");
    let (next, _) = next.split_once('"').expect("the link ends");
    let next = next.replace("&#38;", "&").replace("&amp;", "&");
    assert_eq!(rows(&mut owner, &next, "data-cause").await, [needle.as_str()]);
}
