//! Limits that tests set, the calls that they count, and the fields of the responses.

use serde_json::{Value, json};
use tollgate::domain::{
    audit::Origin,
    rate_limit::{RateLimits, TenantLimitsChange},
};

use crate::harness::{Answer, App, Call, app::NewKey};

pub const AUTHORIZE: &str = "/v1/authorize/tronagg/live";

/// The path of the account that [`App::wallet`] creates.
pub const ACCOUNT: &str = "/v1/accounts/TMVQGm1qAQYVdetCeGRRkTWYYrLXuHK2HC";

/// The length of the windows in seconds. No window ends while a test runs.
pub const HOUR: u32 = 3600;

/// A limit of every call.
pub fn limit(name: &str, calls: u32) -> Value {
    lasting(name, calls, HOUR)
}

/// A limit with windows of this length.
pub fn lasting(name: &str, calls: u32, window_seconds: u32) -> Value {
    json!({"name": name, "limit": calls, "window_seconds": window_seconds, "scope": null})
}

/// A limit of the calls that ask for this scope, or for a scope that it implies.
pub fn scoped(name: &str, calls: u32, scope: &str) -> Value {
    json!({"name": name, "limit": calls, "window_seconds": HOUR, "scope": scope})
}

/// Creates a key with these limits in TronAgg's account.
pub async fn limited_key(app: &App, limits: Value) -> NewKey {
    let account = app.wallet("0").await;
    let body = json!({"name": "a key", "rate_limits": limits});
    app.key_with(&app.tronagg, account, body).await
}

/// Sets TronAgg's own limits, as the operator does.
pub async fn limit_tenant(app: &App, limits: Value) {
    let own = RateLimits::from_stored(&limits).expect("the list is valid");
    let change = TenantLimitsChange { own: Some(own), ..TenantLimitsChange::default() };
    let tenant = &app.tronagg.tenant;
    let changed = app.store.change_tenant_limits(tenant, &change, &Origin::cli()).await;
    changed.expect("the limits are changed");
}

/// Changes a resource of TronAgg.
pub async fn patch(app: &App, path: &str, body: Value) -> Value {
    app.send(app.tronagg.call("PATCH", path).json(body)).await.expect(200).json
}

/// Replaces the limits of a key or an account.
pub async fn set_limits(app: &App, path: &str, limits: Value) {
    patch(app, path, json!({"rate_limits": limits})).await;
}

/// Sends a call that every limit without a scope counts.
pub async fn authorize(app: &App, key: &NewKey) -> Answer {
    app.send(key.call("GET", AUTHORIZE)).await
}

pub fn hold(key: &NewKey, amount: &str) -> Call {
    key.call("POST", "/v1/holds").json(json!({"amount": amount}))
}

/// Returns the name and the remaining calls of each limit in `RateLimit`, in the order of the
/// field.
#[track_caller]
pub fn left(answer: &Answer) -> Vec<(&str, u32)> {
    items(answer).into_iter().map(|(name, calls, _)| (name, calls)).collect()
}

/// Returns the name of each limit in `RateLimit`, and the seconds until its window ends.
#[track_caller]
pub fn resets(answer: &Answer) -> Vec<(&str, u32)> {
    items(answer).into_iter().map(|(name, _, seconds)| (name, seconds)).collect()
}

/// Returns the names of the fields about rate limits.
pub fn limit_fields(answer: &Answer) -> Vec<&str> {
    let names = answer.headers.keys().map(|name| name.as_str());
    let mut names: Vec<&str> = names.filter(|name| name.contains("rate")).collect();
    names.sort_unstable();
    names
}

pub fn retry_after(answer: &Answer) -> Option<u32> {
    let seconds = answer.header("retry-after")?;
    Some(seconds.parse().unwrap_or_else(|_| panic!("Retry-After is not a number: {answer:?}")))
}

#[track_caller]
fn items(answer: &Answer) -> Vec<(&str, u32, u32)> {
    let field = answer.header("ratelimit").unwrap_or_else(|| panic!("no RateLimit: {answer:?}"));
    field.split(", ").map(item).collect()
}

/// Parses an item such as `"default";r=12;t=37`.
fn item(text: &str) -> (&str, u32, u32) {
    let mut parts = text.split(';');
    let name = parts.next().expect("a split has a first part").trim_matches('"');
    let mut number = |prefix: &str| {
        let value = parts.next().and_then(|part| part.strip_prefix(prefix));
        let value = value.and_then(|value| value.parse::<u32>().ok());
        value.unwrap_or_else(|| panic!("no {prefix} in {text}"))
    };
    (name, number("r="), number("t="))
}
