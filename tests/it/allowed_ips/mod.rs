//! The networks from which keys may be used.

mod requests;
mod settings;
mod verify;

use serde_json::Value;

use crate::harness::{Answer, App, app::NewKey};

/// The path of the account that [`App::wallet`] creates.
const ACCOUNT: &str = "/v1/accounts/TMVQGm1qAQYVdetCeGRRkTWYYrLXuHK2HC";

const AUTHORIZE: &str = "/v1/authorize/tronagg/live";

/// Creates a key with these settings in TronAgg's account.
async fn key_with(app: &App, mut settings: Value) -> NewKey {
    let account = app.wallet("10").await;
    settings["name"] = "a key".into();
    app.key_with(&app.tronagg, account, settings).await
}

/// Changes a resource of TronAgg.
async fn patch(app: &App, path: &str, body: Value) -> Value {
    app.send(app.tronagg.call("PATCH", path).json(body)).await.expect(200).json
}

/// Authorizes a request that a client at this address has sent with the key.
async fn authorize_from(app: &App, address: &str, key: &NewKey) -> Answer {
    app.send_from(address, key.call("GET", AUTHORIZE)).await
}

/// Returns how often each outcome of the key was counted.
async fn counted(app: &App, key: &NewKey, outcome: &str) -> u64 {
    app.flush_usage().await;
    let usage = app.send(app.tronagg.call("GET", &format!("{}/usage", key.path))).await.expect(200);
    let count = |step: &Value| step["outcomes"][outcome].as_u64().expect("the count is a number");
    usage.data().iter().map(count).sum()
}
