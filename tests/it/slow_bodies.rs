//! Requests with slow bodies. If the credential is revoked before the body has arrived, the request
//! has no effect.

use std::time::Duration;

use serde_json::{Value, json};
use tollgate::{
    domain::{audit::Origin, id::AdminKeyId},
    http::ServerLimits,
    state::Limits,
};

use crate::harness::{
    App, Call, OTHER_WALLET,
    listener::{Listening, SlowRequest, listen},
};

/// Starts a service with a long body timeout, so that the test does not fail on a slow machine.
async fn listen_patiently(app: &App) -> Listening {
    let hour = Duration::from_secs(3600);
    let limits = Limits { body_timeout: hour, request_timeout: hour, ..Limits::default() };
    listen(app, limits, ServerLimits::default()).await
}

/// Creates an admin key of TronAgg. Returns the key and its id.
async fn admin_key(app: &App) -> (String, AdminKeyId) {
    let permissions = ["accounts", "credits", "keys", "verify"];
    let text = app.tronagg.admin_key_with(app, &permissions).await;
    let keys = app.store.list_admin_keys(&app.tronagg.tenant).await.expect("the query succeeds");
    (text, keys[0].id)
}

/// Reads the account, its keys, and the dashboard settings as TronAgg's backend.
async fn visible(app: &App, account: &str) -> Vec<Value> {
    let mut answers = Vec::new();
    for path in [
        "/v1/accounts".to_owned(),
        format!("/v1/accounts/{account}/keys?status=all"),
        "/v1/dashboard-settings".to_owned(),
    ] {
        answers.push(app.send(app.tronagg.call("GET", &path)).await.expect(200).json);
    }
    answers
}

#[tokio::test]
async fn request_changes_nothing_if_its_admin_key_is_revoked_while_its_body_arrives() {
    let app = App::start().await;
    let wallet = app.wallet("10").await;
    let key = app.key(&app.tronagg, wallet).await;
    let purchase = app.send(key.buy("4")).await.expect(201);
    let server = listen_patiently(&app).await;
    let (text, id) = admin_key(&app).await;
    let account = format!("/v1/accounts/{wallet}");
    let refunds = format!("{account}/purchases/{}/refunds", purchase.text("/id"));
    let mut requests = Vec::new();
    for call in [
        Call::new("POST", &format!("{account}/keys")).json(json!({"name": "late"})),
        Call::new("PATCH", &key.path).json(json!({"name": "late"})),
        Call::new("POST", &format!("{}/rotate", key.path)).json(json!({"grace_seconds": 60})),
        Call::new("POST", &format!("{}/revoke", key.path)).json(json!({"reason": "late"})),
        Call::new("POST", &format!("{account}/credits"))
            .idempotency_key("credit")
            .json(json!({"amount": "1"})),
        Call::new("POST", &refunds).idempotency_key("refund").json(json!({"amount": "1"})),
        Call::new("PATCH", &account).json(json!({"status": "suspended"})),
        Call::new("PUT", &format!("/v1/accounts/{OTHER_WALLET}"))
            .body("application/json", "{      }"),
        Call::new("PATCH", "/v1/dashboard-settings").json(json!({"name": "Late"})),
        Call::new("POST", "/v1/keys/verify").json(json!({"key": key.text})),
    ] {
        let (parts, _) = call.clone().into_parts();
        let request = SlowRequest::begin(server.address, call.bearer(&text)).await;
        requests.push((format!("{} {}", parts.method, parts.uri), request));
    }
    let before = visible(&app, wallet).await;
    let revoked = app.store.revoke_admin_key(&app.tronagg.tenant, id, &Origin::cli()).await;
    revoked.expect("the key is revoked");
    for (line, request) in requests {
        let answer = request.finish().await;
        assert_eq!(answer.status, 401, "{line}: {}", answer.body);
        assert!(answer.body.contains("\"code\":\"invalid_admin_key\""), "{line}: {}", answer.body);
        assert!(answer.head.contains("\r\nwww-authenticate: "), "{line}: {}", answer.head);
    }
    assert_eq!(visible(&app, wallet).await, before);
    app.check_ledger().await;
}

#[tokio::test]
async fn request_with_a_slow_body_takes_effect_if_its_admin_key_is_live() {
    let app = App::start().await;
    let wallet = app.wallet("10").await;
    let server = listen_patiently(&app).await;
    let credit = app.tronagg.call("POST", &format!("/v1/accounts/{wallet}/credits"));
    let credit = credit.idempotency_key("credit").json(json!({"amount": "1"}));
    let request = SlowRequest::begin(server.address, credit).await;
    assert_eq!(request.finish().await.status, 201);
    assert_eq!(app.balance(&app.tronagg, wallet).await, "11.000000");
    app.check_ledger().await;
}

#[tokio::test]
async fn api_key_that_is_revoked_while_a_body_arrives_buys_and_holds_nothing() {
    let app = App::start().await;
    let wallet = app.wallet("10").await;
    let key = app.key(&app.tronagg, wallet).await;
    let server = listen_patiently(&app).await;
    let mut requests = Vec::new();
    for path in ["/v1/purchases", "/v1/holds"] {
        let call = key.call("POST", path).json(json!({"amount": "1"}));
        requests.push(SlowRequest::begin(server.address, call).await);
    }
    app.send(app.tronagg.call("POST", &format!("{}/revoke", key.path))).await.expect(200);
    for request in requests {
        let answer = request.finish().await;
        assert_eq!(answer.status, 401, "{}", answer.body);
        assert!(answer.body.contains("\"code\":\"invalid_api_key\""), "{}", answer.body);
    }
    let found = app.send(app.tronagg.call("GET", &format!("/v1/accounts/{wallet}"))).await;
    let balance = &found.expect(200).json["balance"];
    assert_eq!((&balance["amount"], &balance["held"]), (&json!("10.000000"), &json!("0.000000")));
    app.check_ledger().await;
}
