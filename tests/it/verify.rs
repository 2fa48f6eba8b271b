//! A tenant's backend verifies keys with `POST /v1/keys/verify`.

use serde_json::{Value, json};

use crate::harness::{Answer, App, TestTenant};

async fn verify(app: &App, tenant: &TestTenant, body: Value) -> Answer {
    app.send(tenant.call("POST", "/v1/keys/verify").json(body)).await.expect(200)
}

async fn code(app: &App, body: Value) -> String {
    let answer = verify(app, &app.tronagg, body).await;
    assert_eq!(answer.json["valid"], answer.code() == "VALID");
    answer.code().to_owned()
}

#[tokio::test]
async fn verify_response_names_the_reason_for_each_refusal() {
    let app = App::start().await;
    let wallet = app.wallet("10").await;
    let key = app.key(&app.tronagg, wallet).await;
    let answer = verify(&app, &app.tronagg, json!({"key": key.text})).await;
    let expected = json!({
        "valid": true, "code": "VALID", "tenant": "tronagg", "environment": "live",
        "key_id": key.id, "account": wallet, "scopes": ["write"], "expires_at": null,
    });
    assert_eq!(answer.json, expected);
    assert_eq!(answer.header("cache-control"), Some("no-store"));

    let patch = |body: Value| app.send(app.tronagg.call("PATCH", &key.path).json(body));
    patch(json!({"enabled": false})).await.expect(200);
    assert_eq!(code(&app, json!({"key": key.text})).await, "DISABLED");
    patch(json!({"enabled": true})).await.expect(200);
    let account = format!("/v1/accounts/{wallet}");
    for (status, expected) in [("suspended", "ACCOUNT_SUSPENDED"), ("active", "VALID")] {
        let call = app.tronagg.call("PATCH", &account).json(json!({"status": status}));
        app.send(call).await.expect(200);
        assert_eq!(code(&app, json!({"key": key.text})).await, expected);
    }
    let revoke = app.tronagg.call("POST", &format!("{}/revoke", key.path));
    app.send(revoke).await.expect(200);
    let revoked = verify(&app, &app.tronagg, json!({"key": key.text})).await;
    assert_eq!((revoked.code(), &revoked.json["key_id"]), ("REVOKED", &json!(key.id)));

    let expired = app.key(&app.tronagg, wallet).await;
    sqlx::query(
        "UPDATE api_keys SET expires_at = created_at + interval '1 microsecond'
                 WHERE revoked_at IS NULL",
    )
    .execute(&app.pool)
    .await
    .expect("the expiry is set");
    assert_eq!(code(&app, json!({"key": expired.text})).await, "EXPIRED");
    for text in ["", "x", "ta_short", &format!("ta_{}", "A".repeat(43)), &app.tronagg.admin_key] {
        let answer = verify(&app, &app.tronagg, json!({"key": text})).await;
        assert_eq!(answer.json, json!({"valid": false, "code": "NOT_FOUND"}), "{text:?}");
    }
}

#[tokio::test]
async fn verify_returns_not_found_for_a_key_of_another_tenant() {
    let app = App::start().await;
    let wallet = app.wallet("10").await;
    let key = app.key(&app.tronagg, wallet).await;
    let answer = verify(&app, &app.tradetally, json!({"key": key.text})).await;
    assert_eq!(answer.json, json!({"valid": false, "code": "NOT_FOUND"}));
    let charge = json!({"amount": "1", "idempotency_key": "k"});
    let answer = verify(&app, &app.tradetally, json!({"key": key.text, "charge": charge})).await;
    assert_eq!(answer.code(), "NOT_FOUND");
    assert_eq!(app.balance(&app.tronagg, wallet).await, "10.000000");
}

#[tokio::test]
async fn verify_requires_every_requested_scope() {
    let app = App::start().await;
    app.account(&app.tradetally, "user-1", "5").await;
    let key = app.key(&app.tradetally, "user-1").await;
    let verify_scopes =
        |scopes: Value| verify(&app, &app.tradetally, json!({"key": key.text, "scopes": scopes}));
    assert_eq!(verify_scopes(json!(["read", "trades:read"])).await.code(), "VALID");
    let lacking = verify_scopes(json!(["trades:write", "read", "write"])).await;
    assert_eq!(lacking.code(), "INSUFFICIENT_SCOPE");
    assert_eq!(lacking.json["missing_scopes"], json!(["write", "trades:write"]));
    let charge = json!({"amount": "1", "idempotency_key": "k"});
    let read_only = verify(&app, &app.tradetally, json!({"key": key.text, "charge": charge})).await;
    assert_eq!(read_only.code(), "INSUFFICIENT_SCOPE");
    assert_eq!(read_only.json["missing_scopes"], json!(["purchases:write"]));
    assert_eq!(app.balance(&app.tradetally, "user-1").await, "5.00");
}

#[tokio::test]
async fn charge_creates_one_purchase_per_idempotency_key() {
    let app = App::start().await;
    let wallet = app.wallet("10").await;
    let key = app.key(&app.tronagg, wallet).await;
    let body = |amount: &str, idempotency_key: &str| {
        let charge =
            json!({"amount": amount, "reference": "r", "idempotency_key": idempotency_key});
        json!({"key": key.text, "charge": charge})
    };
    let charged = verify(&app, &app.tronagg, body("4", "k")).await;
    assert_eq!(charged.code(), "VALID");
    assert_eq!(charged.text("/purchase/balance_after"), "6.000000");
    let replayed = verify(&app, &app.tronagg, body("4", "k")).await;
    assert_eq!(replayed.body, charged.body);
    assert_eq!(replayed.header("idempotent-replayed"), Some("true"));

    let declined = verify(&app, &app.tronagg, body("7", "d")).await;
    assert_eq!(declined.code(), "INSUFFICIENT_BALANCE");
    assert_eq!(declined.text("/required"), "7.000000");
    assert_eq!(declined.text("/available"), "6.000000");
    let call = app.tronagg.call("POST", "/v1/keys/verify").json(body("5", "k"));
    app.send(call).await.expect_problem(422, "idempotency_mismatch");

    // The purchase route returns this purchase for a request with its idempotency key.
    let purchase = key.call("POST", "/v1/purchases").idempotency_key("k");
    let purchase =
        app.send(purchase.json(json!({"amount": "4", "reference": "r"}))).await.expect(201);
    assert_eq!(purchase.json, charged.json["purchase"]);
    assert_eq!(app.balance(&app.tronagg, wallet).await, "6.000000");
    app.check_ledger().await;
}

#[tokio::test]
async fn verify_reports_all_invalid_fields_and_never_repeats_the_key() {
    let app = App::start().await;
    let body = json!({
        "scopes": ["root", 1], "charge": {"amount": "-1", "extra": 1}, "account": "x",
    });
    let call = app.tronagg.call("POST", "/v1/keys/verify").json(body);
    let answer = app.send(call).await.expect_problem(422, "validation_failed");
    assert_eq!(
        answer.errors_at(),
        [
            "/key",
            "/scopes/0",
            "/charge/amount",
            "/charge/idempotency_key",
            "/charge/extra",
            "/account"
        ]
    );
    // The response must not repeat the submitted key.
    let secret = format!("ta_{}", "Z".repeat(42));
    let answer = verify(&app, &app.tronagg, json!({"key": secret})).await;
    assert!(!String::from_utf8_lossy(&answer.body).contains("ZZZZ"));
}
