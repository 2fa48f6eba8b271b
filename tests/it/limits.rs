//! Spend limits of API keys.

use serde_json::{Value, json};

use crate::harness::{App, app::NewKey};

fn limit(amount: &str, period: &str) -> Value {
    json!({"name": "limited", "spend_limit": {"amount": amount, "period": period}})
}

async fn spend_left(app: &App, key: &NewKey) -> Value {
    let me = app.send(key.call("GET", "/v1/me")).await.expect(200);
    me.json["spend_left"].clone()
}

#[tokio::test]
async fn limited_key_spends_up_to_its_limit_and_other_keys_spend_the_whole_balance() {
    let app = App::start().await;
    let wallet = app.wallet("100").await;
    let key = app.key_with(&app.tronagg, wallet, limit("10", "day")).await;
    let unlimited = app.key(&app.tronagg, wallet).await;
    let me = app.send(key.call("GET", "/v1/me")).await.expect(200);
    let shown = json!({"amount": "10.000000", "period": "day"});
    assert_eq!(me.json["key"]["spend_limit"], shown);
    assert_eq!(me.text("/spend_left"), "10.000000");
    assert_eq!(spend_left(&app, &unlimited).await, Value::Null);

    app.send(key.buy("6")).await.expect(201);
    let declined = app.send(key.buy("4.000001").idempotency_key("over")).await;
    let declined = declined.expect_problem(402, "spend_limit_exceeded");
    assert_eq!(declined.text("/available"), "4.000000");
    assert_eq!(declined.text("/required"), "4.000001");
    assert_eq!((declined.text("/limit"), declined.text("/period")), ("10.000000", "day"));
    app.send(unlimited.buy("50")).await.expect(201);
    app.send(key.buy("4")).await.expect(201);
    assert_eq!(spend_left(&app, &key).await, json!("0.000000"));
    app.send(key.buy("0.000001")).await.expect_problem(402, "spend_limit_exceeded");

    // A recorded decline stays valid after the limit changes.
    let change = json!({"spend_limit": {"amount": "1000", "period": "total"}});
    app.send(app.tronagg.call("PATCH", &key.path).json(change)).await.expect(200);
    let repeated = app.send(key.buy("4.000001").idempotency_key("over")).await;
    assert_eq!((repeated.status, &repeated.body), (402, &declined.body));
    assert_eq!(repeated.header("idempotent-replayed"), Some("true"));
    app.send(key.buy("4.000001")).await.expect(201);
    // The balance still limits the purchase.
    app.send(key.buy("40")).await.expect_problem(402, "insufficient_balance");
    app.check_ledger().await;
}

#[tokio::test]
async fn held_amount_counts_toward_the_spend_limit_until_it_is_released() {
    let app = App::start().await;
    let wallet = app.wallet("100").await;
    let key = app.key_with(&app.tronagg, wallet, limit("10", "month")).await;
    let hold = |amount: &str| key.call("POST", "/v1/holds").json(json!({"amount": amount}));
    let id = app.send(hold("7")).await.expect(201).text("/id").to_owned();
    assert_eq!(spend_left(&app, &key).await, json!("3.000000"));
    app.send(hold("3.000001")).await.expect_problem(402, "spend_limit_exceeded");
    app.send(key.buy("3.000001")).await.expect_problem(402, "spend_limit_exceeded");
    let capture = key.call("POST", &format!("/v1/holds/{id}/capture"));
    app.send(capture.json(json!({"amount": "5"}))).await.expect(200);
    assert_eq!(spend_left(&app, &key).await, json!("5.000000"));
    let id = app.send(hold("5")).await.expect(201).text("/id").to_owned();
    app.send(key.call("POST", &format!("/v1/holds/{id}/void"))).await.expect(200);
    app.send(key.buy("5")).await.expect(201);
    app.check_ledger().await;
}

#[tokio::test]
async fn spend_limit_can_be_set_and_cleared() {
    let app = App::start().await;
    let wallet = app.wallet("100").await;
    let key = app.key(&app.tronagg, wallet).await;
    let patch = |body: Value| app.send(app.tronagg.call("PATCH", &key.path).json(body));
    app.send(key.buy("8")).await.expect(201);
    // Purchases before the limit was set count toward the limit.
    let set = json!({"spend_limit": {"amount": "5", "period": "total"}});
    let changed = patch(set.clone()).await.expect(200);
    assert_eq!(changed.json["spend_limit"], json!({"amount": "5.000000", "period": "total"}));
    assert_eq!(spend_left(&app, &key).await, json!("0.000000"));
    let declined = app.send(key.buy("1")).await.expect_problem(402, "spend_limit_exceeded");
    assert_eq!(declined.text("/available"), "0.000000");
    let kept = patch(json!({"name": "another"})).await.expect(200);
    assert_eq!(kept.json["spend_limit"], changed.json["spend_limit"]);
    let cleared = patch(json!({"spend_limit": null})).await.expect(200);
    assert_eq!(cleared.json["spend_limit"], Value::Null);
    app.send(key.buy("1")).await.expect(201);
    let trail = app.send(app.tronagg.call("GET", "/v1/audit-events")).await.expect(200);
    let detail = &trail.data()[0]["detail"]["spend_limit"];
    assert_eq!(detail, &json!({"from": {"amount": "5.000000", "period": "total"}, "to": null}));
    for (body, locations) in [
        (json!({"spend_limit": {}}), vec!["/spend_limit/amount", "/spend_limit/period"]),
        (json!({"spend_limit": "5"}), vec!["/spend_limit"]),
        (
            json!({"spend_limit": {"amount": "0", "period": "week", "x": 1}}),
            vec!["/spend_limit/amount", "/spend_limit/period", "/spend_limit/x"],
        ),
    ] {
        let answer = patch(body.clone()).await.expect_problem(422, "validation_failed");
        assert_eq!(answer.errors_at(), locations, "{body}");
    }
    app.check_ledger().await;
}

#[tokio::test]
async fn new_spend_limit_counts_earlier_purchases_including_purchases_of_the_rotated_key() {
    let app = App::start().await;
    let wallet = app.wallet("100").await;
    let old = app.key(&app.tronagg, wallet).await;
    app.send(old.buy("3")).await.expect(201);
    let rotate = app.tronagg.call("POST", &format!("{}/rotate", old.path));
    let rotated = app.send(rotate.json(json!({"grace_seconds": 60}))).await.expect(201);
    let path = format!("/v1/accounts/{wallet}/keys/{}", rotated.text("/id"));
    let new = NewKey { text: rotated.text("/key").into(), id: rotated.text("/id").into(), path };
    app.send(new.buy("1")).await.expect(201);
    app.send(app.key(&app.tronagg, wallet).await.buy("50")).await.expect(201);
    for period in ["total", "month", "day"] {
        let set = json!({"spend_limit": {"amount": "10", "period": period}});
        app.send(app.tronagg.call("PATCH", &new.path).json(set)).await.expect(200);
        assert_eq!(spend_left(&app, &new).await, "6.000000", "{period}");
    }
    // The old key has no limit, but its purchases count toward the limit of the new key.
    app.send(old.buy("2")).await.expect(201);
    assert_eq!(spend_left(&app, &new).await, "4.000000");
    app.check_ledger().await;
}

#[tokio::test]
async fn concurrent_purchases_spend_exactly_the_limit() {
    let app = App::start().await;
    let wallet = app.wallet("1000").await;
    let key = app.key_with(&app.tronagg, wallet, limit("20", "day")).await;
    let nodes = [app.router.clone(), app.another_node().await];
    let tasks: Vec<_> = (0..64)
        .map(|number| {
            let request = key.buy("1").into_request();
            tokio::spawn(tower::ServiceExt::oneshot(nodes[number % 2].clone(), request))
        })
        .collect();
    let mut bought = 0;
    for task in tasks {
        match task
            .await
            .expect("the task does not panic")
            .expect("the router is infallible")
            .status()
            .as_u16()
        {
            201 => bought += 1,
            status => assert_eq!(status, 402),
        }
    }
    assert_eq!(bought, 20);
    assert_eq!(app.balance(&app.tronagg, wallet).await, "980.000000");
    app.check_ledger().await;
}

#[tokio::test]
async fn declined_charge_over_the_spend_limit_names_the_required_and_the_available_amount() {
    let app = App::start().await;
    let wallet = app.wallet("100").await;
    let key = app.key_with(&app.tronagg, wallet, limit("1", "total")).await;
    let charge = json!({"amount": "2", "idempotency_key": "c"});
    let body = json!({"key": key.text, "charge": charge});
    let call = app.tronagg.call("POST", "/v1/keys/verify").json(body);
    let answer = app.send(call).await.expect(200);
    assert_eq!((answer.code(), &answer.json["valid"]), ("SPEND_LIMIT_EXCEEDED", &json!(false)));
    assert_eq!((answer.text("/required"), answer.text("/available")), ("2.000000", "1.000000"));
    app.check_ledger().await;
}
