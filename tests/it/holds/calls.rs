//! Builds requests about holds, and reads their effects.

use serde_json::{Value, json};

use crate::harness::{Answer, App, Call, app::NewKey};

pub fn hold(key: &NewKey, amount: &str) -> Call {
    key.call("POST", "/v1/holds").json(json!({"amount": amount}))
}

pub fn capture(key: &NewKey, id: &str, body: Value) -> Call {
    key.call("POST", &format!("/v1/holds/{id}/capture")).json(body)
}

pub fn void(key: &NewKey, id: &str) -> Call {
    key.call("POST", &format!("/v1/holds/{id}/void"))
}

pub async fn find(app: &App, key: &NewKey, id: &str) -> Answer {
    app.send(key.call("GET", &format!("/v1/holds/{id}"))).await.expect(200)
}

/// Reads the held amount and the available amount of the balance.
pub async fn held_and_available(app: &App, key: &NewKey) -> (String, String) {
    let me = app.send(key.call("GET", "/v1/me")).await.expect(200);
    (me.text("/balance/held").to_owned(), me.text("/balance/available").to_owned())
}

/// Revokes a key as the backend does. Returns the response.
pub async fn revoke(app: &App, key: &NewKey, body: Value) -> Answer {
    let call = app.tronagg.call("POST", &format!("{}/revoke", key.path)).json(body);
    app.send(call).await.expect(200)
}

/// Returns the audit events of an action, newest first.
pub async fn events(app: &App, action: &str) -> Vec<Value> {
    let answer = app.send(app.tronagg.call("GET", "/v1/audit-events?limit=100")).await.expect(200);
    answer.data().iter().filter(|event| event["action"] == action).cloned().collect()
}

/// Sets the expiry of every open hold to a microsecond after its creation. The service does not
/// allow such an expiry.
pub async fn expire_holds(app: &App) {
    sqlx::query("ALTER TABLE holds DISABLE TRIGGER holds_change")
        .execute(&app.pool)
        .await
        .expect("the trigger is off");
    sqlx::query(
        "UPDATE holds SET expires_at = created_at + interval '1 microsecond' WHERE status = 'open'",
    )
    .execute(&app.pool)
    .await
    .expect("the expiries are set");
    sqlx::query("ALTER TABLE holds ENABLE TRIGGER holds_change")
        .execute(&app.pool)
        .await
        .expect("the trigger is on");
}
