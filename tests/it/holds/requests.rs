//! Requests with API keys: lists, invalid requests, and holds of other accounts.

use serde_json::{Value, json};

use super::calls::{capture, hold, void};
use crate::harness::{App, OTHER_WALLET};

#[tokio::test]
async fn holds_are_listed_by_status_and_hidden_from_other_accounts() {
    let app = App::start().await;
    let wallet = app.wallet("10").await;
    let key = app.key(&app.tronagg, wallet).await;
    let mut ids = Vec::new();
    for amount in ["1", "2", "3"] {
        ids.push(app.send(hold(&key, amount)).await.expect(201).text("/id").to_owned());
    }
    app.send(void(&key, &ids[1])).await.expect(200);
    let list = async |query: &str| {
        let answer = app.send(key.call("GET", &format!("/v1/holds{query}"))).await.expect(200);
        let id = |hold: &Value| hold["id"].as_str().expect("an id").to_owned();
        answer.data().iter().map(id).collect::<Vec<_>>()
    };
    assert_eq!(list("").await, [ids[2].as_str(), &ids[1], &ids[0]]);
    assert_eq!(list("?status=open").await, [ids[2].as_str(), &ids[0]]);
    assert_eq!(list("?status=voided").await, [ids[1].as_str()]);
    assert_eq!(list("?limit=2").await, [ids[2].as_str(), &ids[1]]);
    let refused = app.send(key.call("GET", "/v1/holds?status=shut")).await;
    assert_eq!(refused.expect_problem(422, "validation_failed").errors_at(), ["status"]);

    app.account(&app.tronagg, OTHER_WALLET, "10").await;
    let other_key = app.key(&app.tronagg, OTHER_WALLET).await;
    for call in [
        capture(&other_key, &ids[0], json!({})),
        void(&other_key, &ids[0]),
        other_key.call("GET", &format!("/v1/holds/{}", ids[0])),
        void(&key, "hld_nonsense"),
        void(&key, &ids[0].replace("hld_", "pur_")),
    ] {
        app.send(call).await.expect_problem(404, "not_found");
    }
    app.check_ledger().await;
}

#[tokio::test]
async fn invalid_hold_requests_are_rejected_with_their_json_pointers() {
    let app = App::start().await;
    let wallet = app.wallet("10").await;
    let key = app.key(&app.tronagg, wallet).await;
    for (body, locations) in [
        (json!({}), vec!["/amount"]),
        (
            json!({"amount": 1, "expires_in": 0, "reference": ""}),
            vec!["/amount", "/expires_in", "/reference"],
        ),
        (json!({"amount": "1", "expires_in": 604_801}), vec!["/expires_in"]),
        (json!({"amount": "1", "expires_in": "60", "extra": 1}), vec!["/expires_in", "/extra"]),
    ] {
        let answer = app.send(key.call("POST", "/v1/holds").json(body)).await;
        assert_eq!(answer.expect_problem(422, "validation_failed").errors_at(), locations);
    }
    let id = app.send(hold(&key, "1")).await.expect(201).text("/id").to_owned();
    let zero = app.send(capture(&key, &id, json!({"amount": "0"}))).await;
    assert_eq!(zero.expect_problem(422, "validation_failed").errors_at(), ["/amount"]);
    let unknown_field = key.call("POST", &format!("/v1/holds/{id}/void")).json(json!({"why": "x"}));
    assert_eq!(
        app.send(unknown_field).await.expect_problem(422, "validation_failed").errors_at(),
        ["/why"]
    );
    let reader = app.key_with(&app.tronagg, wallet, json!({"name": "r", "scopes": ["read"]})).await;
    for call in [hold(&reader, "1"), capture(&reader, &id, json!({})), void(&reader, &id)] {
        app.send(call).await.expect_problem(403, "insufficient_scope");
    }
    app.check_ledger().await;
}
