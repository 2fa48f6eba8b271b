//! Changes to accounts and keys write audit events, which a tenant can list and filter.

use serde_json::{Value, json};

use crate::harness::{App, OTHER_WALLET, WALLET};

async fn events(app: &App, query: &str) -> Vec<Value> {
    let path = format!("/v1/audit-events?limit=100{query}");
    app.send(app.tronagg.call("GET", &path)).await.expect(200).data().to_vec()
}

fn actions(events: &[Value]) -> Vec<&str> {
    events
        .iter()
        .rev()
        .map(|event| event["action"].as_str().expect("the member is a string"))
        .collect()
}

#[tokio::test]
async fn every_account_and_key_change_writes_an_audit_event() {
    let app = App::start().await;
    let wallet = app.wallet("5").await;
    let key = app.key(&app.tronagg, wallet).await;
    let patch = |body: Value| app.send(app.tronagg.call("PATCH", &key.path).json(body));
    patch(json!({"name": "renamed", "enabled": false})).await.expect(200);
    patch(json!({"enabled": true})).await.expect(200);
    let rotate = app.tronagg.call("POST", &format!("{}/rotate", key.path));
    app.send(rotate.json(json!({"grace_seconds": 60}))).await.expect(201);
    let revoke = app.tronagg.call("POST", &format!("{}/revoke", key.path));
    app.send(revoke.json(json!({"reason": "leaked"}))).await.expect(200);
    for status in ["suspended", "active"] {
        let path = format!("/v1/accounts/{wallet}");
        app.send(app.tronagg.call("PATCH", &path).json(json!({"status": status})))
            .await
            .expect(200);
    }
    let events = events(&app, "").await;
    assert_eq!(
        actions(&events),
        [
            "tenant.create",
            "admin_key.create",
            "account.create",
            "account.credit",
            "api_key.create",
            "api_key.change",
            "api_key.change",
            "api_key.rotate",
            "api_key.create",
            "api_key.revoke",
            "account.suspend",
            "account.activate",
        ]
    );
    let first = &events[events.len() - 1];
    assert_eq!((&first["actor"], &first["address"]), (&json!("cli"), &Value::Null));
    assert_eq!(events[3]["detail"]["rotated_from"], json!(key.id));
    let change = &events[6];
    assert_eq!(change["actor"], "admin_key");
    assert!(change["admin_key_id"].as_str().expect("the id is a string").starts_with("adm_"));
    assert_eq!(change["account"], WALLET);
    assert_eq!(change["target_id"], json!(key.id));
    assert_eq!(change["address"], "192.0.2.7");
    assert!(change["request_id"].as_str().expect("the id is a string").starts_with("req_"));
    assert_eq!(
        change["detail"],
        json!({
            "name": {"from": "a key", "to": "renamed"},
            "enabled": {"from": true, "to": false},
        })
    );
    assert_eq!(events[2]["detail"]["reason"], "leaked");
}

#[tokio::test]
async fn rotation_of_a_disabled_key_records_that_the_new_key_is_disabled() {
    let app = App::start().await;
    let key = app.key(&app.tronagg, app.wallet("0").await).await;
    let disable = app.tronagg.call("PATCH", &key.path).json(json!({"enabled": false}));
    app.send(disable).await.expect(200);
    let rotate = app.tronagg.call("POST", &format!("{}/rotate", key.path));
    app.send(rotate.json(json!({"grace_seconds": 60}))).await.expect(201);
    let events = events(&app, "").await;
    let created: Vec<&Value> =
        events.iter().filter(|event| event["action"] == "api_key.create").collect();
    assert_eq!(created.len(), 2);
    assert_eq!(created[0]["detail"]["rotated_from"], json!(key.id));
    assert_eq!(created[0]["detail"]["enabled"], json!(false));
    assert_eq!(created[1]["detail"].get("enabled"), None);
}

#[tokio::test]
async fn request_without_an_effect_writes_no_audit_event() {
    let app = App::start().await;
    let wallet = app.wallet("0").await;
    let key = app.key(&app.tronagg, wallet).await;
    let revoke = || app.send(app.tronagg.call("POST", &format!("{}/revoke", key.path)));
    let unchanged =
        app.tronagg.call("PATCH", &key.path).json(json!({"name": "a key", "enabled": true}));
    app.send(unchanged).await.expect(200);
    revoke().await.expect(200);
    let before = events(&app, "").await.len();
    revoke().await.expect(200);
    app.wallet("0").await;
    let active = app.tronagg.call("PATCH", &format!("/v1/accounts/{wallet}"));
    app.send(active.json(json!({"status": "active"}))).await.expect(200);
    // A refused change also writes no event.
    let patch = app.tronagg.call("PATCH", &key.path).json(json!({"name": "x"}));
    app.send(patch).await.expect_problem(409, "key_not_live");
    assert_eq!(events(&app, "").await.len(), before);
    assert_eq!(actions(&events(&app, "").await)[3..], ["api_key.create", "api_key.revoke"]);
}

#[tokio::test]
async fn audit_events_can_be_filtered_by_account_and_by_key() {
    let app = App::start().await;
    let wallet = app.wallet("0").await;
    app.account(&app.tronagg, OTHER_WALLET, "0").await;
    let key = app.key(&app.tronagg, wallet).await;
    app.key(&app.tronagg, wallet).await;
    app.key(&app.tronagg, OTHER_WALLET).await;
    let by_account = events(&app, &format!("&account={wallet}")).await;
    assert_eq!(actions(&by_account), ["account.create", "api_key.create", "api_key.create"]);
    let by_key = events(&app, &format!("&key_id={}", key.id)).await;
    assert_eq!(actions(&by_key), ["api_key.create"]);
    let by_both = events(&app, &format!("&key_id={}&account={OTHER_WALLET}", key.id)).await;
    assert_eq!(by_both, Vec::<Value>::new());
    for invalid in
        ["account=user-1", "key_id=x", "key_id=pur_01h455vb4pex5vsknk084sn02q", "actor=cli"]
    {
        let answer =
            app.send(app.tronagg.call("GET", &format!("/v1/audit-events?{invalid}"))).await;
        answer.expect_problem(422, "validation_failed");
    }
}

#[tokio::test]
async fn audit_event_pages_contain_every_event_in_order() {
    let app = App::start().await;
    let wallet = app.wallet("0").await;
    for _ in 0..3 {
        app.key(&app.tronagg, wallet).await;
    }
    let all = events(&app, "").await;
    let mut paged = Vec::new();
    let mut path = "/v1/audit-events?limit=2".to_owned();
    loop {
        let page = app.send(app.tronagg.call("GET", &path)).await.expect(200);
        paged.extend_from_slice(page.data());
        match page.json["next_cursor"].as_str() {
            Some(cursor) => path = format!("/v1/audit-events?limit=2&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(paged, all);
}
