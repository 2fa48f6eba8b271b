//! Which calls are charged to which rate limits.

use serde_json::{Value, json};

use super::calls::{
    ACCOUNT, AUTHORIZE, HOUR, authorize, hold, lasting, left, limit, limit_fields, limit_tenant,
    limited_key, patch, resets, scoped, set_limits,
};
use crate::harness::{Answer, App, app::NewKey, eventually};

/// Sends a call to the endpoint for gateways with this query.
async fn ask(app: &App, key: &NewKey, query: &str) -> Answer {
    app.send(key.call("GET", &format!("{AUTHORIZE}?{query}"))).await
}

/// Returns the remaining calls of each limit that applies to a key or an account.
async fn effective(app: &App, path: &str) -> Vec<(String, Value)> {
    let found = app.send(app.tronagg.call("GET", path)).await.expect(200);
    let limits = found.json["effective_rate_limits"].as_array().expect("the member is a list");
    let name = |limit: &Value| limit["name"].as_str().expect("the name is a string").to_owned();
    limits.iter().map(|limit| (name(limit), limit["remaining"].clone())).collect()
}

#[tokio::test]
async fn calls_that_are_refused_before_the_rate_limits_are_not_charged() {
    let app = App::start().await;
    let wallet = app.wallet("0").await;
    set_limits(&app, ACCOUNT, json!([limit("default", 5)])).await;
    let disabled = app.key(&app.tronagg, wallet).await;
    patch(&app, &disabled.path, json!({"enabled": false})).await;
    let revoked = app.key(&app.tronagg, wallet).await;
    app.send(app.tronagg.call("POST", &format!("{}/revoke", revoked.path))).await.expect(200);
    let expired = app.key(&app.tronagg, wallet).await;
    app.expire(&expired).await;
    let reader = json!({"name": "a reader", "scopes": ["read"]});
    let reader = app.key_with(&app.tronagg, wallet, reader).await;
    for (call, status) in [
        (disabled.call("GET", AUTHORIZE), 401),
        (revoked.call("GET", AUTHORIZE), 401),
        (expired.call("GET", AUTHORIZE), 401),
        (reader.call("GET", "/v1/authorize/tradetally/live"), 401),
        (reader.call("GET", "/v1/authorize/tronagg/test"), 404),
        (reader.call("GET", &format!("{AUTHORIZE}?scope=orders:write")), 403),
        (reader.call("GET", &format!("{AUTHORIZE}?scope=?")), 422),
        (reader.buy("1"), 403),
        (hold(&reader, "1"), 403),
    ] {
        let refused = app.send(call).await.expect(status);
        assert!(limit_fields(&refused).is_empty(), "{refused:?}");
    }
    patch(&app, ACCOUNT, json!({"status": "suspended"})).await;
    authorize(&app, &reader).await.expect_problem(403, "account_suspended");
    patch(&app, ACCOUNT, json!({"status": "active"})).await;

    let account = app.send(app.tronagg.call("GET", ACCOUNT)).await.expect(200);
    let window = &account.json["effective_rate_limits"][0];
    assert_eq!((&window["remaining"], &window["resets_at"]), (&json!(5), &Value::Null));
    let charged = authorize(&app, &reader).await.expect(200);
    assert_eq!(left(&charged), [("account:default", 4)]);
}

#[tokio::test]
async fn call_that_is_refused_after_the_rate_limits_is_charged() {
    let app = App::start().await;
    app.wallet("1").await;
    let key = limited_key(&app, json!([limit("default", 8)])).await;
    let bought = app.send(key.buy("1").idempotency_key("k")).await.expect(201);
    assert_eq!(left(&bought), [("default", 7)]);
    let post = |media_type: &str| key.call("POST", "/v1/purchases").body(media_type, "{");
    let refusals = [
        (key.buy("2"), 402),
        (hold(&key, "2"), 402),
        (key.buy("2").idempotency_key("k"), 422),
        (key.buy("-1"), 422),
        (post("application/json"), 400),
        (post("text/plain"), 415),
    ];
    for ((call, status), calls) in refusals.into_iter().zip((1..=6).rev()) {
        let refused = app.send(call).await.expect(status);
        assert_eq!(left(&refused), [("default", calls)]);
    }
    authorize(&app, &key).await.expect(200);
    authorize(&app, &key).await.expect_problem(429, "rate_limited");
    app.check_ledger().await;
}

#[tokio::test]
async fn reads_captures_and_voids_are_neither_charged_nor_refused() {
    let app = App::start().await;
    app.wallet("10").await;
    let key = limited_key(&app, json!([limit("default", 3)])).await;
    let bought = app.send(key.buy("1")).await.expect(201).text("/id").to_owned();
    let first = app.send(hold(&key, "1")).await.expect(201).text("/id").to_owned();
    let second = app.send(hold(&key, "1")).await.expect(201).text("/id").to_owned();
    authorize(&app, &key).await.expect_problem(429, "rate_limited");
    let used_up = vec![("default".to_owned(), json!(0))];
    for call in [
        key.call("GET", "/v1/me"),
        key.call("GET", "/v1/purchases"),
        key.call("GET", &format!("/v1/purchases/{bought}")),
        key.call("GET", "/v1/holds"),
        key.call("GET", &format!("/v1/holds/{first}")),
        key.call("POST", &format!("/v1/holds/{first}/capture")).json(json!({})),
        key.call("POST", &format!("/v1/holds/{second}/void")),
    ] {
        let answer = app.send(call.clone()).await.expect(200);
        assert!(limit_fields(&answer).is_empty(), "{answer:?}");
        assert_eq!(effective(&app, &key.path).await, used_up, "{call:?}");
    }
    set_limits(&app, &key.path, json!([limit("default", 4)])).await;
    app.send(key.call("GET", "/v1/me")).await.expect(200);
    assert_eq!(left(&authorize(&app, &key).await.expect(200)), [("default", 0)]);
    app.check_ledger().await;
}

#[tokio::test]
async fn call_counts_as_its_cost_and_is_refused_if_too_few_calls_are_left() {
    let app = App::start().await;
    let key = limited_key(&app, json!([limit("default", 6)])).await;
    assert_eq!(left(&ask(&app, &key, "cost=3").await.expect(200)), [("default", 3)]);
    for _ in 0..2 {
        let refused = ask(&app, &key, "cost=4").await.expect_problem(429, "rate_limited");
        assert_eq!(left(&refused), [("default", 3)]);
        assert!(refused.header("retry-after").is_some(), "{refused:?}");
    }
    assert_eq!(left(&ask(&app, &key, "cost=2").await.expect(200)), [("default", 1)]);
    assert_eq!(left(&authorize(&app, &key).await.expect(200)), [("default", 0)]);
}

#[tokio::test]
async fn cost_outside_its_range_is_a_validation_error_of_the_parameter_and_not_charged() {
    let app = App::start().await;
    let key = limited_key(&app, json!([limit("default", 10_000)])).await;
    for cost in ["0", "-1", "10001", "1.5", "", "%2B1", "one", "1&cost=1"] {
        let refused = ask(&app, &key, &format!("cost={cost}")).await;
        let refused = refused.expect_problem(422, "validation_failed");
        assert_eq!(refused.errors_at(), ["cost"], "{cost:?}");
    }
    for cost in [json!(0), json!(-1), json!(10_001), json!(1.5), json!("1"), json!([1])] {
        let body = json!({"key": key.text, "cost": cost});
        let refused = app.send(app.tronagg.call("POST", "/v1/keys/verify").json(body)).await;
        let refused = refused.expect_problem(422, "validation_failed");
        assert_eq!(refused.errors_at(), ["/cost"], "{cost}");
    }
    let largest = ask(&app, &key, "cost=10000").await.expect(200);
    assert_eq!(left(&largest), [("default", 0)]);
}

#[tokio::test]
async fn limit_with_a_scope_counts_only_calls_that_ask_for_it_or_for_a_scope_that_it_implies() {
    let app = App::start().await;
    let limits = json!([
        scoped("all", 9, "write"),
        scoped("orders", 9, "orders:write"),
        scoped("reads", 9, "read"),
        scoped("buy", 9, "purchases:write"),
    ]);
    let key = limited_key(&app, limits).await;
    for (query, counting) in [
        ("", &[][..]),
        ("scope=write", &["all"]),
        ("scope=orders:write", &["all", "orders"]),
        ("scope=orders:read", &["all", "orders", "reads"]),
        ("scope=trades:read", &["all", "reads"]),
        ("scope=read", &["all", "reads"]),
    ] {
        let answer = ask(&app, &key, query).await.expect(200);
        let policy = counting.iter().map(|name| format!("\"{name}\";q=9;w=3600"));
        let policy = policy.collect::<Vec<_>>().join(", ");
        let field = answer.header("ratelimit-policy").unwrap_or_default();
        assert_eq!(field, policy, "{query}");
    }
    // The purchase is declined later, because the balance is zero.
    let bought = app.send(key.buy("1")).await.expect(402);
    assert_eq!(left(&bought), [("all", 3), ("buy", 8)]);
    let expected = [("all", 3), ("orders", 7), ("reads", 6), ("buy", 8)];
    let expected = expected.map(|(name, calls)| (name.to_owned(), json!(calls)));
    assert_eq!(effective(&app, &key.path).await, expected);

    // A limit that does not count a call does not refuse it.
    set_limits(&app, &key.path, json!([scoped("orders", 2, "orders:write")])).await;
    ask(&app, &key, "scope=orders:read").await.expect_problem(429, "rate_limited");
    for query in ["", "scope=trades:read", "scope=write"] {
        ask(&app, &key, query).await.expect(200);
    }
}

#[tokio::test]
async fn call_that_one_limit_refuses_is_charged_to_no_limit() {
    for (of_key, of_account, of_tenant, refusing) in
        [(2, 5, 5, "default"), (5, 2, 5, "account:default"), (5, 5, 2, "tenant:default")]
    {
        let app = App::start().await;
        let key = limited_key(&app, json!([limit("default", of_key)])).await;
        set_limits(&app, ACCOUNT, json!([limit("default", of_account)])).await;
        limit_tenant(&app, json!([limit("default", of_tenant)])).await;
        for _ in 0..2 {
            authorize(&app, &key).await.expect(200);
        }
        let mut charged = [("account:default", of_account - 2), ("default", of_key - 2)];
        charged.sort_unstable();
        for _ in 0..3 {
            let refused = authorize(&app, &key).await.expect_problem(429, "rate_limited");
            assert_eq!(refused.json["limits"], json!([refusing]));
            let mut left = left(&refused);
            left.sort_unstable();
            assert_eq!(left, charged);
        }

        // Both other limits still allow three calls.
        let raised = json!([limit("default", 50)]);
        match refusing {
            "default" => set_limits(&app, &key.path, raised).await,
            "account:default" => set_limits(&app, ACCOUNT, raised).await,
            _ => limit_tenant(&app, raised).await,
        }
        for _ in 0..3 {
            authorize(&app, &key).await.expect(200);
        }
        let refused = authorize(&app, &key).await.expect_problem(429, "rate_limited");
        let limits = refused.json["limits"].as_array().expect("the member is a list");
        assert!(!limits.contains(&json!(refusing)), "{refused:?}");
    }
}

#[tokio::test]
async fn keys_that_replace_each_other_by_rotation_share_the_windows_of_their_limits() {
    let app = App::start().await;
    let old = limited_key(&app, json!([limit("default", 6)])).await;
    for calls in [5, 4] {
        assert_eq!(left(&authorize(&app, &old).await.expect(200)), [("default", calls)]);
    }
    let mut keys = vec![old];
    for calls in [3, 2] {
        let path = &keys.last().expect("there is a key").path;
        let rotate = app.tronagg.call("POST", &format!("{path}/rotate"));
        let new = app.send(rotate.json(json!({"grace_seconds": 3600}))).await.expect(201);
        let id = new.text("/id").to_owned();
        let path = format!("{ACCOUNT}/keys/{id}");
        keys.push(NewKey { text: new.text("/key").to_owned(), id, path });
        let newest = keys.last().expect("there is a key");
        assert_eq!(left(&authorize(&app, newest).await.expect(200)), [("default", calls)]);
    }
    assert_eq!(left(&authorize(&app, &keys[0]).await.expect(200)), [("default", 1)]);
    for key in &keys {
        assert_eq!(effective(&app, &key.path).await, [("default".to_owned(), json!(1))]);
    }
    // A key that was not rotated has a window of its own.
    let other = limited_key(&app, json!([limit("default", 6)])).await;
    assert_eq!(left(&authorize(&app, &other).await.expect(200)), [("default", 5)]);
}

#[tokio::test]
async fn changed_limits_of_a_rotated_key_also_apply_to_the_key_that_it_replaced() {
    let app = App::start().await;
    let old = limited_key(&app, json!([limit("default", 6)])).await;
    let rotate = app.tronagg.call("POST", &format!("{}/rotate", old.path));
    let new = app.send(rotate.json(json!({"grace_seconds": 3600}))).await.expect(201);
    let new = format!("{ACCOUNT}/keys/{}", new.text("/id"));
    authorize(&app, &old).await.expect(200);
    set_limits(&app, &new, json!([lasting("default", 3, 60)])).await;
    let answer = authorize(&app, &old).await.expect(200);
    assert_eq!(answer.headers["ratelimit-policy"], "\"default\";q=3;w=60");
    // The change of the old key is in the audit trail too.
    let events = app.tronagg.call("GET", &format!("/v1/audit-events?key_id={}", old.id));
    let events = app.send(events).await.expect(200);
    assert_eq!(events.data()[0]["action"], "api_key.change", "{events:?}");
}

#[tokio::test]
async fn call_after_the_end_of_a_window_begins_the_next_although_calls_were_left() {
    let app = App::start().await;
    let key = limited_key(&app, json!([lasting("default", 1000, 1)])).await;
    let number = async || {
        let number = "SELECT number FROM rate_limit_windows";
        sqlx::query_scalar::<_, i64>(number).fetch_one(&app.pool).await.expect("there is a window")
    };
    authorize(&app, &key).await.expect(200);
    let first = number().await;
    // Each of these calls passes, in the first window or in the next one.
    eventually("the next window has begun", async || {
        authorize(&app, &key).await.expect(200);
        number().await != first
    })
    .await;
}

#[tokio::test]
async fn limit_that_is_removed_and_added_again_continues_its_window() {
    let app = App::start().await;
    let key = limited_key(&app, json!([limit("default", 5)])).await;
    for _ in 0..2 {
        authorize(&app, &key).await.expect(200);
    }
    set_limits(&app, &key.path, Value::Null).await;
    let without = authorize(&app, &key).await.expect(200);
    assert!(limit_fields(&without).is_empty(), "{without:?}");
    set_limits(&app, &key.path, json!([limit("other", 5)])).await;
    assert_eq!(left(&authorize(&app, &key).await.expect(200)), [("other", 4)]);
    set_limits(&app, &key.path, json!([limit("default", 5)])).await;
    assert_eq!(left(&authorize(&app, &key).await.expect(200)), [("default", 2)]);
}

#[tokio::test]
async fn changed_length_begins_a_new_window_that_is_charged_with_the_used_calls() {
    let app = App::start().await;
    let key = limited_key(&app, json!([lasting("default", 5, HOUR)])).await;
    for _ in 0..2 {
        authorize(&app, &key).await.expect(200);
    }
    for (window_seconds, calls) in [(2 * HOUR, 2), (HOUR / 2, 1)] {
        set_limits(&app, &key.path, json!([lasting("default", 5, window_seconds)])).await;
        let answer = authorize(&app, &key).await.expect(200);
        assert_eq!(left(&answer), [("default", calls)]);
        let (_, resets_in) = resets(&answer)[0];
        // The earlier window would end after less than half of this time, or later than it.
        assert!(resets_in > window_seconds / 2 && resets_in <= window_seconds, "{answer:?}");
    }
}

#[tokio::test]
async fn raised_limit_passes_more_calls_and_lowered_limit_counts_the_used_calls() {
    let app = App::start().await;
    let key = limited_key(&app, json!([limit("default", 2)])).await;
    let set = |calls: u32| set_limits(&app, &key.path, json!([limit("default", calls)]));
    for _ in 0..2 {
        authorize(&app, &key).await.expect(200);
    }
    authorize(&app, &key).await.expect_problem(429, "rate_limited");
    set(4).await;
    for calls in [1, 0] {
        assert_eq!(left(&authorize(&app, &key).await.expect(200)), [("default", calls)]);
    }
    for calls in [3, 4] {
        set(calls).await;
        let refused = authorize(&app, &key).await.expect_problem(429, "rate_limited");
        assert_eq!(left(&refused), [("default", 0)]);
    }
    set(5).await;
    assert_eq!(left(&authorize(&app, &key).await.expect(200)), [("default", 0)]);
}

#[tokio::test]
async fn limit_of_the_same_name_replaces_a_default_and_limits_of_other_names_are_added() {
    let app = App::start().await;
    let defaults = json!({
        "key_rate_limits": [limit("default", 2), limit("burst", 9)],
        "account_rate_limits": [limit("default", 3), limit("daily", 8)],
    });
    patch(&app, "/v1/limits", defaults).await;
    let with_defaults = limited_key(&app, Value::Null).await;
    let own = limited_key(&app, json!([limit("default", 5), limit("own", 7)])).await;
    set_limits(&app, ACCOUNT, json!([limit("default", 6)])).await;

    let answer = authorize(&app, &with_defaults).await.expect(200);
    let policy = "\"default\";q=2;w=3600, \"burst\";q=9;w=3600, \"account:default\";q=6;w=3600, \
                  \"account:daily\";q=8;w=3600";
    assert_eq!(answer.header("ratelimit-policy"), Some(policy));
    let answer = authorize(&app, &own).await.expect(200);
    let policy = "\"default\";q=5;w=3600, \"own\";q=7;w=3600, \"burst\";q=9;w=3600, \
                  \"account:default\";q=6;w=3600, \"account:daily\";q=8;w=3600";
    assert_eq!(answer.header("ratelimit-policy"), Some(policy));

    authorize(&app, &with_defaults).await.expect(200);
    let refused = authorize(&app, &with_defaults).await.expect_problem(429, "rate_limited");
    assert_eq!(refused.json["limits"], json!(["default"]));
    for _ in 0..3 {
        authorize(&app, &own).await.expect(200);
    }
    let refused = authorize(&app, &own).await.expect_problem(429, "rate_limited");
    assert_eq!(refused.json["limits"], json!(["account:default"]));
    // A key without limits of its own has a window of its own for each default.
    let another = limited_key(&app, Value::Null).await;
    set_limits(&app, ACCOUNT, json!([limit("default", 100)])).await;
    let answer = authorize(&app, &another).await.expect(200);
    assert!(left(&answer).contains(&("default", 1)), "{answer:?}");
}
