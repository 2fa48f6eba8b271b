//! A suspended tenant: its API keys and admin keys are refused on every node, and its balances stay.

use serde_json::{Value, json};
use tollgate::domain::{audit::Origin, tenant::TenantStatus};

use crate::harness::{
    App, Call, WALLET,
    app::{NewKey, respond},
    data_dir::DataDir,
};

const AUTHORIZE: &str = "/v1/authorize/tronagg/live";

async fn set_status(app: &App, status: TenantStatus) {
    let tenant = &app.tronagg.tenant;
    let changed = app.store.set_tenant_status(tenant, status, &Origin::cli()).await;
    changed.expect("the status is set");
}

/// The calls with an API key that the gate protects.
fn calls_with(key: &NewKey) -> Vec<Call> {
    vec![
        key.call("GET", AUTHORIZE),
        key.call("GET", "/v1/me"),
        key.call("GET", "/v1/purchases"),
        key.buy("1").idempotency_key("while-suspended"),
        key.call("POST", "/v1/holds").json(json!({"amount": "1"})),
    ]
}

#[tokio::test]
async fn keys_of_a_suspended_tenant_are_refused_on_every_node_until_it_is_resumed() {
    let app = App::start().await;
    let other_node = app.another_node().await;
    let wallet = app.wallet("10").await;
    let key = app.key(&app.tronagg, wallet).await;
    let revoked = app.key(&app.tronagg, wallet).await;
    app.send(app.tronagg.call("POST", &format!("{}/revoke", revoked.path))).await.expect(200);
    app.account(&app.tradetally, "user-1", "0").await;
    let stranger = app.key(&app.tradetally, "user-1").await;
    let account = format!("/v1/accounts/{wallet}");
    // Both nodes cache the key.
    for _ in 0..2 {
        app.send(key.call("GET", AUTHORIZE)).await.expect(200);
        respond(&other_node, key.call("GET", AUTHORIZE).into_request()).await.expect(200);
    }

    set_status(&app, TenantStatus::Suspended).await;
    for _ in 0..2 {
        for call in calls_with(&key) {
            app.send(call.clone()).await.expect_problem(403, "tenant_suspended");
            respond(&other_node, call.into_request()).await.expect_problem(403, "tenant_suspended");
        }
    }
    // A dead key learns nothing about its tenant.
    app.send(revoked.call("GET", AUTHORIZE)).await.expect_problem(401, "invalid_api_key");
    for call in [
        app.tronagg.call("GET", &account),
        app.tronagg.call("PATCH", &account).json(json!({"status": "active"})),
        app.tronagg.call("POST", "/v1/keys/verify").json(json!({"key": key.text})),
        app.tronagg.call("POST", &format!("{}/revoke", key.path)),
    ] {
        app.send(call.clone()).await.expect_problem(403, "tenant_suspended");
        respond(&other_node, call.into_request()).await.expect_problem(403, "tenant_suspended");
    }
    app.send(stranger.call("GET", "/v1/me")).await.expect(200);
    app.send(app.tradetally.call("GET", "/v1/accounts/user-1")).await.expect(200);

    set_status(&app, TenantStatus::Active).await;
    app.send(key.call("GET", AUTHORIZE)).await.expect(200);
    respond(&other_node, key.call("GET", AUTHORIZE).into_request()).await.expect(200);
    assert_eq!(app.balance(&app.tronagg, wallet).await, "10.000000");
    app.send(key.buy("1").idempotency_key("while-suspended")).await.expect(201);
    app.check_ledger().await;
}

#[tokio::test]
async fn refusals_of_a_suspended_tenant_are_counted_by_their_own_outcome() {
    let app = App::start().await;
    let wallet = app.wallet("10").await;
    let key = app.key(&app.tronagg, wallet).await;
    app.send(key.call("GET", AUTHORIZE)).await.expect(200);
    set_status(&app, TenantStatus::Suspended).await;
    app.send(key.call("GET", AUTHORIZE)).await.expect_problem(403, "tenant_suspended");
    set_status(&app, TenantStatus::Active).await;
    app.flush_usage().await;
    let usage = app.tronagg.call("GET", &format!("{}/usage", key.path));
    let usage = app.send(usage).await.expect(200);
    let steps = usage.data();
    let sum = |outcome: &str| -> u64 {
        let count = |step: &Value| step["outcomes"][outcome].as_u64().expect("a number");
        steps.iter().map(count).sum()
    };
    assert_eq!((sum("valid"), sum("tenant_suspended")), (1, 1), "{usage:?}");
    let clients = app.tronagg.call("GET", &format!("{}/clients", key.path));
    let clients = app.send(clients).await.expect(200);
    assert_eq!(clients.json["refusals"][0]["reason"], "tenant_suspended", "{clients:?}");
}

#[test]
fn command_suspends_and_resumes_a_tenant_beside_a_running_service() {
    let data_dir = DataDir::new("tenant-status");
    let process = data_dir.start(&["serve"]);
    let created = data_dir.json(&["tenant", "create", "tronagg", "--prefix", "ta_", "--json"]);
    assert_eq!(created["status"], "active");
    let admin_key = created["admin_key"].as_str().expect("the key is a string");
    let account = format!("/v1/accounts/{WALLET}");
    process.send(Call::new("PUT", &account).bearer(admin_key)).expect(201);
    let create = Call::new("POST", &format!("{account}/keys")).bearer(admin_key);
    let key = process.send(create.json(json!({"name": "a key"}))).expect(201);
    let authorize =
        || process.send(Call::new("GET", AUTHORIZE).header("X-API-Key", key.text("/key")));
    let status = |verb: &str| data_dir.json(&["tenant", verb, "tronagg", "--json"]);
    let named =
        |status: &str| json!({"tenant": "tronagg", "environment": "live", "status": status});
    authorize().expect(200);

    assert_eq!(status("suspend"), named("suspended"));
    authorize().expect_problem(403, "tenant_suspended");
    assert_eq!(status("suspend"), named("suspended"), "a repeated command succeeds");
    assert_eq!(status("show")["status"], "suspended");
    assert_eq!(data_dir.json(&["tenant", "list", "--json"])[0]["status"], "suspended");

    assert_eq!(status("resume"), named("active"));
    authorize().expect(200);
    let events = Call::new("GET", "/v1/audit-events?limit=2").bearer(admin_key);
    let events = process.send(events).expect(200);
    let shown: Vec<_> = events.data().iter().map(|event| &event["action"]).collect();
    assert_eq!(shown, ["tenant.resume", "tenant.suspend"]);
    let detail = &events.data()[1]["detail"];
    assert_eq!(*detail, json!({"status": {"from": "active", "to": "suspended"}}));
    assert_eq!(events.data()[1]["actor"], "cli");

    let message = data_dir.error(&["tenant", "suspend", "nobody"]);
    assert!(message.contains("no tenant nobody in environment live"), "{message}");
    let (exit, log) = process.stop();
    assert!(exit.success(), "{exit}: {log}");
}
