//! The rate limits that the backend and the operator set.

use serde_json::{Value, json};
use tollgate::domain::{
    account::{AccountFormat, ExternalId},
    audit::Origin,
    key_settings::KeyChange,
    rate_limit::{CallLimit, OwnerLimits, RateLimits, TenantLimitsChange},
};

use crate::harness::{App, Call, WALLET, app::TestTenant, played_node::PlayedNode};

const ACCOUNT: &str = "/v1/accounts/TMVQGm1qAQYVdetCeGRRkTWYYrLXuHK2HC";

fn limit(name: &str, calls: u32) -> Value {
    json!({"name": name, "limit": calls, "window_seconds": 60, "scope": null})
}

fn limits(calls: u32) -> Value {
    json!([limit("default", calls)])
}

async fn get(app: &App, tenant: &TestTenant, path: &str) -> Value {
    app.send(tenant.call("GET", path)).await.expect(200).json
}

async fn patch(app: &App, path: &str, body: Value) -> Value {
    app.send(app.tronagg.call("PATCH", path).json(body)).await.expect(200).json
}

/// Returns the newest audit event of TronAgg.
async fn newest_event(app: &App) -> Value {
    get(app, &app.tronagg, "/v1/audit-events?limit=1").await["data"][0].clone()
}

async fn generation(app: &App, table: &'static str) -> i64 {
    let query = match table {
        "api_keys" => "SELECT limits_generation FROM api_keys",
        "accounts" => "SELECT limits_generation FROM accounts",
        _ => {
            "SELECT p.limits_generation FROM plans p JOIN tenants t USING (tenant_id)
             WHERE t.slug = 'tronagg'"
        }
    };
    sqlx::query_scalar(query).fetch_one(&app.pool).await.expect("there is one row")
}

#[tokio::test]
async fn rate_limits_of_a_key_can_be_set_replaced_and_cleared() {
    let app = App::start().await;
    let wallet = app.wallet("0").await;
    let given = json!([
        {"name": "default", "limit": 1000, "window_seconds": 60},
        {"name": "orders_1-a", "limit": 10, "window_seconds": 1, "scope": "orders:write"},
    ]);
    let shown = json!([
        {"name": "default", "limit": 1000, "window_seconds": 60, "scope": null},
        {"name": "orders_1-a", "limit": 10, "window_seconds": 1, "scope": "orders:write"},
    ]);
    let body = json!({"name": "a key", "rate_limits": given});
    let key = app.key_with(&app.tronagg, wallet, body).await;
    assert_eq!(newest_event(&app).await["detail"]["rate_limits"], shown);
    assert_eq!(get(&app, &app.tronagg, &key.path).await["rate_limits"], shown);
    let me = app.send(key.call("GET", "/v1/me")).await.expect(200);
    assert_eq!(me.json["key"]["rate_limits"], shown);

    assert_eq!(patch(&app, &key.path, json!({"name": "b"})).await["rate_limits"], shown);
    let mut from = shown;
    for to in [limits(5), json!([]), limits(7), Value::Null] {
        let changed = patch(&app, &key.path, json!({"rate_limits": to})).await;
        assert_eq!(changed["rate_limits"], to);
        assert_eq!(get(&app, &app.tronagg, &key.path).await["rate_limits"], to);
        let event = newest_event(&app).await;
        assert_eq!(
            (&event["action"], &event["target_id"]),
            (&json!("api_key.change"), &json!(key.id))
        );
        assert_eq!(event["detail"], json!({"rate_limits": {"from": from, "to": to}}));
        from = to;
    }
    let without = app.key(&app.tronagg, wallet).await;
    assert_eq!(get(&app, &app.tronagg, &without.path).await["rate_limits"], Value::Null);
}

#[tokio::test]
async fn rotated_key_has_the_rate_limits_of_the_old_key() {
    let app = App::start().await;
    let wallet = app.wallet("0").await;
    let body = json!({"name": "a key", "rate_limits": limits(5)});
    let key = app.key_with(&app.tronagg, wallet, body).await;
    let mut owner_limits = OwnerLimits::default();
    let name = "default".parse().expect("the name is valid");
    owner_limits.set(name, Some(CallLimit::try_from(3_i64).expect("the number is valid")));
    let tenant = &app.tronagg.tenant;
    let account = ExternalId::parse(WALLET, AccountFormat::Tron).expect("the id is valid");
    let id = key.id.parse().expect("the id is valid");
    let change = KeyChange { owner_limits: Some(owner_limits.clone()), ..KeyChange::default() };
    let origin = Origin::cli();
    let changed = app.store.account(tenant, &account, &origin).change_api_key(id, &change).await;
    changed.expect("the key is changed");
    let to = json!({"from": null, "to": {"default": 3}});
    assert_eq!(newest_event(&app).await["detail"]["owner_rate_limits"], to);

    let rotate = app.tronagg.call("POST", &format!("{}/rotate", key.path));
    let new = app.send(rotate.json(json!({"grace_seconds": 60}))).await.expect(201);
    assert_eq!(new.json["rate_limits"], limits(5));
    let id = new.text("/id").parse().expect("the id is valid");
    let stored = app.store.find_api_key(tenant, &account, id).await.expect("the key exists");
    assert_eq!(stored.settings.owner_limits, owner_limits);
    assert_eq!(stored.settings.rate_limits.map(|limits| limits.to_value()), Some(limits(5)));
}

#[tokio::test]
async fn put_sets_the_rate_limits_of_a_new_and_of_an_existing_account() {
    let app = App::start().await;
    let put = |body: Value| app.send(app.tronagg.call("PUT", ACCOUNT).json(body));
    let created = put(json!({"rate_limits": limits(5)})).await.expect(201);
    assert_eq!(created.json["rate_limits"], limits(5));
    let event = newest_event(&app).await;
    assert_eq!((&event["action"], &event["account"]), (&json!("account.change"), &json!(WALLET)));
    assert_eq!(event["detail"], json!({"rate_limits": {"from": null, "to": limits(5)}}));
    assert_eq!(put(json!({})).await.expect(200).json["rate_limits"], limits(5));

    let replaced = put(json!({"rate_limits": limits(6)})).await.expect(200);
    assert_eq!(replaced.json["rate_limits"], limits(6));
    let event = newest_event(&app).await;
    assert_eq!(event["detail"], json!({"rate_limits": {"from": limits(5), "to": limits(6)}}));
    put(json!({"rate_limits": limits(6)})).await.expect(200);
    assert_eq!(newest_event(&app).await["id"], event["id"], "the repeated PUT changed nothing");
    let cleared = put(json!({"rate_limits": null})).await.expect(200);
    assert_eq!(cleared.json["rate_limits"], Value::Null);
}

#[tokio::test]
async fn patch_changes_the_status_and_the_rate_limits_of_an_account() {
    let app = App::start().await;
    app.wallet("0").await;
    let both = json!({"status": "suspended", "rate_limits": limits(5)});
    let changed = patch(&app, ACCOUNT, both).await;
    assert_eq!((&changed["status"], &changed["rate_limits"]), (&json!("suspended"), &limits(5)));
    let changed = patch(&app, ACCOUNT, json!({"status": "active"})).await;
    assert_eq!((&changed["status"], &changed["rate_limits"]), (&json!("active"), &limits(5)));
    let changed = patch(&app, ACCOUNT, json!({"rate_limits": []})).await;
    assert_eq!((&changed["status"], &changed["rate_limits"]), (&json!("active"), &json!([])));
    let listed = get(&app, &app.tronagg, "/v1/accounts").await;
    assert_eq!(listed["data"][0]["rate_limits"], json!([]));
    let changed = patch(&app, ACCOUNT, json!({"rate_limits": null})).await;
    assert_eq!(changed["rate_limits"], Value::Null);
    let event = newest_event(&app).await;
    assert_eq!(event["detail"], json!({"rate_limits": {"from": [], "to": null}}));
    let unknown = app.tradetally.call("PATCH", "/v1/accounts/user-1");
    let answer = app.send(unknown.json(json!({"rate_limits": limits(5)}))).await;
    answer.expect_problem(404, "not_found");
}

#[tokio::test]
async fn backend_changes_the_defaults_and_the_operator_the_limits_of_the_tenant() {
    let app = App::start().await;
    let tronagg = &app.tronagg;
    let none = json!({"rate_limits": [], "key_rate_limits": [], "account_rate_limits": []});
    assert_eq!(get(&app, tronagg, "/v1/limits").await, none);
    let before = newest_event(&app).await;
    assert_eq!(patch(&app, "/v1/limits", json!({})).await, none);
    assert_eq!(newest_event(&app).await["id"], before["id"], "the empty PATCH changed nothing");

    let keys = json!({"key_rate_limits": limits(5), "account_rate_limits": limits(50)});
    let changed = patch(&app, "/v1/limits", keys).await;
    let expected =
        json!({"rate_limits": [], "key_rate_limits": limits(5), "account_rate_limits": limits(50)});
    assert_eq!(changed, expected);
    let event = newest_event(&app).await;
    assert_eq!(event["action"], "tenant.limits_change");
    assert_eq!((&event["account"], &event["target_id"]), (&Value::Null, &Value::Null));
    assert_eq!(
        event["detail"],
        json!({
            "key_rate_limits": {"from": [], "to": limits(5)},
            "account_rate_limits": {"from": [], "to": limits(50)},
        })
    );

    let own = RateLimits::from_stored(&limits(500)).expect("the list is valid");
    let change = TenantLimitsChange { own: Some(own), ..TenantLimitsChange::default() };
    let changed = app.store.change_tenant_limits(&tronagg.tenant, &change, &Origin::cli()).await;
    let changed = changed.expect("the limits are changed");
    assert_eq!(changed.keys.to_value(), limits(5));
    let detail = json!({"rate_limits": {"from": [], "to": limits(500)}});
    assert_eq!(newest_event(&app).await["detail"], detail);
    let cleared = patch(&app, "/v1/limits", json!({"key_rate_limits": null})).await;
    let expected = json!({
        "rate_limits": limits(500), "key_rate_limits": [], "account_rate_limits": limits(50),
    });
    assert_eq!(cleared, expected);
    assert_eq!(get(&app, tronagg, "/v1/limits").await, expected);

    let refused = tronagg.call("PATCH", "/v1/limits").json(json!({"rate_limits": limits(1)}));
    let refused = app.send(refused).await.expect_problem(422, "validation_failed");
    assert_eq!(refused.errors_at(), ["/rate_limits"]);
    assert_eq!(get(&app, &app.tradetally, "/v1/limits").await, none);
    assert_eq!(get(&app, tronagg, "/v1/limits").await, expected);
}

#[tokio::test]
async fn limits_of_a_tenant_need_the_permission_accounts() {
    let app = App::start().await;
    let others = ["audit", "credits", "dashboard", "keys", "verify"];
    let without = app.tronagg.admin_key_with(&app, &others).await;
    let with = app.tronagg.admin_key_with(&app, &["accounts"]).await;
    for method in ["GET", "PATCH"] {
        let refused = app.send(Call::new(method, "/v1/limits").bearer(&without)).await;
        refused.expect_problem(403, "insufficient_permission");
        app.send(Call::new(method, "/v1/limits").bearer(&with)).await.expect(200);
    }
}

#[tokio::test]
async fn invalid_rate_limits_are_refused_with_the_position_of_each_error() {
    let app = App::start().await;
    let wallet = app.wallet("0").await;
    let key = app.key(&app.tronagg, wallet).await;
    let keys = format!("{ACCOUNT}/keys");
    let routes = [
        ("POST", keys.as_str(), "rate_limits"),
        ("PATCH", key.path.as_str(), "rate_limits"),
        ("PUT", ACCOUNT, "rate_limits"),
        ("PATCH", ACCOUNT, "rate_limits"),
        ("PATCH", "/v1/limits", "key_rate_limits"),
        ("PATCH", "/v1/limits", "account_rate_limits"),
    ];
    let with = |member: &str, value: Value| {
        let mut limit = limit("default", 5);
        limit[member] = value;
        json!([limit])
    };
    let many: Vec<Value> = (0..9).map(|number| limit(&format!("n{number}"), 5)).collect();
    let cases = [
        (json!({}), vec![""]),
        (json!("default"), vec![""]),
        (json!([1]), vec!["/0"]),
        (json!([limit("a", 5), {}]), vec!["/1/name", "/1/limit", "/1/window_seconds"]),
        (
            json!([
                {"name": "A", "limit": 0, "window_seconds": 0, "scope": "x", "burst": 1},
                {"name": 1},
            ]),
            vec![
                "/0/name",
                "/0/limit",
                "/0/window_seconds",
                "/0/scope",
                "/0/burst",
                "/1/name",
                "/1/limit",
                "/1/window_seconds",
            ],
        ),
        (with("name", json!("a".repeat(33))), vec!["/0/name"]),
        (with("limit", json!(10_000_001)), vec!["/0/limit"]),
        (with("limit", json!("5")), vec!["/0/limit"]),
        (with("limit", json!(1.5)), vec!["/0/limit"]),
        (with("window_seconds", json!(2_678_401)), vec!["/0/window_seconds"]),
        (with("scope", json!(["read"])), vec!["/0/scope"]),
        (json!(many), vec![""]),
        (json!([limit("a", 5), limit("b", 5), limit("a", 6)]), vec![""]),
    ];
    for (method, path, member) in routes {
        for (value, positions) in &cases {
            let mut body = json!({"name": "a key"});
            if method != "POST" {
                body = json!({});
            }
            body[member] = value.clone();
            let answer = app.send(app.tronagg.call(method, path).json(body)).await;
            let answer = answer.expect_problem(422, "validation_failed");
            let expected: Vec<String> =
                positions.iter().map(|position| format!("/{member}{position}")).collect();
            assert_eq!(answer.errors_at(), expected, "{method} {path} {value}");
        }
    }
    assert_eq!(get(&app, &app.tronagg, &key.path).await["rate_limits"], Value::Null);
    assert_eq!(get(&app, &app.tronagg, &keys).await["data"].as_array().map(Vec::len), Some(1));
    assert_eq!(get(&app, &app.tronagg, ACCOUNT).await["rate_limits"], Value::Null);
    let none = json!({"rate_limits": [], "key_rate_limits": [], "account_rate_limits": []});
    assert_eq!(get(&app, &app.tronagg, "/v1/limits").await, none);
}

#[tokio::test]
async fn list_of_eight_limits_with_the_largest_numbers_is_accepted() {
    let app = App::start().await;
    let wallet = app.wallet("0").await;
    let key = app.key(&app.tronagg, wallet).await;
    let largest = |number: usize| {
        let name = format!("{}{number}", "a".repeat(31));
        json!({"name": name, "limit": 10_000_000, "window_seconds": 2_678_400, "scope": "read"})
    };
    let list: Vec<Value> = (0..8).map(largest).collect();
    for path in [key.path.as_str(), ACCOUNT] {
        let changed = patch(&app, path, json!({"rate_limits": list})).await;
        assert_eq!(changed["rate_limits"], json!(list));
    }
    let defaults = json!({"key_rate_limits": list, "account_rate_limits": list});
    let changed = patch(&app, "/v1/limits", defaults).await;
    assert_eq!(changed["account_rate_limits"], json!(list));
}

#[tokio::test]
async fn only_a_change_of_the_rate_limits_raises_their_generation() {
    let app = App::start().await;
    let wallet = app.wallet("0").await;
    let key = app.key(&app.tronagg, wallet).await;
    for (table, path, member, other) in [
        ("api_keys", key.path.as_str(), "rate_limits", json!({"name": "b", "enabled": true})),
        ("accounts", ACCOUNT, "rate_limits", json!({"status": "suspended"})),
        ("plans", "/v1/limits", "key_rate_limits", json!({})),
    ] {
        let set = |calls: u32| {
            let mut body = json!({});
            body[member] = limits(calls);
            body
        };
        patch(&app, path, set(5)).await;
        let first = generation(&app, table).await;
        patch(&app, path, set(5)).await;
        patch(&app, path, other).await;
        assert_eq!(generation(&app, table).await, first, "{table}");
        patch(&app, path, set(6)).await;
        assert_eq!(generation(&app, table).await, first + 1, "{table}");
    }
}

#[tokio::test]
async fn change_of_rate_limits_waits_for_every_node_even_if_it_is_repeated() {
    let app = App::start().await;
    let wallet = app.wallet("0").await;
    let key = app.key(&app.tronagg, wallet).await;
    let mut node = PlayedNode::join(&app.pool).await;
    let tenant = &app.tronagg.tenant;
    for (path, member) in [
        (key.path.as_str(), "rate_limits"),
        (ACCOUNT, "rate_limits"),
        ("/v1/limits", "key_rate_limits"),
    ] {
        let mut body = json!({});
        body[member] = limits(5);
        for _ in 0..2 {
            let change = app.send(app.tronagg.call("PATCH", path).json(body.clone()));
            node.acknowledge_change_of("limits", tenant, change).await.expect(200);
        }
    }
}

#[tokio::test]
async fn changed_limits_of_a_tenant_clear_the_cache_of_the_node_that_changes_them() {
    let app = App::start().await;
    let wallet = app.wallet("0").await;
    let key = app.key(&app.tronagg, wallet).await;
    let cached = || app.node.verifier().state().keys;
    app.send(key.call("GET", "/v1/me")).await.expect(200);
    assert_eq!(cached(), 1);
    patch(&app, "/v1/limits", json!({"key_rate_limits": limits(1000)})).await;
    assert_eq!(cached(), 0);
}
