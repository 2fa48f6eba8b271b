//! The state of the limits in the resources of keys and accounts.

use serde_json::{Value, json};

use super::calls::{
    ACCOUNT, HOUR, authorize, lasting, limit, limit_tenant, limited_key, patch, scoped,
};
use crate::harness::{App, Call, WALLET, app::NewKey};

async fn get(app: &App, call: Call) -> Value {
    app.send(call).await.expect(200).json
}

/// Returns the state of the limits of a key from each resource that shows the key.
async fn states_of_key(app: &App, key: &NewKey) -> [Value; 3] {
    let own = get(app, app.tronagg.call("GET", &key.path)).await;
    let me = get(app, key.call("GET", "/v1/me")).await;
    let list = get(app, app.tronagg.call("GET", &format!("{ACCOUNT}/keys"))).await;
    let is_key = |item: &&Value| item["id"] == key.id;
    let listed = list["data"].as_array().and_then(|list| list.iter().find(is_key));
    let listed = listed.expect("the list contains the key");
    [&own, &me["key"], listed].map(|resource| resource["effective_rate_limits"].clone())
}

/// Returns the state of the limits of an account from each resource that shows the account.
async fn states_of_account(app: &App) -> [Value; 2] {
    let own = get(app, app.tronagg.call("GET", ACCOUNT)).await;
    let list = get(app, app.tronagg.call("GET", "/v1/accounts")).await;
    [&own, &list["data"][0]].map(|resource| resource["effective_rate_limits"].clone())
}

/// Removes the times from the states. Checks that a limit has both times or neither, and that its
/// window ends in time.
fn without_times(states: &Value, has_begun: bool) -> Value {
    let mut states = states.clone();
    for state in states.as_array_mut().expect("the states are a list") {
        let window = state["window_seconds"].as_u64().expect("the length is a number");
        let state = state.as_object_mut().expect("a state is an object");
        let [at, seconds] = ["resets_at", "resets_in"].map(|name| state.remove(name));
        let [at, seconds] = [at, seconds].map(|time| time.expect("the state has both members"));
        assert_eq!((at.is_string(), seconds.is_u64()), (has_begun, has_begun), "{at} {seconds}");
        assert!(has_begun || (at.is_null() && seconds.is_null()), "{at} {seconds}");
        assert!(seconds.as_u64().is_none_or(|seconds| (1..=window).contains(&seconds)));
    }
    states
}

/// The state of a limit without times.
fn state(mut limit: Value, name: &str, remaining: u32) -> Value {
    limit["name"] = json!(name);
    limit["remaining"] = json!(remaining);
    limit
}

#[tokio::test]
async fn resources_show_the_remaining_calls_and_no_end_of_a_window_before_the_first_call() {
    let app = App::start().await;
    let own = [limit("default", 5), scoped("orders", 9, "orders:write")];
    let key = limited_key(&app, json!(own)).await;
    let of_account = lasting("default", 7, 2 * HOUR);
    patch(&app, ACCOUNT, json!({"rate_limits": [of_account]})).await;
    limit_tenant(&app, json!([limit("default", 100)])).await;

    let expected = |calls: [u32; 3]| {
        let [default, orders] = own.clone();
        let account = of_account.clone();
        json!([
            state(default, "default", calls[0]),
            state(orders, "orders", calls[1]),
            state(account, "account:default", calls[2]),
        ])
    };
    for states in states_of_key(&app, &key).await {
        assert_eq!(without_times(&states, false), expected([5, 9, 7]));
    }
    for states in states_of_account(&app).await {
        assert_eq!(without_times(&states, false), json!([expected([5, 9, 7])[2]]));
    }

    let other = limited_key(&app, Value::Null).await;
    let orders = key.call("GET", "/v1/authorize/tronagg/live?scope=orders:write");
    app.send(orders).await.expect(200);
    for _ in 0..2 {
        authorize(&app, &key).await.expect(200);
    }
    authorize(&app, &other).await.expect(200);
    for states in states_of_key(&app, &key).await {
        assert_eq!(without_times(&states, true), expected([2, 8, 3]));
    }
    for states in states_of_account(&app).await {
        assert_eq!(without_times(&states, true), json!([expected([2, 8, 3])[2]]));
    }
    for states in states_of_key(&app, &other).await {
        assert_eq!(without_times(&states, true), json!([expected([2, 8, 3])[2]]));
    }
}

#[tokio::test]
async fn all_resources_and_all_nodes_show_the_same_end_of_a_window() {
    let app = App::start().await;
    let key = limited_key(&app, json!([limit("default", 5)])).await;
    authorize(&app, &key).await.expect(200);
    let mut ends: Vec<Value> = Vec::new();
    ends.extend(states_of_key(&app, &key).await.map(|states| states[0]["resets_at"].clone()));
    let app = App::on(&app.url).await;
    ends.extend(states_of_key(&app, &key).await.map(|states| states[0]["resets_at"].clone()));
    assert!(ends[0].is_string(), "{ends:?}");
    assert!(ends.iter().all(|end| *end == ends[0]), "{ends:?}");
}

#[tokio::test]
async fn responses_to_changes_show_the_limits_that_apply_after_the_change() {
    let app = App::start().await;
    let key = limited_key(&app, json!([limit("default", 5)])).await;
    authorize(&app, &key).await.expect(200);
    let changed = patch(&app, &key.path, json!({"rate_limits": [limit("default", 3)]})).await;
    let expected = json!([state(limit("default", 3), "default", 2)]);
    assert_eq!(without_times(&changed["effective_rate_limits"], true), expected);
    let renamed = patch(&app, &key.path, json!({"name": "b"})).await;
    assert_eq!(without_times(&renamed["effective_rate_limits"], true), expected);
    let rotate = app.tronagg.call("POST", &format!("{}/rotate", key.path));
    let new = app.send(rotate.json(json!({"grace_seconds": 60}))).await.expect(201);
    assert_eq!(without_times(&new.json["effective_rate_limits"], true), expected);

    let body = json!({"name": "another", "rate_limits": [limit("default", 4)]});
    let create = app.tronagg.call("POST", &format!("{ACCOUNT}/keys")).json(body);
    let created = app.send(create).await.expect(201);
    let expected = json!([state(limit("default", 4), "default", 4)]);
    assert_eq!(without_times(&created.json["effective_rate_limits"], false), expected);
    let put = app.tronagg.call("PUT", ACCOUNT).json(json!({"rate_limits": [limit("daily", 9)]}));
    let put = app.send(put).await.expect(200);
    let expected = json!([state(limit("daily", 9), "account:daily", 9)]);
    assert_eq!(without_times(&put.json["effective_rate_limits"], false), expected);
}

#[tokio::test]
async fn limits_and_calls_of_another_tenant_are_not_shown() {
    let app = App::start().await;
    let test = app.tronagg_test().await;
    app.account(&test, WALLET, "0").await;
    let twin = app.key(&test, WALLET).await;
    let key = limited_key(&app, Value::Null).await;
    let defaults = json!({
        "key_rate_limits": [limit("default", 5)], "account_rate_limits": [limit("default", 9)],
    });
    for tenant in [&app.tronagg, &test] {
        let call = tenant.call("PATCH", "/v1/limits").json(defaults.clone());
        app.send(call).await.expect(200);
    }
    for _ in 0..2 {
        authorize(&app, &key).await.expect(200);
    }
    // The account has the same id in both environments.
    let own = get(&app, test.call("GET", &twin.path)).await;
    let unused = json!([
        state(limit("default", 5), "default", 5),
        state(limit("default", 9), "account:default", 9),
    ]);
    assert_eq!(without_times(&own["effective_rate_limits"], false), unused);
    let account = get(&app, test.call("GET", ACCOUNT)).await;
    assert_eq!(without_times(&account["effective_rate_limits"], false), json!([unused[1]]));

    for tenant in [&app.tradetally, &test] {
        app.send(tenant.call("GET", &key.path)).await.expect_problem(404, "not_found");
    }
    let limits = get(&app, app.tradetally.call("GET", "/v1/limits")).await;
    let none = json!({"rate_limits": [], "key_rate_limits": [], "account_rate_limits": []});
    assert_eq!(limits, none);
}
