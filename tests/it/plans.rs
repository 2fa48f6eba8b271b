//! Plans: the rules for the keys of accounts.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{
    Answer, App, OTHER_WALLET, WALLET, app::respond, data_dir::DataDir, played_node::PlayedNode,
};

const ACCOUNT: &str = "/v1/accounts/TMVQGm1qAQYVdetCeGRRkTWYYrLXuHK2HC";

async fn send(app: &App, method: &str, path: &str, body: Value) -> Answer {
    app.send(app.tronagg.call(method, path).json(body)).await
}

/// Creates or replaces the plan `pro`, and gives it to the account.
async fn put_pro(app: &App, settings: Value) {
    send(app, "PUT", "/v1/plans/pro", settings).await;
    let changed = send(app, "PATCH", ACCOUNT, json!({"plan": "pro"})).await.expect(200);
    assert_eq!(changed.text("/plan"), "pro");
}

/// Checks that a 422 has one error at this member, whose detail contains a text.
#[track_caller]
fn expect_error(answer: Answer, pointer: &str, text: &str) {
    let answer = answer.expect_problem(422, "validation_failed");
    let errors = answer.json["errors"].as_array().expect("a list");
    assert_eq!(errors.len(), 1, "{answer:?}");
    assert_eq!(errors[0]["pointer"], pointer, "{answer:?}");
    let detail = errors[0]["detail"].as_str().expect("a text");
    assert!(detail.contains(text), "{detail}");
}

fn limit(calls: u32) -> Value {
    json!([{"name": "default", "limit": calls, "window_seconds": 3600, "scope": null}])
}

#[tokio::test]
async fn plan_is_created_read_replaced_changed_listed_and_deleted() {
    let app = App::start().await;
    let default = send(&app, "GET", "/v1/plans/default", json!({})).await.expect(200);
    assert_eq!((&default.json["max_keys"], &default.json["scopes"]), (&json!(5), &Value::Null));
    assert_eq!(default.json["default_scopes"], json!(["write"]));
    assert_eq!(default.json["owner_creates_keys"], true);

    let settings = json!({
        "max_keys": 9,
        "scopes": [{"scope": "orders:write", "text": "Place orders"}, {"scope": "read"}],
        "default_scopes": ["orders:read"],
        "max_lifetime_seconds": 7_776_000, "default_lifetime_seconds": 86_400,
        "write_without_networks_days": 30, "owner_creates_keys": false,
        "key_rate_limits": limit(10), "account_rate_limits": limit(50),
    });
    let created = send(&app, "PUT", "/v1/plans/pro", settings.clone()).await.expect(201);
    let mut expected = settings.clone();
    expected["name"] = json!("pro");
    expected["scopes"][1]["text"] = json!("");
    expected["created_at"] = created.json["created_at"].clone();
    assert_eq!(created.json, expected);
    let read = send(&app, "GET", "/v1/plans/pro", json!({})).await.expect(200);
    assert_eq!(read.json, expected);

    let change = json!({"max_keys": 2, "scopes": null, "default_lifetime_seconds": null});
    let changed = send(&app, "PATCH", "/v1/plans/pro", change).await.expect(200);
    assert_eq!((&changed.json["max_keys"], &changed.json["scopes"]), (&json!(2), &Value::Null));
    assert_eq!(changed.json["default_lifetime_seconds"], Value::Null);
    assert_eq!(changed.json["max_lifetime_seconds"], 7_776_000);
    let replaced = send(&app, "PUT", "/v1/plans/pro", json!({})).await.expect(200);
    assert_eq!(
        (&replaced.json["max_keys"], &replaced.json["max_lifetime_seconds"]),
        (&json!(5), &Value::Null)
    );
    assert_eq!(replaced.json["created_at"], created.json["created_at"]);

    send(&app, "PUT", "/v1/plans/basic", json!({})).await.expect(201);
    let mut names = Vec::new();
    let mut path = "/v1/plans?limit=2".to_owned();
    loop {
        let page = send(&app, "GET", &path, json!({})).await.expect(200);
        names.extend(page.data().iter().map(|plan| plan["name"].clone()));
        let Some(cursor) = page.json["next_cursor"].as_str() else { break };
        path = format!("/v1/plans?limit=2&cursor={cursor}");
    }
    assert_eq!(json!(names), json!(["basic", "default", "pro"]));

    send(&app, "DELETE", "/v1/plans/basic", json!({})).await.expect(204);
    send(&app, "GET", "/v1/plans/basic", json!({})).await.expect_problem(404, "not_found");
    send(&app, "DELETE", "/v1/plans/basic", json!({})).await.expect_problem(404, "not_found");
    let events = send(&app, "GET", "/v1/audit-events?limit=5", json!({})).await.expect(200);
    let actions: Vec<_> = events.data().iter().map(|event| event["action"].clone()).collect();
    let expected = ["plan.delete", "plan.create", "plan.change", "plan.change", "plan.create"];
    assert_eq!(json!(actions), json!(expected));
    let detail = &events.data()[3]["detail"];
    assert_eq!(detail["max_keys"], json!({"from": 9, "to": 2}));
    assert_eq!(detail["plan"], "pro");
}

#[tokio::test]
async fn contradictory_and_malformed_plans_are_refused_with_the_wrong_member() {
    let app = App::start().await;
    let orders = json!([{"scope": "orders:write"}]);
    for (body, pointer, text) in [
        (json!({"max_keys": 0}), "/max_keys", "1 to 1000"),
        (json!({"scopes": orders}), "/default_scopes", "read is not one of"),
        (json!({"scopes": []}), "/scopes", "1 to 32 different scopes"),
        (json!({"scopes": [{"scope": "read"}, {"scope": "read"}]}), "/scopes", "different scopes"),
        (json!({"scopes": [{"scope": "Orders"}]}), "/scopes/0/scope", "a scope is"),
        (json!({"scopes": [{"scope": "read", "text": "a\nb"}]}), "/scopes/0/text", "control"),
        (
            json!({"scopes": [{"scope": "read", "text": "a\u{202e}b"}]}),
            "/scopes/0/text",
            "change the direction",
        ),
        (
            json!({"scopes": [{"scope": "read", "text": "a".repeat(201)}]}),
            "/scopes/0/text",
            "200 characters",
        ),
        (
            json!({"max_lifetime_seconds": 5, "default_lifetime_seconds": 6}),
            "/default_lifetime_seconds",
            "longer",
        ),
        (json!({"max_lifetime_seconds": 0}), "/max_lifetime_seconds", "from 1"),
        (json!({"write_without_networks_days": 4000}), "/write_without_networks_days", "from 1"),
        (json!({"max_key": 1}), "/max_key", "max_keys"),
    ] {
        expect_error(send(&app, "PUT", "/v1/plans/pro", body).await, pointer, text);
    }
    send(&app, "PUT", "/v1/plans/Pro", json!({})).await.expect_problem(422, "validation_failed");
    send(&app, "PUT", "/v1/plans/pro", json!({"max_lifetime_seconds": 5})).await.expect(201);
    let longer = json!({"default_lifetime_seconds": 6});
    let refused = send(&app, "PATCH", "/v1/plans/pro", longer).await;
    expect_error(refused, "/default_lifetime_seconds", "longer");
    let unknown = send(&app, "PUT", ACCOUNT, json!({"plan": "gold"})).await;
    expect_error(unknown, "/plan", "no such plan");
    send(&app, "GET", ACCOUNT, json!({})).await.expect_problem(404, "not_found");
    app.wallet("0").await;
    let unknown = json!({"status": "suspended", "plan": "gold"});
    expect_error(send(&app, "PATCH", ACCOUNT, unknown).await, "/plan", "no such plan");
    let kept = send(&app, "GET", ACCOUNT, json!({})).await.expect(200);
    assert_eq!((kept.text("/status"), kept.text("/plan")), ("active", "default"));
}

#[tokio::test]
async fn plan_of_an_account_and_the_plan_default_cannot_be_deleted() {
    let app = App::start().await;
    app.wallet("0").await;
    put_pro(&app, json!({})).await;
    for plan in ["pro", "default"] {
        let path = format!("/v1/plans/{plan}");
        send(&app, "DELETE", &path, json!({})).await.expect_problem(409, "plan_in_use");
    }
    send(&app, "PATCH", ACCOUNT, json!({"plan": "default"})).await.expect(200);
    send(&app, "DELETE", "/v1/plans/pro", json!({})).await.expect(204);
}

#[tokio::test]
async fn account_never_has_a_plan_that_was_deleted_at_the_same_time() {
    let app = App::start().await;
    app.wallet("0").await;
    for _ in 0..20 {
        send(&app, "PUT", "/v1/plans/pro", json!({})).await.expect(201);
        let (given, deleted) = tokio::join!(
            send(&app, "PATCH", ACCOUNT, json!({"plan": "pro"})),
            send(&app, "DELETE", "/v1/plans/pro", json!({})),
        );
        match (given.status, deleted.status) {
            (200, 409) => {
                send(&app, "PATCH", ACCOUNT, json!({"plan": "default"})).await.expect(200);
                send(&app, "DELETE", "/v1/plans/pro", json!({})).await.expect(204);
            }
            (422, 204) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn new_and_changed_keys_follow_the_rules_of_the_plan() {
    let app = App::start().await;
    app.wallet("0").await;
    let keys = format!("{ACCOUNT}/keys");
    put_pro(
        &app,
        json!({
            "max_keys": 2,
            "scopes": [{"scope": "orders:write"}, {"scope": "read"}],
            "default_scopes": ["orders:read"],
            "max_lifetime_seconds": 100_000, "default_lifetime_seconds": 50_000,
        }),
    )
    .await;
    let create = async |body: Value| send(&app, "POST", &keys, body).await;
    let wrong = create(json!({"name": "a", "scopes": ["write"]})).await;
    expect_error(wrong, "/scopes", "the plan pro does not allow the scope write");
    let wrong = create(json!({"name": "a", "expires_in": 100_001})).await;
    expect_error(wrong, "/expires_at", "the plan pro requires an expiry at");

    let created = create(json!({"name": "a"})).await.expect(201);
    assert_eq!(created.json["scopes"], json!(["orders:read"]));
    assert!(created.json["expires_at"].is_string(), "{created:?}");
    let path = format!("{keys}/{}", created.text("/id"));
    let never = send(&app, "PATCH", &path, json!({"expires_at": null})).await;
    expect_error(never, "/expires_at", "requires an expiry");
    let wrong = send(&app, "PATCH", &path, json!({"scopes": ["purchases:write"]})).await;
    expect_error(wrong, "/scopes", "purchases:write");
    send(&app, "PATCH", &path, json!({"scopes": ["orders:write", "purchases:read"]}))
        .await
        .expect(200);

    create(json!({"name": "b", "scopes": ["orders:write"]})).await.expect(201);
    let third = create(json!({"name": "c"})).await.expect_problem(409, "key_limit_reached");
    assert_eq!(third.json["max_keys"], 2);
    send(&app, "PATCH", "/v1/plans/pro", json!({"max_keys": 3})).await.expect(200);
    create(json!({"name": "c"})).await.expect(201);
    // Another account of the tenant has the plan default.
    app.account(&app.tronagg, OTHER_WALLET, "0").await;
    let other = app.key(&app.tronagg, OTHER_WALLET).await;
    send(&app, "PATCH", &other.path, json!({"scopes": ["write"]})).await.expect(200);
}

#[tokio::test]
async fn key_that_can_write_from_any_address_must_expire_within_the_days_of_the_plan() {
    let app = App::start().await;
    app.wallet("0").await;
    let keys = format!("{ACCOUNT}/keys");
    put_pro(&app, json!({"write_without_networks_days": 1})).await;
    let create = async |body: Value| send(&app, "POST", &keys, body).await;
    let reader = create(json!({"name": "a", "scopes": ["read"]})).await.expect(201);
    assert_eq!(reader.json["expires_at"], Value::Null);
    let writer = json!({"name": "a", "scopes": ["write"], "expires_in": 86_401});
    expect_error(create(writer).await, "/expires_at", "may be used from any address");
    let created = create(json!({"name": "a", "scopes": ["write"]})).await.expect(201);
    assert!(created.json["expires_at"].is_string(), "{created:?}");
    let here = json!({"name": "a", "scopes": ["write"], "allowed_ips": ["192.0.2.0/24"]});
    let here = create(here).await.expect(201);
    assert_eq!(here.json["expires_at"], Value::Null);

    // The rule acts when the scopes or the networks change.
    let path = format!("{keys}/{}", reader.text("/id"));
    let wrong = send(&app, "PATCH", &path, json!({"scopes": ["orders:write"]})).await;
    expect_error(wrong, "/expires_at", "may be used from any address");
    let path = format!("{keys}/{}", here.text("/id"));
    let wrong = send(&app, "PATCH", &path, json!({"allowed_ips": null})).await;
    expect_error(wrong, "/expires_at", "may be used from any address");
    send(&app, "PATCH", &path, json!({"name": "b"})).await.expect(200);
    // The networks of the account count too.
    send(&app, "PATCH", ACCOUNT, json!({"allowed_ips": ["192.0.2.0/24"]})).await.expect(200);
    send(&app, "PATCH", &path, json!({"allowed_ips": null})).await.expect(200);
}

#[tokio::test]
async fn rate_limits_of_a_plan_apply_on_every_node_once_its_change_has_returned() {
    let app = App::start().await;
    let other_node = app.another_node().await;
    app.wallet("0").await;
    let key = app.key(&app.tronagg, WALLET).await;
    let call = || key.call("GET", "/v1/authorize/tronagg/live");
    for _ in 0..3 {
        app.send(call()).await.expect(200);
        assert_eq!(respond(&other_node, call().into_request()).await.status, 200);
    }
    put_pro(&app, json!({"key_rate_limits": limit(2)})).await;
    app.send(call()).await.expect(200);
    assert_eq!(respond(&other_node, call().into_request()).await.status, 200);
    app.send(call()).await.expect_problem(429, "rate_limited");
    assert_eq!(respond(&other_node, call().into_request()).await.status, 429);

    send(&app, "PATCH", "/v1/plans/pro", json!({"key_rate_limits": limit(3)})).await.expect(200);
    assert_eq!(respond(&other_node, call().into_request()).await.status, 200);
    app.send(call()).await.expect_problem(429, "rate_limited");
    let lower = json!({"key_rate_limits": limit(1)});
    send(&app, "PATCH", "/v1/plans/pro", lower).await.expect(200);
    assert_eq!(respond(&other_node, call().into_request()).await.status, 429);
    let shown = send(&app, "GET", &key.path, json!({})).await.expect(200);
    assert_eq!(shown.json["effective_rate_limits"][0]["limit"], 1);

    send(&app, "PATCH", ACCOUNT, json!({"plan": "default"})).await.expect(200);
    for _ in 0..3 {
        app.send(call()).await.expect(200);
        assert_eq!(respond(&other_node, call().into_request()).await.status, 200);
    }
}

#[tokio::test]
async fn change_of_a_plan_waits_for_every_node_with_one_announcement() {
    let app = App::start().await;
    app.wallet("0").await;
    app.account(&app.tronagg, OTHER_WALLET, "0").await;
    put_pro(&app, json!({})).await;
    send(&app, "PATCH", &format!("/v1/accounts/{OTHER_WALLET}"), json!({"plan": "pro"})).await;
    let mut node = PlayedNode::join(&app.pool).await;
    for _ in 0..2 {
        let change =
            app.tronagg.call("PATCH", "/v1/plans/pro").json(json!({"key_rate_limits": limit(2)}));
        let change = app.send(change);
        node.acknowledge_change_of("tenant", &app.tronagg.tenant, change).await.expect(200);
    }
    let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM plans WHERE name = 'pro'")
        .fetch_one(&app.pool)
        .await
        .expect("the query succeeds");
    assert_eq!(rows, 1);
    // Without an acknowledgement, the change waits until the lease of the node ends.
    let change = app.tronagg.call("PATCH", "/v1/plans/pro").json(json!({"max_keys": 7}));
    let change = tokio::time::timeout(Duration::from_millis(300), app.send(change)).await;
    assert!(change.is_err(), "the change did not wait");
}

#[test]
fn command_creates_changes_shows_lists_and_deletes_plans_beside_a_running_service() {
    let data_dir = DataDir::new("plans");
    let process = data_dir.start(&["serve"]);
    data_dir.stdout(&["tenant", "create", "tronagg", "--prefix", "ta_", "--max-keys", "7"]);
    let plan = |arguments: &[&str]| data_dir.json(&[&["plan"], arguments, &["--json"]].concat());
    assert_eq!(plan(&["show", "tronagg", "default"])["max_keys"], 7);
    let created = plan(&[
        "set",
        "tronagg",
        "pro",
        "--max-keys=9",
        "--scope=orders:write=Place orders",
        "--scope=read",
        "--default-scopes=orders:read",
        "--max-lifetime=90d",
        "--write-without-networks-days=30",
        "--owner-creates-keys=false",
        "--key-limit=default=10/1m",
    ]);
    assert_eq!(created["scopes"][0], json!({"scope": "orders:write", "text": "Place orders"}));
    assert_eq!(created["max_lifetime_seconds"], 90 * 86_400);
    let changed = plan(&["set", "tronagg", "pro", "--any-scope", "--no-max-lifetime"]);
    assert_eq!((&changed["scopes"], &changed["max_keys"]), (&Value::Null, &json!(9)));
    assert_eq!(changed["write_without_networks_days"], 30);
    let listed = plan(&["list", "tronagg"]);
    assert_eq!((&listed[0]["name"], &listed[1]["name"]), (&json!("default"), &json!("pro")));
    let contradiction = data_dir.error(&[
        "plan",
        "set",
        "tronagg",
        "pro",
        "--scope=orders:write",
        "--default-scopes=write",
    ]);
    assert!(contradiction.contains("default scope write"), "{contradiction}");
    let default = data_dir.error(&["plan", "delete", "tronagg", "default"]);
    assert!(default.contains("in use"), "{default}");
    data_dir.stdout(&["plan", "delete", "tronagg", "pro"]);
    let missing = data_dir.error(&["plan", "show", "tronagg", "pro"]);
    assert!(missing.contains("no plan pro"), "{missing}");
    assert!(data_dir.stdout(&["plan", "show", "tronagg", "default"]).contains("max keys"));
    let (exit, log) = process.stop();
    assert!(exit.success(), "{exit}: {log}");
}

/// Nodes use no share of an earlier generation, so a generation must never come back.
#[tokio::test]
async fn generation_of_the_limits_of_an_account_increases_with_each_change_of_its_plan() {
    let app = App::start().await;
    app.wallet("0").await;
    let tenant = app.tronagg.tenant.id.uuid();
    let generation = async || -> i64 {
        let account = "(SELECT account_id FROM accounts)";
        let query = format!("SELECT generation FROM limits_generation($1, {account}, {account})");
        let read = sqlx::query_scalar(sqlx::AssertSqlSafe(query)).bind(tenant);
        read.fetch_one(&app.pool).await.expect("the query succeeds")
    };
    let mut generations = vec![generation().await];
    for calls in 1..4 {
        put_pro(&app, json!({"key_rate_limits": limit(calls)})).await;
        generations.push(generation().await);
        let lower = json!({"account_rate_limits": limit(calls)});
        send(&app, "PATCH", "/v1/plans/pro", lower).await.expect(200);
        generations.push(generation().await);
        send(&app, "PATCH", ACCOUNT, json!({"plan": "default"})).await.expect(200);
        generations.push(generation().await);
        // The numbers of a plan that is created again begin anew.
        send(&app, "DELETE", "/v1/plans/pro", json!({})).await.expect(204);
    }
    assert!(generations.is_sorted_by(|one, other| one < other), "{generations:?}");
}
