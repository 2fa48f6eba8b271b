//! Refunds can be partial or full. Their sum never exceeds the purchase.

use serde_json::{Value, json};

use crate::harness::{App, Call, OTHER_WALLET};

struct Purchased {
    app: App,
    wallet: &'static str,
    id: String,
    /// The path of the purchase's refunds.
    path: String,
}

impl Purchased {
    /// Makes a purchase of 4 TRX from a balance of 10 TRX.
    async fn new() -> Self {
        let app = App::start().await;
        let wallet = app.wallet("10").await;
        let key = app.key(&app.tronagg, wallet).await;
        let id = app.send(key.buy("4")).await.expect(201).text("/id").to_owned();
        let path = format!("/v1/accounts/{wallet}/purchases/{id}/refunds");
        Self { app, wallet, id, path }
    }

    fn refund(&self, key: &str, body: Value) -> Call {
        self.app.tronagg.call("POST", &self.path).idempotency_key(key).json(body)
    }
}

#[tokio::test]
async fn purchase_can_be_refunded_in_parts_up_to_its_amount() {
    let purchase = Purchased::new().await;
    let app = &purchase.app;
    let part = json!({"amount": "1.5", "reference": "ticket 7"});
    let first = app.send(purchase.refund("r1", part)).await.expect(201);
    assert_eq!((first.text("/amount"), first.text("/balance_after")), ("1.500000", "7.500000"));
    assert_eq!((first.text("/purchase_id"), first.text("/reference")), (&*purchase.id, "ticket 7"));
    let too_much = app.send(purchase.refund("r2", json!({"amount": "2.500001"}))).await;
    assert_eq!(too_much.expect_problem(409, "refund_too_large").text("/refundable"), "2.500000");
    // The refused refund did not use up its idempotency key.
    let rest = app.send(purchase.refund("r2", json!({}))).await.expect(201);
    assert_eq!(rest.text("/amount"), "2.500000");
    let nothing_left = app.send(purchase.refund("r3", json!({}))).await;
    assert_eq!(
        nothing_left.expect_problem(409, "refund_too_large").text("/refundable"),
        "0.000000"
    );
    assert_eq!(app.balance(&app.tronagg, purchase.wallet).await, "10.000000");

    let purchases = format!("/v1/accounts/{}/purchases", purchase.wallet);
    let listed = app.send(app.tronagg.call("GET", &purchases)).await.expect(200);
    assert_eq!(listed.data()[0]["refunded"], "4.000000");
    let refunds = app.send(app.tronagg.call("GET", &purchase.path)).await.expect(200);
    assert_eq!(refunds.data(), [rest.json.clone(), first.json.clone()]);
    let trail = app.send(app.tronagg.call("GET", "/v1/audit-events")).await.expect(200);
    assert_eq!(trail.data()[0]["action"], "purchase.refund");
    assert_eq!(trail.data()[0]["target_id"], rest.json["id"]);
    assert_eq!(trail.data()[0]["detail"]["purchase_id"], json!(purchase.id));
    app.check_ledger().await;
}

#[tokio::test]
async fn refund_is_applied_once_per_idempotency_key() {
    let purchase = Purchased::new().await;
    let app = &purchase.app;
    let body = json!({"amount": "1"});
    let first = app.send(purchase.refund("r", body.clone())).await.expect(201);
    assert_eq!(first.header("idempotent-replayed"), None);
    let repeated = app.send(purchase.refund("r", body)).await.expect(201);
    assert_eq!(
        (&repeated.body, repeated.header("idempotent-replayed")),
        (&first.body, Some("true"))
    );
    let mismatch = app.send(purchase.refund("r", json!({"amount": "2"}))).await;
    mismatch.expect_problem(422, "idempotency_mismatch");
    let missing = app.send(app.tronagg.call("POST", &purchase.path).json(json!({}))).await;
    assert_eq!(missing.expect_problem(422, "validation_failed").errors_at(), ["Idempotency-Key"]);
    let invalid = app.send(purchase.refund("w", json!({"amount": "-1", "why": 1}))).await;
    assert_eq!(invalid.expect_problem(422, "validation_failed").errors_at(), ["/amount", "/why"]);
    app.check_ledger().await;
}

#[tokio::test]
async fn concurrent_refunds_never_exceed_the_purchase() {
    let purchase = Purchased::new().await;
    let app = &purchase.app;
    let nodes = [app.router.clone(), app.another_node().await];
    let calls =
        (0..30).map(|number| purchase.refund(&format!("r{number}"), json!({"amount": "0.7"})));
    let tasks: Vec<_> = calls
        .zip(nodes.iter().cycle())
        .map(|(call, node)| {
            tokio::spawn(tower::ServiceExt::oneshot(node.clone(), call.into_request()))
        })
        .collect();
    let mut refunded = 0;
    for task in tasks {
        match task
            .await
            .expect("the task does not panic")
            .expect("the router is infallible")
            .status()
            .as_u16()
        {
            201 => refunded += 1,
            status => assert_eq!(status, 409),
        }
    }
    assert_eq!(refunded, 5);
    assert_eq!(app.balance(&app.tronagg, purchase.wallet).await, "9.500000");
    app.check_ledger().await;
}

#[tokio::test]
async fn refund_of_another_accounts_purchase_returns_404() {
    let purchase = Purchased::new().await;
    let app = &purchase.app;
    app.account(&app.tronagg, OTHER_WALLET, "1").await;
    for path in [
        format!("/v1/accounts/{OTHER_WALLET}/purchases/{}/refunds", purchase.id),
        format!("/v1/accounts/{}/purchases/pur_nonsense/refunds", purchase.wallet),
        purchase.path.replace("pur_", "crd_"),
    ] {
        let call = app.tronagg.call("POST", &path).idempotency_key("x").json(json!({}));
        app.send(call).await.expect_problem(404, "not_found");
        app.send(app.tronagg.call("GET", &path)).await.expect_problem(404, "not_found");
    }
    app.check_ledger().await;
}

#[tokio::test]
async fn replayed_purchase_returns_its_first_response_after_a_refund() {
    let app = App::start().await;
    let wallet = app.wallet("10").await;
    let key = app.key(&app.tronagg, wallet).await;
    let first = app.send(key.buy("4").idempotency_key("k")).await.expect(201);
    assert_eq!(first.text("/refunded"), "0.000000");
    let path = format!("/v1/accounts/{wallet}/purchases/{}/refunds", first.text("/id"));
    let refund = app.tronagg.call("POST", &path).idempotency_key("r").json(json!({}));
    app.send(refund).await.expect(201);
    let repeated = app.send(key.buy("4").idempotency_key("k")).await.expect(201);
    assert_eq!(repeated.body, first.body);
    app.check_ledger().await;
}
