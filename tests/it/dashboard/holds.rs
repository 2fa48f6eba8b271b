//! The list of an account's open holds, and the page that voids one of them.

use serde_json::{Value, json};

use super::visitor::{Site, Visitor};
use crate::harness::{OTHER_WALLET, WALLET, app::NewKey};

const PATH: &str = "/dashboard/holds";

async fn start() -> (Site, Visitor, NewKey) {
    let site = Site::start().await;
    site.app.wallet("20").await;
    let key = site.app.key(&site.app.tronagg, WALLET).await;
    let owner = site.owner(&site.app.tronagg, WALLET).await;
    (site, owner, key)
}

/// Places a hold. Returns its id.
async fn hold(site: &Site, key: &NewKey, body: Value) -> String {
    let call = key.call("POST", "/v1/holds").json(body);
    site.api(call).await.expect(201).text("/id").to_owned()
}

fn void(id: &str) -> String {
    format!("{PATH}/{id}/void")
}

#[tokio::test]
async fn owner_sees_open_holds_and_voids_one() {
    let (site, mut owner, key) = start().await;
    let other = site.app.key(&site.app.tronagg, WALLET).await;
    let key_page = format!("/dashboard/keys/{}", key.id);
    // Without open holds, the other pages do not mention holds.
    owner.get("/dashboard/balance").await.expect(200).does_not_say(PATH);
    owner.get(&key_page).await.expect(200).does_not_say("Open holds");
    owner.get(PATH).await.expect(200).says("No open holds.");

    let id = hold(&site, &key, json!({"amount": "4", "reference": "basket 7"})).await;
    let kept = hold(&site, &other, json!({"amount": "5"})).await;
    owner.get("/dashboard/balance").await.expect(200).says(PATH);
    let of_key = owner.get(&key_page).await.expect(200);
    let list = owner.get(PATH).await.expect(200);
    for page in [&of_key, &list] {
        for text in ["basket 7", "4 TRX", &id] {
            page.says(text);
        }
    }
    of_key.does_not_say(&kept);
    list.says(&kept);

    // The confirmation page names the hold.
    of_key.says(&void(&id));
    let asked = owner.get(&void(&id)).await.expect(200);
    for text in ["This cannot be undone.", "basket 7", "4 TRX", &id] {
        asked.says(text);
    }
    let confirmed = format!("{PATH}?done=voided&hold={id}");
    owner.send_form(&asked, &void(&id), &[]).await.expect_redirect(&confirmed);
    let list = owner.get(&confirmed).await.expect(200);
    list.says("The hold is voided.");
    list.does_not_say("basket 7");
    list.says(&kept);
    // Another submission of the form does not change the result.
    owner.send_form(&asked, &void(&id), &[]).await.expect_redirect(&confirmed);
    // A voided hold needs no confirmation, so its page redirects to the list.
    owner.get(&void(&id)).await.expect_redirect(PATH);
    let voided = site.api(key.call("GET", &format!("/v1/holds/{id}"))).await.expect(200);
    assert_eq!(voided.text("/void_reason"), "account_owner");
    let events = site.app.tronagg.call("GET", "/v1/audit-events?limit=100");
    let events = site.api(events).await.expect(200);
    let voids: Vec<_> =
        events.data().iter().filter(|event| event["action"] == "hold.void").collect();
    assert_eq!(voids.len(), 1);
    assert_eq!((&voids[0]["actor"], &voids[0]["target_id"]), (&json!("account_owner"), &json!(id)));
    owner.get("/dashboard/log").await.expect(200).says("Hold voided");
    site.app.check_ledger().await;
}

#[tokio::test]
async fn owner_of_a_suspended_account_voids_a_hold() {
    let (site, _, key) = start().await;
    let id = hold(&site, &key, json!({"amount": "4"})).await;
    let account = format!("/v1/accounts/{WALLET}");
    let suspend = site.app.tronagg.call("PATCH", &account).json(json!({"status": "suspended"}));
    site.api(suspend).await.expect(200);
    // The suspension has ended the session. A new link opens another session.
    let mut owner = site.owner(&site.app.tronagg, WALLET).await;
    owner.submit(&void(&id), &void(&id), &[]).await.expect(303);
    let found = site.api(site.app.tronagg.call("GET", &account)).await.expect(200);
    assert_eq!(found.text("/balance/held"), "0.000000");
    site.app.check_ledger().await;
}

#[tokio::test]
async fn captured_hold_is_not_voided_and_the_page_says_why() {
    let (site, mut owner, key) = start().await;
    let id = hold(&site, &key, json!({"amount": "4"})).await;
    let asked = owner.get(&void(&id)).await.expect(200);
    let capture = key.call("POST", &format!("/v1/holds/{id}/capture"));
    site.api(capture).await.expect(200);
    let refused = owner.send_form(&asked, &void(&id), &[]).await.expect(409);
    refused.says("A program already used this hold for a purchase");
    // A link with the parameter `done` cannot show a false notice.
    owner.get(&format!("{PATH}?done=voided&hold={id}")).await.expect(200).does_not_say("is voided");
    site.app.check_ledger().await;
}

#[tokio::test]
async fn hold_of_another_account_returns_404() {
    let (site, _, key) = start().await;
    let id = hold(&site, &key, json!({"amount": "4"})).await;
    site.app.account(&site.app.tronagg, OTHER_WALLET, "5").await;
    let other_key = site.app.key(&site.app.tronagg, OTHER_WALLET).await;
    let own = hold(&site, &other_key, json!({"amount": "1"})).await;
    let mut other = site.owner(&site.app.tronagg, OTHER_WALLET).await;
    let csrf = other.get(&void(&own)).await.expect(200).field(&void(&own), "csrf");
    for id in [id.as_str(), "hld_01h455vb4pex5vsknk084sn02q", "x", other_key.id.as_str()] {
        other.get(&void(id)).await.expect(404);
        other.post(&void(id), &[("csrf", &csrf)]).await.expect(404);
    }
    other.post(&void(&own), &[("csrf", "x")]).await.expect(403);
    let held = site.api(key.call("GET", &format!("/v1/holds/{id}"))).await.expect(200);
    assert_eq!(held.text("/status"), "open");
    site.app.check_ledger().await;
}

#[tokio::test]
async fn reporting_a_key_as_compromised_voids_its_open_holds() {
    let (site, mut owner, key) = start().await;
    let other = site.app.key(&site.app.tronagg, WALLET).await;
    let id = hold(&site, &key, json!({"amount": "15", "expires_in": 604_800})).await;
    let form = format!("/dashboard/keys/{}/compromised", key.id);
    owner.submit(&form, &form, &[("replace", "on")]).await.expect(200);
    let voided = site.api(other.call("GET", &format!("/v1/holds/{id}"))).await.expect(200);
    assert_eq!(voided.text("/void_reason"), "key_compromised");
    site.api(other.buy("20")).await.expect(201);
    let log = owner.get("/dashboard/log").await.expect(200);
    log.says("Holds voided: 1");
    log.says("Amount released: 15 TRX");
    site.app.check_ledger().await;
}

#[tokio::test]
async fn long_list_of_open_holds_is_split_into_pages() {
    let (site, mut owner, key) = start().await;
    let mut ids = Vec::new();
    for _ in 0..51 {
        ids.push(hold(&site, &key, json!({"amount": "0.01"})).await);
    }
    let first = owner.get(PATH).await.expect(200);
    first.says(&ids[1]);
    first.does_not_say(&format!("{}/void", ids[0]));
    let second = owner.get(&format!("{PATH}?page=2")).await.expect(200);
    second.says(&ids[0]);
    second.does_not_say(&ids[2]);
    let sorted = owner.get(&format!("{PATH}?sort=expiry")).await.expect(200);
    sorted.says(&ids[0]);
    sorted.does_not_say(&format!("{}/void", ids[50]));
    let found = owner.get(&format!("{PATH}?q={}", ids[7])).await.expect(200);
    found.says(&ids[7]);
    found.does_not_say(&format!("{}/void", ids[8]));
    let of_key = owner.get(&format!("/dashboard/keys/{}", key.id)).await.expect(200);
    of_key.says(&format!("{PATH}?key={}", key.id));
    site.app.check_ledger().await;
}
