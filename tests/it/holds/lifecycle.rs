//! A hold reserves balance until it is captured, voided or expired.

use serde_json::{Value, json};

use super::calls::{capture, expire_holds, held_and_available, hold, void};
use crate::harness::{Answer, App, eventually};

#[tokio::test]
async fn hold_reserves_balance_and_capture_creates_a_purchase() {
    let app = App::start().await;
    let wallet = app.wallet("10").await;
    let key = app.key(&app.tronagg, wallet).await;
    let body = json!({"amount": "4", "reference": "order 1", "expires_in": 60});
    let created = app.send(key.call("POST", "/v1/holds").json(body)).await.expect(201);
    assert_eq!((created.text("/status"), created.text("/amount")), ("open", "4.000000"));
    assert_eq!((created.text("/reference"), created.text("/key_id")), ("order 1", key.id.as_str()));
    assert_eq!(
        (&created.json["captured"], &created.json["closed_at"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(held_and_available(&app, &key).await, ("4.000000".into(), "6.000000".into()));
    assert_eq!(app.balance(&app.tronagg, wallet).await, "10.000000");

    // The held amount cannot be spent.
    let declined = app.send(key.buy("6.000001")).await;
    let declined = declined.expect_problem(402, "insufficient_balance");
    assert_eq!(declined.text("/available"), "6.000000");
    let declined = app.send(hold(&key, "6.000001")).await;
    let declined = declined.expect_problem(402, "insufficient_balance");
    assert_eq!(
        declined.text("/detail"),
        "The hold needs 6.000001 TRX, but only 6 TRX is available. Top up the account."
    );

    let id = created.text("/id");
    let captured = app.send(capture(&key, id, json!({"amount": "1.5"}))).await.expect(200);
    assert_eq!((captured.text("/status"), captured.text("/captured")), ("captured", "1.500000"));
    assert_eq!(held_and_available(&app, &key).await, ("0.000000".into(), "8.500000".into()));
    let path = format!("/v1/purchases/{}", captured.text("/purchase_id"));
    let purchase = app.send(key.call("GET", &path)).await.expect(200);
    assert_eq!((purchase.text("/amount"), purchase.text("/hold_id")), ("1.500000", id));
    assert_eq!(purchase.text("/reference"), "order 1");
    let path = format!("/v1/holds/{id}");
    assert_eq!(app.send(key.call("GET", &path)).await.expect(200).json, captured.json);
    app.check_ledger().await;
}

#[tokio::test]
async fn hold_is_captured_or_voided_exactly_once() {
    let app = App::start().await;
    let wallet = app.wallet("10").await;
    let (key, other) = (app.key(&app.tronagg, wallet).await, app.key(&app.tronagg, wallet).await);
    let create = async || app.send(hold(&key, "3")).await.expect(201).text("/id").to_owned();
    let is_replay = |answer: &Answer| answer.header("idempotent-replayed") == Some("true");

    let id = create().await;
    let first = app.send(capture(&key, &id, json!({}))).await.expect(200);
    assert!(!is_replay(&first));
    for (key, body) in [(&key, json!({})), (&other, json!({"amount": "3"}))] {
        let repeated = app.send(capture(key, &id, body)).await.expect(200);
        assert_eq!((&repeated.body, is_replay(&repeated)), (&first.body, true));
    }
    let other_amount = app.send(capture(&key, &id, json!({"amount": "2"}))).await;
    let other_amount = other_amount.expect_problem(409, "hold_not_open");
    assert_eq!(other_amount.text("/hold_status"), "captured");
    app.send(void(&key, &id)).await.expect_problem(409, "hold_not_open");

    let id = create().await;
    let first = app.send(void(&other, &id)).await.expect(200);
    assert_eq!((first.text("/status"), &first.json["purchase_id"]), ("voided", &Value::Null));
    let repeated = app.send(void(&key, &id)).await.expect(200);
    assert_eq!((&repeated.body, is_replay(&repeated)), (&first.body, true));
    app.send(capture(&key, &id, json!({}))).await.expect_problem(409, "hold_not_open");

    let id = create().await;
    let too_much = app.send(capture(&key, &id, json!({"amount": "3.000001"}))).await;
    assert_eq!(too_much.expect_problem(409, "hold_too_small").text("/held"), "3.000000");
    app.send(capture(&key, &id, json!({}))).await.expect(200);
    assert_eq!(app.balance(&app.tronagg, wallet).await, "4.000000");
    app.check_ledger().await;
}

#[tokio::test]
async fn expired_hold_is_released_by_the_background_job() {
    let app = App::start().await;
    let wallet = app.wallet("10").await;
    let key = app.key(&app.tronagg, wallet).await;
    let id = app.send(hold(&key, "7")).await.expect(201).text("/id").to_owned();
    expire_holds(&app).await;
    // The API shows the hold as expired before the job has released it.
    assert_eq!(held_and_available(&app, &key).await, ("0.000000".into(), "10.000000".into()));
    let path = format!("/v1/holds/{id}");
    let expired = app.send(key.call("GET", &path)).await.expect(200);
    assert_eq!(expired.text("/status"), "expired");
    let no_stop = std::future::pending();
    let release_job = tokio::spawn(app.money.clone().release_holds(no_stop));
    eventually("the hold is released", async || {
        let held: i64 = sqlx::query_scalar("SELECT held FROM accounts WHERE external_id = $1")
            .bind(wallet)
            .fetch_one(&app.pool)
            .await
            .expect("a number");
        held == 0
    })
    .await;
    release_job.abort();
    app.send(capture(&key, &id, json!({}))).await.expect_problem(409, "hold_not_open");
    app.send(void(&key, &id)).await.expect_problem(409, "hold_not_open");
    let bought = app.send(key.buy("10")).await.expect(201);
    assert_eq!(bought.text("/balance_after"), "0.000000");
    app.check_ledger().await;
}

#[tokio::test]
async fn purchase_can_spend_the_amount_of_an_expired_hold_before_its_release() {
    let app = App::start().await;
    let wallet = app.wallet("10").await;
    let key = app.key(&app.tronagg, wallet).await;
    let id = app.send(hold(&key, "7")).await.expect(201).text("/id").to_owned();
    expire_holds(&app).await;
    // No background job runs in this test, so the batch itself releases the hold.
    app.send(key.buy("10")).await.expect(201);
    let found = app.send(key.call("GET", &format!("/v1/holds/{id}"))).await.expect(200);
    assert_eq!(found.text("/status"), "expired");
    app.check_ledger().await;
}

#[tokio::test]
async fn replayed_hold_returns_its_first_response_even_after_a_capture() {
    let app = App::start().await;
    let wallet = app.wallet("10").await;
    let (key, other) = (app.key(&app.tronagg, wallet).await, app.key(&app.tronagg, wallet).await);
    let first = app.send(hold(&key, "2").idempotency_key("h")).await.expect(201);
    app.send(capture(&key, first.text("/id"), json!({"amount": "1"}))).await.expect(200);
    let repeated = app.send(hold(&other, "2").idempotency_key("h")).await.expect(201);
    assert_eq!(repeated.body, first.body);
    assert_eq!(repeated.header("idempotent-replayed"), Some("true"));
    let mismatch = app.send(hold(&key, "3").idempotency_key("h")).await;
    mismatch.expect_problem(422, "idempotency_mismatch");
    // Purchases and holds do not share idempotency keys.
    app.send(key.buy("1").idempotency_key("h")).await.expect(201);
    let declined = app.send(hold(&key, "9").idempotency_key("big")).await;
    let declined = declined.expect_problem(402, "insufficient_balance");
    let repeated = app.send(hold(&key, "9").idempotency_key("big")).await;
    assert_eq!((repeated.status, &repeated.body), (402, &declined.body));
    app.check_ledger().await;
}
