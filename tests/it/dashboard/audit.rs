//! The service records every change in the dashboard as an audit event with its actor and address.

use serde_json::{Value, json};

use super::{visitor::Site, wallet::Wallet};
use crate::harness::WALLET;

async fn events(site: &Site) -> Vec<Value> {
    let path = "/v1/audit-events?limit=100";
    let answer = site.api(site.app.tronagg.call("GET", path)).await.expect(200);
    answer.data().iter().rev().cloned().collect()
}

/// Returns the audit events, except for the first `number` events.
async fn events_after(site: &Site, number: usize) -> Vec<Value> {
    events(site).await.split_off(number)
}

fn actions(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["action"].as_str().expect("an action")).collect()
}

#[tokio::test]
async fn every_dashboard_action_is_audited_with_its_actor_and_address() {
    let site = Site::start().await;
    site.app.wallet("5").await;
    let before = events(&site).await.len();
    let mut owner = site.owner(&site.app.tronagg, WALLET).await;
    let new = "/dashboard/keys/new";
    let fields = [("name", "a"), ("access", "read"), ("expires", "never")];
    owner.submit(new, new, &fields).await.expect(200);
    let made = events_after(&site, before).await.pop().expect("an event");
    let page = format!("/dashboard/keys/{}", made["target_id"].as_str().expect("an id"));
    let path_to = |action: &str| format!("{page}/{action}");
    let changed = [("name", "b"), ("access", "write"), ("expires", "keep")];
    owner.submit(&path_to("edit"), &path_to("edit"), &changed).await.expect(303);
    owner.submit(&page, &path_to("disable"), &[]).await.expect(303);
    owner.submit(&page, &path_to("enable"), &[]).await.expect(303);
    owner.submit(&path_to("rotate"), &path_to("rotate"), &[("grace", "3600")]).await.expect(200);
    owner.submit(&path_to("revoke"), &path_to("revoke"), &[("reason", "leaked")]).await.expect(303);
    let recorded = events_after(&site, before).await;
    let successor = recorded.iter().rev().find(|event| event["action"] == "api_key.create");
    let successor =
        successor.expect("the successor")["target_id"].as_str().expect("an id").to_owned();
    let compromised = format!("/dashboard/keys/{successor}/compromised");
    owner.submit(&compromised, &compromised, &[("replace", "on")]).await.expect(200);
    owner.submit("/dashboard/keys", "/dashboard/logout", &[]).await.expect(303);
    let mut owner = site.owner(&site.app.tronagg, WALLET).await;
    owner.submit("/dashboard/log", "/dashboard/logout-everywhere", &[]).await.expect(303);

    let events = events_after(&site, before).await;
    assert_eq!(
        actions(&events),
        [
            "dashboard_link.create",
            "session.open",
            "api_key.create",
            "api_key.change",
            "api_key.change",
            "api_key.change",
            "api_key.rotate",
            "api_key.create",
            "api_key.revoke",
            "api_key.revoke",
            "api_key.create",
            "session.close",
            "dashboard_link.create",
            "session.open",
            "session.close_all",
        ]
    );
    for event in &events {
        let by_backend = event["action"] == "dashboard_link.create";
        let actor = if by_backend { "admin_key" } else { "account_owner" };
        assert_eq!(event["actor"], actor, "{event}");
        assert_eq!(event["account"], WALLET, "{event}");
        assert_eq!(event["address"], "192.0.2.7", "{event}");
        assert!(event["request_id"].as_str().is_some_and(|id| id.starts_with("req_")), "{event}");
    }
    assert_eq!(events[1]["detail"], json!({"way": "dashboard_link"}));
    assert_eq!(events[8]["detail"]["reason"], "leaked");
    assert_eq!(events[9]["detail"]["reason"], "compromised");
    // The owner's security log also shows these events.
    let mut owner = site.owner(&site.app.tronagg, WALLET).await;
    let log = owner.get("/dashboard/log").await.expect(200);
    for text in ["Key created", "Key revoked", "Signed in", "leaked", "192.0.2.7"] {
        log.says(text);
    }
}

#[tokio::test]
async fn wallet_sign_in_and_settings_change_are_audited() {
    let site = Site::start().await;
    let before = events(&site).await.len();
    site.set_dashboard(&site.app.tronagg, json!({"wallet_sign_in": "create"})).await.expect(200);
    let (login, verify) = ("/dashboard/tronagg/login", "/dashboard/tronagg/login/verify");
    let mut visitor = site.visitor();
    visitor.address = "2001:db8::7".parse().expect("an address");
    let page = visitor.submit(login, login, &[("address", WALLET)]).await.expect(200);
    let signature = Wallet::first().sign(&page.message());
    let fields = [("signature", signature.as_str())];
    visitor.send_form(&page, verify, &fields).await.expect_redirect("/dashboard/keys");
    let events = events_after(&site, before).await;
    let mut recorded = actions(&events);
    recorded.sort_unstable();
    assert_eq!(recorded, ["account.create", "dashboard.change", "session.open"]);
    let opened = events.iter().find(|event| event["action"] == "session.open");
    let opened = opened.expect("an event of the sign-in");
    assert_eq!(opened["detail"], json!({"way": "wallet"}));
    assert_eq!(opened["address"], "2001:db8::7");
    let changed = events.iter().find(|event| event["action"] == "dashboard.change");
    assert_eq!(changed.expect("an event of the change")["actor"], "admin_key");
}

#[tokio::test]
async fn refused_and_ineffective_requests_are_not_audited() {
    let site = Site::start().await;
    site.app.wallet("5").await;
    let key = site.app.key(&site.app.tronagg, WALLET).await;
    let mut owner = site.owner(&site.app.tronagg, WALLET).await;
    let before = events(&site).await.len();
    let new = "/dashboard/keys/new";
    owner.submit(new, new, &[("name", "")]).await.expect(400);
    owner.post(new, &[("name", "a")]).await.expect(403);
    let edit = format!("/dashboard/keys/{}/edit", key.id);
    let same = [("name", "a key"), ("access", "write"), ("expires", "keep")];
    owner.submit(&edit, &edit, &same).await.expect(303);
    site.set_dashboard(&site.app.tronagg, json!({})).await.expect(200);
    owner.get("/dashboard/enter?token=x").await.expect(410);
    assert_eq!(events_after(&site, before).await, Vec::<Value>::new());
}
