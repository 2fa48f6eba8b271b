//! The gate accepts live keys with the required scope. The tests also check its responses to
//! requests with other keys.

use serde_json::json;

use crate::harness::{Answer, App, Call, TestTenant, app::NewKey};

/// The path of TronAgg's endpoint for gateways.
const AUTHORIZE: &str = "/v1/authorize/tronagg/live";

/// Returns the parts of a response by which a client could distinguish refusals.
fn observable_parts(answer: &Answer) -> (u16, serde_json::Value, Vec<(String, String)>) {
    let mut body = answer.json.clone();
    body["request_id"] = json!(null);
    let mut headers: Vec<_> = answer
        .headers
        .iter()
        .filter(|(name, _)| *name != "x-request-id")
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap_or("").to_owned()))
        .collect();
    headers.sort();
    (answer.status, body, headers)
}

#[tokio::test]
async fn api_key_is_accepted_in_either_header_regardless_of_letter_case() {
    let app = App::start().await;
    let wallet = app.wallet("0").await;
    let key = app.key(&app.tronagg, wallet).await.text;
    let me = || Call::new("GET", "/v1/me");
    for call in [
        me().header("X-API-Key", &key),
        me().header("x-api-key", &key),
        me().bearer(&key),
        me().header("Authorization", &format!("bEaReR   {key}")),
        me().header("X-API-Key", &key).bearer(&key),
        me().header("X-API-Key", &key).header("X-API-Key", &key),
        me().header("X-API-Key", &key).header("Authorization", "Basic dXNlcjpwYXNz"),
    ] {
        app.send(call.clone()).await.expect(200);
    }
}

#[tokio::test]
async fn absent_and_conflicting_api_keys_are_refused_as_missing() {
    let app = App::start().await;
    let wallet = app.wallet("0").await;
    let (key, other) =
        (app.key(&app.tronagg, wallet).await.text, app.key(&app.tronagg, wallet).await.text);
    let me = || Call::new("GET", "/v1/me");
    for call in [
        me(),
        me().header("X-API-Key", ""),
        me().header("Authorization", "Bearer "),
        me().header("Authorization", &format!("Basic {key}")),
        me().header("X-API-Key", &key).header("X-API-Key", &other),
        me().header("X-API-Key", &key).bearer(&other),
        Call::new("GET", &format!("/v1/me?api_key={key}&X-API-Key={key}")),
    ] {
        let answer = app.send(call).await.expect_problem(401, "missing_api_key");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer realm=\"tollgate\""));
    }
}

#[tokio::test]
async fn unknown_revoked_disabled_and_expired_keys_get_identical_responses() {
    let app = App::start().await;
    let wallet = app.wallet("0").await;
    let revoked = app.key(&app.tronagg, wallet).await;
    let revoke = app.tronagg.call("POST", &format!("{}/revoke", revoked.path));
    app.send(revoke).await.expect(200);
    let disabled = app.key(&app.tronagg, wallet).await;
    let disable = app.tronagg.call("PATCH", &disabled.path).json(json!({"enabled": false}));
    app.send(disable).await.expect(200);
    let expired = app.key(&app.tronagg, wallet).await;
    app.expire(&expired).await;
    let unknown = format!("ta_{}", "A".repeat(43));
    let unknown_prefix = format!("zz_{}", "A".repeat(43));
    let live = app.key(&app.tronagg, wallet).await.text;
    let plausible = "ta_aBcDeFgHiJkLmNoPqRsTuVwXyZ0123456789-_ab";
    let mut answers = Vec::new();
    for text in [
        &revoked.text,
        &disabled.text,
        &expired.text,
        &unknown,
        &unknown_prefix,
        "x",
        plausible,
        &live[..45],
        &format!("{live}A"),
        &live.to_uppercase(),
        &app.tronagg.admin_key,
    ] {
        let answer = app.send(Call::new("GET", "/v1/me").header("X-API-Key", text)).await;
        answers.push(observable_parts(&answer.expect_problem(401, "invalid_api_key")));
    }
    let not_utf8 = Call::new("GET", "/v1/me").raw_header("X-API-Key", b"ta_\xff\xfe");
    answers
        .push(observable_parts(&app.send(not_utf8).await.expect_problem(401, "invalid_api_key")));
    for answer in &answers {
        assert_eq!(answer, &answers[0]);
    }
}

#[tokio::test]
async fn key_with_one_changed_character_is_refused() {
    let app = App::start().await;
    let wallet = app.wallet("0").await;
    let key = app.key(&app.tronagg, wallet).await.text;
    for index in 3..46 {
        let mut changed = key.clone().into_bytes();
        changed[index] = if changed[index] == b'x' { b'y' } else { b'x' };
        let changed = String::from_utf8(changed).expect("the text is UTF-8");
        let answer = app.send(Call::new("GET", "/v1/me").header("X-API-Key", &changed)).await;
        answer.expect_problem(401, "invalid_api_key");
    }
}

#[tokio::test]
async fn missing_scope_is_refused_and_named_in_the_response() {
    let app = App::start().await;
    let wallet = app.wallet("10").await;
    let mut keys = Vec::new();
    for scopes in [vec!["read"], vec!["purchases:write"], vec!["orders:write"]] {
        let body = json!({"name": "a", "scopes": scopes});
        keys.push(app.key_with(&app.tronagg, wallet, body).await);
    }
    let [reader, buyer, other] = &keys[..] else { unreachable!("three keys were created") };
    let refused = app.send(reader.buy("1")).await.expect_problem(403, "insufficient_scope");
    assert_eq!(refused.json["required_scope"], "purchases:write");
    let challenge = refused.header("www-authenticate").expect("the response has a challenge");
    assert!(challenge.contains("error=\"insufficient_scope\", scope=\"purchases:write\""));
    app.send(reader.call("GET", "/v1/purchases")).await.expect(200);
    app.send(buyer.buy("1")).await.expect(201);
    app.send(buyer.call("GET", "/v1/purchases")).await.expect(200);
    let refused = app.send(other.call("GET", "/v1/purchases")).await;
    assert_eq!(
        refused.expect_problem(403, "insufficient_scope").json["required_scope"],
        "purchases:read"
    );
    app.send(other.call("GET", "/v1/me")).await.expect(200);
    assert_eq!(app.balance(&app.tronagg, wallet).await, "9.000000");
}

#[tokio::test]
async fn authorize_returns_the_principal_in_headers_for_any_method() {
    let app = App::start().await;
    let wallet = app.wallet("0").await;
    let body = json!({"name": "a", "scopes": ["orders:write", "read"]});
    let key = app.key_with(&app.tronagg, wallet, body).await;
    for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"] {
        let answer = app
            .send(key.call(method, &format!("{AUTHORIZE}?scope=orders:write")))
            .await
            .expect(200);
        assert!(answer.body.is_empty());
        for (name, value) in [
            ("x-tollgate-tenant", "tronagg"),
            ("x-tollgate-environment", "live"),
            ("x-tollgate-account", wallet),
            ("x-tollgate-key-id", &key.id),
            ("x-tollgate-scopes", "read orders:write"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{method}");
        }
    }
    let tunnel = app.send(key.call("CONNECT", AUTHORIZE)).await;
    let tunnel = tunnel.expect_problem(405, "method_not_allowed");
    let allowed = "GET,HEAD,POST,PUT,PATCH,DELETE,OPTIONS,TRACE";
    assert_eq!(tunnel.header("allow"), Some(allowed));
    app.send(key.call("GET", AUTHORIZE)).await.expect(200);
    let refused = app.send(key.call("POST", &format!("{AUTHORIZE}?scope=purchases:write"))).await;
    let refused = refused.expect_problem(403, "insufficient_scope");
    assert_eq!(refused.json["required_scope"], "purchases:write");
}

/// Builds requests from a gateway: one with a valid key, one without a key, and two with unknown
/// keys.
fn calls_of_clients(key: &NewKey, method: &str, path: &str) -> [Call; 4] {
    let unknown = format!("ta_{}", "A".repeat(43));
    [
        key.call(method, path),
        Call::new(method, path),
        Call::new(method, path).header("X-API-Key", &unknown),
        Call::new(method, path).header("X-API-Key", "nonsense"),
    ]
}

#[tokio::test]
async fn authorize_checks_the_query_before_the_key() {
    let app = App::start().await;
    let wallet = app.wallet("0").await;
    let key = app.key(&app.tronagg, wallet).await;
    for (query, errors) in [
        ("scope=admin", vec!["scope"]),
        ("scope=", vec!["scope"]),
        ("scope=read&scope=write", vec!["scope"]),
        ("page=2&q=a%20b", vec!["page", "q"]),
        ("Scope=read", vec!["Scope"]),
        ("page=2&scope=admin", vec!["scope", "page"]),
    ] {
        for method in ["GET", "POST", "PROPFIND"] {
            for call in calls_of_clients(&key, method, &format!("{AUTHORIZE}?{query}")) {
                let answer = app.send(call).await.expect_problem(422, "validation_failed");
                assert_eq!(answer.errors_at(), errors, "{query}");
            }
        }
    }
    assert_eq!(uses(&app, &app.tronagg, &key).await, 0);
}

#[tokio::test]
async fn authorize_checks_the_path_before_the_key() {
    let app = App::start().await;
    let wallet = app.wallet("0").await;
    let key = app.key(&app.tronagg, wallet).await;
    let with_key = format!("/v1/authorize/{}/live", key.text);
    let with_key = with_key.as_str();
    for (path, named) in [
        // Each path names a tenant or an environment that does not exist.
        ("/v1/authorize/tronag/live", "tenant tronag does not exist in the environment live"),
        ("/v1/authorize/tronagg/test", "tenant tronagg does not exist in the environment test"),
        ("/v1/authorize/tronagg/prod", "live or test"),
        ("/v1/authorize/tronagg/LIVE", "live or test"),
        ("/v1/authorize/TronAgg/live", "/v1/authorize/{tenant}/{environment}"),
        ("/v1/authorize/%20/live", "/v1/authorize/{tenant}/{environment}"),
        ("/v1/authorize/%FF/live", "/v1/authorize/{tenant}/{environment}"),
        (with_key, "/v1/authorize/{tenant}/{environment}"),
    ] {
        for method in ["GET", "POST", "PROPFIND"] {
            for call in calls_of_clients(&key, method, path) {
                let answer = app.send(call).await.expect_problem(404, "not_found");
                let detail = answer.text("/detail");
                assert!(detail.contains(named) && !detail.contains(&key.text), "{path}: {detail}");
            }
        }
    }
    assert_eq!(uses(&app, &app.tronagg, &key).await, 0);
}

#[tokio::test]
async fn authorize_without_a_tenant_returns_404_and_the_error_names_the_right_path() {
    let app = App::start().await;
    let wallet = app.wallet("0").await;
    let key = app.key(&app.tronagg, wallet).await;
    for path in ["/v1/authorize", "/v1/authorize?scope=orders:write", "/v1/authorize?page=2"] {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"] {
            for call in calls_of_clients(&key, method, path) {
                let answer = app.send(call).await.expect_problem(404, "not_found");
                let detail = answer.text("/detail");
                assert!(detail.contains("/v1/authorize/{tenant}/{environment}"), "{detail}");
            }
        }
    }
    assert_eq!(uses(&app, &app.tronagg, &key).await, 0);
}

#[tokio::test]
async fn authorize_refuses_keys_of_another_tenant_or_environment_like_unknown_keys() {
    let app = App::start().await;
    // Three tenants have an account with the same id.
    let wallet = app.wallet("0").await;
    let test = app.tronagg_test().await;
    app.account(&test, wallet, "0").await;
    app.account(&app.tradetally, wallet, "0").await;
    let own = app.key(&app.tronagg, wallet).await;
    let reader = json!({"name": "a", "scopes": ["read"]});
    let mut strangers = vec![
        (&test, app.key(&test, wallet).await),
        (&app.tradetally, app.key(&app.tradetally, wallet).await),
        // This key also lacks the required scope.
        (&test, app.key_with(&test, wallet, reader).await),
    ];
    let disabled = app.key(&test, wallet).await;
    let disable = test.call("PATCH", &disabled.path).json(json!({"enabled": false}));
    app.send(disable).await.expect(200);
    let expired = app.key(&test, wallet).await;
    app.expire(&expired).await;
    let revoked = app.key(&app.tradetally, wallet).await;
    app.send(app.tradetally.call("POST", &format!("{}/revoke", revoked.path))).await.expect(200);
    app.account(&app.tradetally, "suspended", "0").await;
    let suspended = app.key(&app.tradetally, "suspended").await;
    let suspend = app.tradetally.call("PATCH", "/v1/accounts/suspended");
    app.send(suspend.json(json!({"status": "suspended"}))).await.expect(200);
    strangers.extend([disabled, expired].map(|key| (&test, key)));
    strangers.extend([revoked, suspended].map(|key| (&app.tradetally, key)));

    let authorize = format!("{AUTHORIZE}?scope=orders:write");
    let unknown =
        Call::new("GET", &authorize).header("X-API-Key", &format!("ta_{}", "A".repeat(43)));
    let unknown = app.send(unknown).await.expect_problem(401, "invalid_api_key");
    let unknown = observable_parts(&unknown);
    for (tenant, key) in &strangers {
        // The node reads the key from the database for the first request, and from the cache for
        // the second.
        for _ in 0..2 {
            let refused = app.send(key.call("GET", &authorize)).await;
            let refused = refused.expect_problem(401, "invalid_api_key");
            assert_eq!(observable_parts(&refused), unknown);
        }
        assert_eq!(uses(&app, tenant, key).await, 0);
    }
    app.send(own.call("GET", &authorize)).await.expect(200);
    assert_eq!(uses(&app, &app.tronagg, &own).await, 1);

    // In its own tenant, each key gets the response that matches its state.
    let at = |tenant: &TestTenant| {
        let (slug, environment) = (&tenant.tenant.slug, tenant.tenant.environment.as_str());
        format!("/v1/authorize/{slug}/{environment}")
    };
    for ((tenant, key), status) in strangers.iter().zip([200, 200, 200, 401, 401, 401, 403]) {
        let answer = app.send(key.call("GET", &at(tenant))).await.expect(status);
        if status == 200 {
            assert_eq!(answer.header("x-tollgate-account"), Some(wallet));
        }
        assert_eq!(uses(&app, tenant, key).await, 1);
    }
    let refused = app.send(own.call("GET", &at(&test))).await;
    refused.expect_problem(401, "invalid_api_key");
    assert_eq!(uses(&app, &app.tronagg, &own).await, 1);
}

/// Returns the number of the key's uses in the last day, with any outcome.
async fn uses(app: &App, tenant: &TestTenant, key: &NewKey) -> i64 {
    app.flush_usage().await;
    let usage = app.send(tenant.call("GET", &format!("{}/usage", key.path))).await.expect(200);
    usage.data().iter().map(|step| step["total"].as_i64().expect("the member is a number")).sum()
}

#[tokio::test]
async fn me_endpoint_returns_the_key_its_account_and_the_balance() {
    let app = App::start().await;
    let wallet = app.wallet("12.5").await;
    let key = app.key(&app.tronagg, wallet).await;
    let me = app.send(key.call("GET", "/v1/me")).await.expect(200);
    assert_eq!(me.json["tenant"], json!({"slug": "tronagg", "environment": "live"}));
    assert_eq!(me.json["account"], json!({"id": wallet, "status": "active"}));
    let balance = json!({
        "amount": "12.500000", "held": "0.000000", "available": "12.500000", "currency": "TRX", "decimals": 6,
    });
    assert_eq!(me.json["balance"], balance);
    assert_eq!(me.json["key"]["id"], json!(key.id));
    assert_eq!(me.header("cache-control"), Some("no-store"));
}

#[tokio::test]
async fn malformed_key_is_refused_without_a_database_lookup() {
    let app = App::start().await;
    let call = |text: &str| Call::new("GET", "/v1/me").header("X-API-Key", text);
    app.store.close().await;
    for text in ["x", "ta_short", &"ta_".repeat(1000), &format!("ta_{}", "A".repeat(42))] {
        app.send(call(text)).await.expect_problem(401, "invalid_api_key");
    }
    // A well-formed key needs a lookup, which fails because the store is closed.
    let well_formed = format!("ta_{}", "A".repeat(43));
    app.send(call(&well_formed)).await.expect_problem(503, "unavailable");
}
