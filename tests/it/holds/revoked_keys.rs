//! Revoking a key voids its open holds. A rotation or an expiry leaves them open.

use serde_json::{Value, json};

use super::calls::{capture, events, expire_holds, find, held_and_available, hold, revoke, void};
use crate::harness::{Answer, App, app::NewKey};

/// Rotates a key. Returns the key that replaces it.
async fn rotate(app: &App, key: &NewKey, grace_seconds: i64) -> NewKey {
    let call = app.tronagg.call("POST", &format!("{}/rotate", key.path));
    let rotated = app.send(call.json(json!({"grace_seconds": grace_seconds}))).await.expect(201);
    let id = rotated.text("/id").to_owned();
    let account = key.path.rsplit_once('/').expect("a path").0;
    NewKey { text: rotated.text("/key").to_owned(), path: format!("{account}/{id}"), id }
}

#[tokio::test]
async fn revoking_a_key_voids_its_open_holds_and_no_others() {
    let app = App::start().await;
    let wallet = app.wallet("10").await;
    let (key, other) = (app.key(&app.tronagg, wallet).await, app.key(&app.tronagg, wallet).await);
    let place = async |key: &NewKey, amount: &str| {
        let body = json!({"amount": amount, "expires_in": 604_800});
        let call = key.call("POST", "/v1/holds").json(body).idempotency_key(amount);
        app.send(call).await.expect(201)
    };
    let id = |made: &Answer| made.text("/id").to_owned();
    let captured = id(&place(&key, "1").await);
    app.send(capture(&key, &captured, json!({}))).await.expect(200);
    let first = place(&key, "2").await;
    let (first_id, second) = (id(&first), id(&place(&key, "3").await));
    let kept = id(&place(&other, "4").await);
    assert_eq!(first.json["void_reason"], Value::Null);

    revoke(&app, &key, json!({"reason": "leaked"})).await;
    assert_eq!(held_and_available(&app, &other).await, ("4.000000".into(), "5.000000".into()));
    for id in [&first_id, &second] {
        let hold = find(&app, &other, id).await;
        assert_eq!((hold.text("/status"), hold.text("/void_reason")), ("voided", "key_revoked"));
        assert_ne!(hold.json["closed_at"], Value::Null);
        // Another key gets the usual responses for a voided hold.
        let refused = app.send(capture(&other, id, json!({}))).await;
        let refused = refused.expect_problem(409, "hold_not_open");
        assert_eq!(refused.text("/hold_status"), "voided");
        let before = find(&app, &other, id).await.body;
        assert_eq!(app.send(void(&other, id)).await.expect(200).body, before);
    }
    assert_eq!(find(&app, &other, &kept).await.text("/status"), "open");
    assert_eq!(find(&app, &other, &captured).await.text("/status"), "captured");
    app.send(capture(&key, &first_id, json!({}))).await.expect_problem(401, "invalid_api_key");
    // A replay still returns the first response.
    let again = json!({"amount": "2", "expires_in": 604_800});
    let again = other.call("POST", "/v1/holds").json(again).idempotency_key("2");
    let again = app.send(again).await.expect(201);
    assert_eq!((&again.body, again.header("idempotent-replayed")), (&first.body, Some("true")));

    let revocation = json!({
        "reason": "leaked",
        "voided_holds": [first_id, second],
        "voided_amount": "5.000000",
        "currency": "TRX",
    });
    revoke(&app, &key, json!({})).await;
    let events = events(&app, "api_key.revoke").await;
    let details: Vec<&Value> = events.iter().map(|event| &event["detail"]).collect();
    assert_eq!(details, [&revocation]);
    app.check_ledger().await;
}

#[tokio::test]
async fn revoking_a_key_frees_the_rest_of_its_spend_limit_for_its_successor() {
    let app = App::start().await;
    let wallet = app.wallet("10").await;
    let body = json!({"name": "a", "spend_limit": {"amount": "5", "period": "total"}});
    let old = app.key_with(&app.tronagg, wallet, body).await;
    app.send(hold(&old, "5")).await.expect(201);
    let new = rotate(&app, &old, 3600).await;
    app.send(new.buy("1")).await.expect_problem(402, "spend_limit_exceeded");
    revoke(&app, &old, json!({})).await;
    app.send(new.buy("5")).await.expect(201);
    app.send(new.buy("0.000001")).await.expect_problem(402, "spend_limit_exceeded");
    app.check_ledger().await;
}

#[tokio::test]
async fn rotation_and_expiry_of_a_key_leave_its_holds_open_for_its_successor() {
    let app = App::start().await;
    let wallet = app.wallet("10").await;
    for grace_seconds in [0, 3600] {
        let old = app.key(&app.tronagg, wallet).await;
        let id = app.send(hold(&old, "2")).await.expect(201).text("/id").to_owned();
        let new = rotate(&app, &old, grace_seconds).await;
        assert_eq!(find(&app, &new, &id).await.text("/status"), "open");
        let captured = app.send(capture(&new, &id, json!({}))).await.expect(200);
        // The hold still names the old key. The purchase names the key that captured the hold.
        assert_eq!(captured.text("/key_id"), old.id);
        let path = format!("/v1/purchases/{}", captured.text("/purchase_id"));
        assert_eq!(app.send(new.call("GET", &path)).await.expect(200).text("/key_id"), new.id);
    }
    let (key, other) = (app.key(&app.tronagg, wallet).await, app.key(&app.tronagg, wallet).await);
    let id = app.send(hold(&key, "2")).await.expect(201).text("/id").to_owned();
    app.expire(&key).await;
    app.send(capture(&other, &id, json!({}))).await.expect(200);
    app.check_ledger().await;
}

#[tokio::test]
async fn revoking_an_expired_key_voids_its_open_holds() {
    let app = App::start().await;
    let wallet = app.wallet("10").await;
    let (key, other) = (app.key(&app.tronagg, wallet).await, app.key(&app.tronagg, wallet).await);
    let id = app.send(hold(&key, "2")).await.expect(201).text("/id").to_owned();
    app.expire(&key).await;
    for _ in 0..2 {
        let dead = revoke(&app, &key, json!({})).await;
        assert_eq!((dead.text("/status"), &dead.json["revoked_at"]), ("expired", &Value::Null));
    }
    assert_eq!(find(&app, &other, &id).await.text("/void_reason"), "key_revoked");
    assert_eq!(events(&app, "api_key.revoke").await.len(), 1);
    app.check_ledger().await;
}

#[tokio::test]
async fn hold_that_expired_before_its_key_is_revoked_stays_expired() {
    let app = App::start().await;
    let wallet = app.wallet("10").await;
    let (key, other) = (app.key(&app.tronagg, wallet).await, app.key(&app.tronagg, wallet).await);
    let id = app.send(hold(&key, "2")).await.expect(201).text("/id").to_owned();
    expire_holds(&app).await;
    revoke(&app, &key, json!({})).await;
    let hold = find(&app, &other, &id).await;
    assert_eq!((hold.text("/status"), &hold.json["void_reason"]), ("expired", &Value::Null));
    assert_eq!(events(&app, "api_key.revoke").await[0]["detail"], json!({"reason": null}));
    app.check_ledger().await;
}
