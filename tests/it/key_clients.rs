//! Where a key was used from: `GET /v1/accounts/{account}/keys/{key_id}/clients`.

use serde_json::{Value, json};

use crate::harness::{App, Call, WALLET, app::NewKey};

const AUTHORIZE: &str = "/v1/authorize/tronagg/live";
const ROUTE: &str = "/v1/authorize/{tenant}/{environment}";

async fn start() -> (App, NewKey) {
    let app = App::start().await;
    let wallet = app.wallet("10").await;
    let key = app.key(&app.tronagg, wallet).await;
    (app, key)
}

/// Sends a request with the key as a client at this address.
async fn call(app: &App, key: &NewKey, address: &str, user_agent: &str) -> u16 {
    app.send_from(address, key.call("GET", AUTHORIZE).header("User-Agent", user_agent)).await.status
}

/// Writes what the node has recorded, and reads the clients of the key.
async fn clients(app: &App, key: &NewKey) -> Value {
    app.flush_usage().await;
    let path = format!("{}/clients", key.path);
    app.send(app.tronagg.call("GET", &path)).await.expect(200).json
}

/// Returns the networks of a response.
fn networks(clients: &Value) -> Vec<&str> {
    let networks = clients["networks"].as_array().expect("a list").iter();
    networks.map(|item| item["network"].as_str().expect("a network")).collect()
}

/// Returns the reason, the count and the address of each refusal.
fn refusals(clients: &Value) -> Vec<(&str, u64, Option<&str>)> {
    let refusals = clients["refusals"].as_array().expect("a list").iter();
    refusals
        .map(|item| {
            let reason = item["reason"].as_str().expect("a reason");
            (reason, item["count"].as_u64().expect("a count"), item["address"].as_str())
        })
        .collect()
}

async fn set_addresses(app: &App, setting: &str) {
    let patch = app.tronagg.call("PATCH", "/v1/dashboard-settings");
    let changed = app.send(patch.json(json!({"client_addresses": setting}))).await.expect(200);
    assert_eq!(changed.json["client_addresses"], setting);
}

#[tokio::test]
async fn clients_of_a_key_are_its_last_use_its_networks_and_its_refusals() {
    let (app, key) = start().await;
    let unused = json!({"last_use": null, "networks": [], "refusals": []});
    assert_eq!(clients(&app, &key).await, unused);

    assert_eq!(call(&app, &key, "203.0.113.7", "bot/1").await, 200);
    assert_eq!(call(&app, &key, "203.0.113.8", "bot/1").await, 200);
    assert_eq!(call(&app, &key, "2001:db8::1", "bot/2").await, 200);
    let missing = key.call("GET", &format!("{AUTHORIZE}?scope=orders:write"));
    app.send(app.tronagg.call("PATCH", &key.path).json(json!({"scopes": ["read"]}))).await;
    for _ in 0..3 {
        let refused = missing.clone().header("User-Agent", "bot/3");
        app.send_from("198.51.100.1", refused).await.expect_problem(403, "insufficient_scope");
    }
    let found = clients(&app, &key).await;
    let last = &found["last_use"];
    assert_eq!(
        (&last["address"], &last["user_agent"], &last["route"]),
        (&json!("2001:db8::1"), &json!("bot/2"), &json!(ROUTE))
    );
    assert!(last["at"].is_string(), "{last}");
    let mut all = networks(&found);
    all.sort_unstable();
    assert_eq!(all, ["2001:db8::/48", "203.0.113.0/24"]);
    assert_eq!(refusals(&found), [("insufficient_scope", 3, Some("198.51.100.1"))]);
    let refusal = &found["refusals"][0];
    assert_eq!((&refusal["user_agent"], &refusal["route"]), (&json!("bot/3"), &json!(ROUTE)));
    assert!(refusal["first_at"].as_str() <= refusal["last_at"].as_str(), "{refusal}");
}

#[tokio::test]
async fn later_use_replaces_the_last_client_even_within_a_minute() {
    let (app, key) = start().await;
    for (address, user_agent) in [("203.0.113.7", "a"), ("203.0.113.7", "b"), ("198.51.100.7", "b")]
    {
        assert_eq!(call(&app, &key, address, user_agent).await, 200);
        let last = clients(&app, &key).await["last_use"].clone();
        assert_eq!((&last["address"], &last["user_agent"]), (&json!(address), &json!(user_agent)));
    }
    // A request without a user agent, from an unknown address.
    app.send_without_address(key.call("GET", "/v1/me")).await.expect(200);
    let last = clients(&app, &key).await["last_use"].clone();
    assert_eq!(
        (&last["address"], &last["user_agent"], &last["route"]),
        (&Value::Null, &Value::Null, &json!("/v1/me"))
    );
}

#[tokio::test]
async fn every_reason_for_a_refusal_is_listed_newest_first() {
    let (app, key) = start().await;
    let limits = json!([{"name": "a", "limit": 1, "window_seconds": 3600}]);
    let change = async |path: &str, body: Value| {
        app.send(app.tronagg.call("PATCH", path).json(body)).await.expect(200);
    };
    let account = &format!("/v1/accounts/{WALLET}");
    change(&key.path, json!({"rate_limits": limits})).await;
    assert_eq!(call(&app, &key, "203.0.113.7", "a").await, 200);
    assert_eq!(call(&app, &key, "203.0.113.7", "a").await, 429);
    change(&key.path, json!({"allowed_ips": ["198.51.100.0/24"]})).await;
    assert_eq!(call(&app, &key, "203.0.113.7", "a").await, 401);
    change(account, json!({"status": "suspended"})).await;
    assert_eq!(call(&app, &key, "203.0.113.7", "a").await, 403);
    change(&key.path, json!({"enabled": false})).await;
    assert_eq!(call(&app, &key, "203.0.113.7", "a").await, 401);
    app.send(app.tronagg.call("POST", &format!("{}/revoke", key.path))).await.expect(200);
    assert_eq!(call(&app, &key, "203.0.113.7", "a").await, 401);
    let found = clients(&app, &key).await;
    let reasons: Vec<&str> = refusals(&found).into_iter().map(|(reason, ..)| reason).collect();
    let expected = ["revoked", "disabled", "account_suspended", "ip_not_allowed", "rate_limited"];
    assert_eq!(reasons, expected);
}

#[tokio::test]
async fn verify_records_the_address_of_the_client_and_not_of_the_backend() {
    let (app, key) = start().await;
    for (client, code) in [(json!("203.0.113.7"), "VALID"), (Value::Null, "VALID")] {
        let verify = app.tronagg.call("POST", "/v1/keys/verify").header("User-Agent", "backend");
        let body = json!({"key": key.text, "client_ip": client});
        assert_eq!(app.send(verify.json(body)).await.expect(200).code(), code);
        let last = clients(&app, &key).await["last_use"].clone();
        assert_eq!(
            (&last["address"], &last["user_agent"], &last["route"]),
            (&client, &Value::Null, &json!("/v1/keys/verify"))
        );
    }
    let mapped = "::ffff:198.51.100.7";
    let body = json!({"key": key.text, "scopes": ["orders:write"], "client_ip": mapped});
    app.send(app.tronagg.call("PATCH", &key.path).json(json!({"scopes": ["read"]}))).await;
    let refused = app.send(app.tronagg.call("POST", "/v1/keys/verify").json(body)).await;
    assert_eq!(refused.code(), "INSUFFICIENT_SCOPE");
    let found = clients(&app, &key).await;
    assert_eq!(refusals(&found), [("insufficient_scope", 1, Some("198.51.100.7"))]);
}

#[tokio::test]
async fn nothing_is_recorded_for_unknown_keys_and_for_the_keys_of_another_tenant() {
    let (app, key) = start().await;
    const UNKNOWN: &str = "ta_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    app.send(Call::new("GET", AUTHORIZE).header("X-API-Key", UNKNOWN)).await.expect(401);
    app.account(&app.tradetally, WALLET, "0").await;
    let foreign = app.key(&app.tradetally, WALLET).await;
    assert_eq!(call(&app, &foreign, "203.0.113.7", "a").await, 401);
    clients(&app, &key).await;
    for table in ["api_key_last_used", "api_key_networks", "api_key_refusals"] {
        let count = format!("SELECT count(*) FROM {table}");
        let count = sqlx::query_scalar::<_, i64>(sqlx::AssertSqlSafe(count));
        assert_eq!(count.fetch_one(&app.pool).await.ok(), Some(0), "{table}");
    }
    // The tenant's admin key shows nothing of another tenant.
    let path = format!("{}/clients", foreign.path);
    app.send(app.tronagg.call("GET", &path)).await.expect_problem(404, "not_found");
}

#[tokio::test]
async fn tenant_can_truncate_addresses_or_switch_them_off() {
    let (app, key) = start().await;
    app.send(app.tronagg.call("PATCH", &key.path).json(json!({"scopes": ["read"]}))).await;
    let refused = || key.call("GET", &format!("{AUTHORIZE}?scope=orders:write"));
    let use_key = async |address: &str| {
        assert_eq!(call(&app, &key, address, "a").await, 200);
        app.send_from(address, refused()).await.expect(403);
    };
    use_key("203.0.113.7").await;
    let full = clients(&app, &key).await;
    assert_eq!(full["last_use"]["address"], "203.0.113.7");

    // The setting also applies to addresses that are already stored.
    set_addresses(&app, "truncated").await;
    let truncated = clients(&app, &key).await;
    assert_eq!(truncated["last_use"]["address"], "203.0.113.0/24");
    assert_eq!(refusals(&truncated), [("insufficient_scope", 1, Some("203.0.113.0/24"))]);
    use_key("2001:db8:1:2::3").await;
    let truncated = clients(&app, &key).await;
    assert_eq!(truncated["last_use"]["address"], "2001:db8:1::/48");
    assert_eq!(refusals(&truncated)[0].2, Some("2001:db8:1::/48"));
    set_addresses(&app, "off").await;
    let off = clients(&app, &key).await;
    assert_eq!((&off["last_use"]["address"], networks(&off)), (&Value::Null, vec![]));
    assert!(refusals(&off).iter().all(|(.., address)| address.is_none()), "{off}");
    assert_eq!(off["last_use"]["user_agent"], "a");
    use_key("198.51.100.7").await;
    clients(&app, &key).await;

    // What was not stored does not return. Without the setting of the other tenant, its addresses
    // are whole.
    set_addresses(&app, "full").await;
    let full = clients(&app, &key).await;
    assert_eq!(full["last_use"]["address"], Value::Null);
    let mut shown = networks(&full);
    shown.sort_unstable();
    assert_eq!(shown, ["2001:db8:1::/48", "203.0.113.0/24"]);
    let addresses: Vec<Option<&str>> = refusals(&full).into_iter().map(|item| item.2).collect();
    assert_eq!(addresses, [None, Some("2001:db8:1::/48"), Some("203.0.113.7")]);

    let unknown = app.tronagg.call("PATCH", "/v1/dashboard-settings");
    let refused = app.send(unknown.json(json!({"client_addresses": "half"}))).await;
    let refused = refused.expect_problem(422, "validation_failed");
    assert_eq!(refused.json["errors"][0]["detail"], "must be full, truncated or off");
}

#[tokio::test]
async fn at_most_50_networks_and_100_refusals_of_a_key_are_stored() {
    let (app, key) = start().await;
    app.send(app.tronagg.call("PATCH", &key.path).json(json!({"scopes": ["read"]}))).await;
    for number in 0..60 {
        assert_eq!(call(&app, &key, &format!("10.0.{number}.1"), "a").await, 200);
        app.flush_usage().await;
    }
    for number in 0..130 {
        let refused = key.call("GET", &format!("{AUTHORIZE}?scope=orders:write"));
        app.send_from(&format!("10.1.0.{number}"), refused).await.expect(403);
        if number % 40 == 0 {
            app.flush_usage().await;
        }
    }
    let found = clients(&app, &key).await;
    let expected: Vec<String> =
        (10..60).rev().map(|number| format!("10.0.{number}.0/24")).collect();
    assert_eq!(networks(&found), expected);
    let expected: Vec<String> = (30..130).rev().map(|number| format!("10.1.0.{number}")).collect();
    let refused: Vec<&str> = refusals(&found).into_iter().filter_map(|item| item.2).collect();
    assert_eq!(refused, expected);
    for (table, rows) in [("api_key_networks", 50), ("api_key_refusals", 100)] {
        let count = format!("SELECT count(*) FROM {table}");
        let count = sqlx::query_scalar::<_, i64>(sqlx::AssertSqlSafe(count));
        assert_eq!(count.fetch_one(&app.pool).await.ok(), Some(rows), "{table}");
    }
}

#[tokio::test]
async fn networks_and_refusals_older_than_30_days_are_deleted() {
    let (app, key) = start().await;
    app.send(app.tronagg.call("PATCH", &key.path).json(json!({"scopes": ["read"]}))).await;
    let refused = || key.call("GET", &format!("{AUTHORIZE}?scope=orders:write"));
    for (address, age) in [("203.0.113.7", "30 days 1 minute"), ("198.51.100.7", "29 days")] {
        assert_eq!(call(&app, &key, address, "a").await, 200);
        app.send_from(address, refused()).await.expect(403);
        app.flush_usage().await;
        for (table, first, last) in [
            ("api_key_networks", "first_used_at", "last_used_at"),
            ("api_key_refusals", "first_at", "last_at"),
        ] {
            let update = format!(
                "UPDATE {table} SET {first} = clock_timestamp() - interval '{age}',
                                    {last} = clock_timestamp() - interval '{age}'
                 WHERE {last} > clock_timestamp() - interval '1 hour'"
            );
            let updated = sqlx::query(sqlx::AssertSqlSafe(update)).execute(&app.pool).await;
            assert_eq!(updated.expect("the row is changed").rows_affected(), 1);
        }
    }
    // The response omits them even before they are deleted.
    let found = clients(&app, &key).await;
    assert_eq!(networks(&found), ["198.51.100.0/24"]);
    assert_eq!(refusals(&found).len(), 1);
    let cursor = app.store.delete_old_clients(Default::default()).await.expect("a pass");
    app.store.delete_old_clients(cursor).await.expect("another pass");
    for table in ["api_key_networks", "api_key_refusals"] {
        let count = format!("SELECT count(*) FROM {table}");
        let count = sqlx::query_scalar::<_, i64>(sqlx::AssertSqlSafe(count));
        assert_eq!(count.fetch_one(&app.pool).await.ok(), Some(1), "{table}");
    }
}
