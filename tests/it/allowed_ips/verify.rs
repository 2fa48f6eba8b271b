//! Networks in `POST /v1/keys/verify`.

use serde_json::{Value, json};

use super::{counted, key_with};
use crate::harness::{Answer, App, WALLET};

async fn verify(app: &App, body: Value) -> Answer {
    let answer = app.send(app.tronagg.call("POST", "/v1/keys/verify").json(body)).await.expect(200);
    assert_eq!(answer.json["valid"], answer.code() == "VALID", "{answer:?}");
    answer
}

#[tokio::test]
async fn verify_compares_the_address_of_the_client_and_not_of_the_backend() {
    let app = App::start().await;
    let key = key_with(&app, json!({"allowed_ips": ["203.0.113.0/24", "192.0.2.0/24"]})).await;
    for (client, code) in [
        (json!("203.0.113.9"), "VALID"),
        (json!("::ffff:203.0.113.9"), "VALID"),
        (json!("198.51.100.9"), "IP_NOT_ALLOWED"),
        (json!("2001:db8::1"), "IP_NOT_ALLOWED"),
        // The backend's own address is 192.0.2.7.
        (Value::Null, "IP_NOT_ALLOWED"),
    ] {
        let answer = verify(&app, json!({"key": key.text, "client_ip": client})).await;
        assert_eq!(answer.code(), code, "{client}");
        assert_eq!(answer.json["key_id"], key.id);
    }
    assert_eq!(verify(&app, json!({"key": key.text})).await.code(), "IP_NOT_ALLOWED");
    assert_eq!(
        (counted(&app, &key, "valid").await, counted(&app, &key, "ip_not_allowed").await),
        (2, 4)
    );
}

#[tokio::test]
async fn key_without_networks_needs_no_client_address() {
    let app = App::start().await;
    let key = key_with(&app, json!({})).await;
    assert_eq!(verify(&app, json!({"key": key.text})).await.code(), "VALID");
    let answer = verify(&app, json!({"key": key.text, "client_ip": "2001:db8::1"})).await;
    assert_eq!(answer.code(), "VALID");
}

#[tokio::test]
async fn refused_address_comes_before_the_scope_and_makes_no_charge() {
    let app = App::start().await;
    let limits = json!([{"name": "default", "limit": 1, "window_seconds": 3600}]);
    let settings = json!({
        "allowed_ips": ["203.0.113.0/24"], "scopes": ["purchases:write"], "rate_limits": limits,
    });
    let key = key_with(&app, settings).await;
    let charge = json!({"amount": "1", "idempotency_key": "a"});
    for client in ["198.51.100.9", "192.0.2.7"] {
        let body = json!({"key": key.text, "client_ip": client, "charge": charge});
        assert_eq!(verify(&app, body).await.code(), "IP_NOT_ALLOWED");
        let body = json!({"key": key.text, "client_ip": client, "scopes": ["orders:write"]});
        assert_eq!(verify(&app, body).await.code(), "IP_NOT_ALLOWED");
    }
    let body = json!({"key": key.text, "client_ip": "203.0.113.9", "charge": charge});
    let made = verify(&app, body).await;
    assert_eq!(made.code(), "VALID");
    assert_eq!(made.json["rate_limits"][0]["remaining"], 0);
    assert_eq!(app.balance(&app.tronagg, WALLET).await, "9.000000");
}

#[tokio::test]
async fn client_address_that_is_not_an_address_is_refused() {
    let app = App::start().await;
    let key = key_with(&app, json!({})).await;
    for client in ["", "203.0.113.0/24", "203.0.113.7:80", "[::1]", "unknown", "203.0.113.07"] {
        let body = json!({"key": key.text, "client_ip": client});
        let refused = app.send(app.tronagg.call("POST", "/v1/keys/verify").json(body)).await;
        let refused = refused.expect_problem(422, "validation_failed");
        let detail = "must be an IP address, such as 203.0.113.7";
        let expected = json!([{"pointer": "/client_ip", "detail": detail}]);
        assert_eq!(refused.json["errors"], expected, "{client:?}");
    }
}
