//! Rate limits in `POST /v1/keys/verify`, and refusals in the usage of a key.

use serde_json::{Value, json};

use super::calls::{HOUR, authorize, left, limit, limit_tenant, limited_key, scoped, set_limits};
use crate::harness::{Answer, App, TestTenant, app::NewKey};

async fn verify_as(app: &App, tenant: &TestTenant, body: Value) -> Answer {
    let answer = app.send(tenant.call("POST", "/v1/keys/verify").json(body)).await.expect(200);
    assert_eq!(answer.json["valid"], answer.code() == "VALID", "{answer:?}");
    answer
}

async fn verify(app: &App, body: Value) -> Answer {
    verify_as(app, &app.tronagg, body).await
}

/// Returns the names and the remaining calls in `rate_limits`.
#[track_caller]
fn remaining(answer: &Answer) -> Vec<(&str, u64)> {
    let limits = answer.json["rate_limits"].as_array();
    let limits = limits.unwrap_or_else(|| panic!("no rate_limits: {answer:?}"));
    limits.iter().filter_map(name_and_remaining).collect()
}

fn name_and_remaining(limit: &Value) -> Option<(&str, u64)> {
    Some((limit["name"].as_str()?, limit["remaining"].as_u64()?))
}

/// Returns how often each outcome of the key was counted.
async fn counted(app: &App, key: &NewKey, outcome: &str) -> u64 {
    app.flush_usage().await;
    let usage = app.send(app.tronagg.call("GET", &format!("{}/usage", key.path))).await.expect(200);
    let count = |step: &Value| step["outcomes"][outcome].as_u64().expect("the count is a number");
    usage.data().iter().map(count).sum()
}

#[tokio::test]
async fn verify_charges_the_call_and_reports_the_limits_until_one_refuses() {
    let app = App::start().await;
    let key = limited_key(&app, json!([limit("default", 2)])).await;
    for calls in [1, 0] {
        let valid = verify(&app, json!({"key": key.text})).await;
        assert_eq!(valid.code(), "VALID");
        let state = &valid.json["rate_limits"][0];
        assert_eq!(
            (&state["name"], &state["limit"], &state["window_seconds"], &state["scope"]),
            (&json!("default"), &json!(2), &json!(HOUR), &Value::Null)
        );
        assert_eq!(remaining(&valid), [("default", calls)]);
        let resets_in = state["resets_in"].as_u64().expect("the member is a number");
        assert!((1..=u64::from(HOUR)).contains(&resets_in), "{state}");
        assert!(state["resets_at"].is_string(), "{state}");
        assert!(valid.json.get("limits").is_none(), "{valid:?}");
        assert!(valid.json.get("retry_after").is_none(), "{valid:?}");
    }
    let refused = verify(&app, json!({"key": key.text})).await;
    assert_eq!(refused.code(), "RATE_LIMITED");
    assert_eq!(refused.json["key_id"], key.id);
    assert_eq!(refused.json["limits"], json!(["default"]));
    assert_eq!(remaining(&refused), [("default", 0)]);
    let retry_after = refused.json["retry_after"].as_u64().expect("the member is a number");
    assert!((1..=u64::from(HOUR)).contains(&retry_after), "{refused:?}");
    // The client did not send this request, so its response has no fields.
    for name in ["ratelimit", "ratelimit-policy", "retry-after"] {
        assert_eq!(refused.header(name), None, "{name}");
    }
    authorize(&app, &key).await.expect_problem(429, "rate_limited");
}

#[tokio::test]
async fn cost_above_a_limit_is_refused_without_a_time_to_retry_after() {
    let app = App::start().await;
    let key = limited_key(&app, json!([limit("default", 5)])).await;
    let refused = verify(&app, json!({"key": key.text, "cost": 6})).await;
    assert_eq!(refused.code(), "RATE_LIMITED");
    assert_eq!(refused.json["limits"], json!(["default"]));
    assert!(refused.json.get("retry_after").is_none(), "{refused:?}");
    let valid = verify(&app, json!({"key": key.text, "cost": 3})).await;
    assert_eq!(remaining(&valid), [("default", 2)]);
    assert_eq!(left(&authorize(&app, &key).await.expect(200)), [("default", 1)]);
}

#[tokio::test]
async fn verify_is_charged_to_the_limits_of_its_scopes_and_not_if_the_key_is_refused() {
    let app = App::start().await;
    let wallet = app.wallet("0").await;
    let limits = json!([scoped("orders", 5, "orders:read"), scoped("trades", 5, "trades:read")]);
    let body = json!({"name": "a reader", "scopes": ["read"], "rate_limits": limits});
    let key = app.key_with(&app.tronagg, wallet, body).await;

    let unscoped = verify(&app, json!({"key": key.text})).await;
    assert_eq!(unscoped.code(), "VALID");
    assert!(unscoped.json.get("rate_limits").is_none(), "{unscoped:?}");
    let scopes = json!(["orders:read", "orders:write"]);
    let lacking = verify(&app, json!({"key": key.text, "scopes": scopes})).await;
    assert_eq!(lacking.code(), "INSUFFICIENT_SCOPE");
    let stranger = json!({"key": key.text, "scopes": ["orders:read"]});
    let stranger = verify_as(&app, &app.tradetally, stranger).await;
    assert_eq!(stranger.json, json!({"valid": false, "code": "NOT_FOUND"}));

    let orders = verify(&app, json!({"key": key.text, "scopes": ["orders:read"]})).await;
    assert_eq!(remaining(&orders), [("orders", 4)]);
    let scopes = json!(["orders:read", "trades:read"]);
    let both = verify(&app, json!({"key": key.text, "scopes": scopes, "cost": 2})).await;
    assert_eq!(remaining(&both), [("orders", 2), ("trades", 3)]);
}

#[tokio::test]
async fn charge_over_a_limit_makes_no_purchase_and_a_declined_charge_counts_as_a_call() {
    let app = App::start().await;
    let wallet = app.wallet("10").await;
    let key = limited_key(&app, json!([scoped("buy", 3, "purchases:write")])).await;
    let charge = |amount: &str, idempotency_key: &str| {
        let charge = json!({"amount": amount, "idempotency_key": idempotency_key});
        verify(&app, json!({"key": key.text, "charge": charge}))
    };
    let made = charge("4", "a").await;
    assert_eq!((made.code(), remaining(&made)), ("VALID", vec![("buy", 2)]));
    let repeated = charge("4", "a").await;
    assert_eq!((repeated.code(), remaining(&repeated)), ("VALID", vec![("buy", 1)]));
    assert_eq!(repeated.json["purchase"], made.json["purchase"]);
    let declined = charge("7", "b").await;
    assert_eq!((declined.code(), remaining(&declined)), ("INSUFFICIENT_BALANCE", vec![("buy", 0)]));
    let refused = charge("1", "c").await;
    assert_eq!((refused.code(), remaining(&refused)), ("RATE_LIMITED", vec![("buy", 0)]));
    assert!(refused.json.get("purchase").is_none(), "{refused:?}");
    assert_eq!(app.balance(&app.tronagg, wallet).await, "6.000000");

    // The refusal is not stored under its idempotency key.
    set_limits(&app, &key.path, json!([scoped("buy", 4, "purchases:write")])).await;
    assert_eq!(charge("1", "c").await.code(), "VALID");
    app.check_ledger().await;
}

#[tokio::test]
async fn limit_of_the_tenant_is_named_without_its_state() {
    let app = App::start().await;
    limit_tenant(&app, json!([limit("default", 1)])).await;
    let key = limited_key(&app, Value::Null).await;
    let valid = verify(&app, json!({"key": key.text})).await;
    assert_eq!(valid.code(), "VALID");
    assert!(valid.json.get("rate_limits").is_none(), "{valid:?}");
    let refused = verify(&app, json!({"key": key.text})).await;
    assert_eq!(refused.code(), "RATE_LIMITED");
    assert_eq!(refused.json["limits"], json!(["tenant:default"]));
    assert!(refused.json.get("rate_limits").is_none(), "{refused:?}");
    assert!(refused.json["retry_after"].is_u64(), "{refused:?}");
}

#[tokio::test]
async fn refusals_by_a_limit_have_an_outcome_of_their_own_in_the_usage_of_the_key() {
    let app = App::start().await;
    let key = limited_key(&app, json!([limit("default", 1)])).await;
    authorize(&app, &key).await.expect(200);
    for _ in 0..2 {
        authorize(&app, &key).await.expect_problem(429, "rate_limited");
        let refused = verify(&app, json!({"key": key.text})).await;
        assert_eq!(refused.code(), "RATE_LIMITED");
    }
    app.send(key.buy("1")).await.expect_problem(429, "rate_limited");
    assert_eq!(counted(&app, &key, "rate_limited").await, 5);
    assert_eq!(counted(&app, &key, "valid").await, 1);
}
