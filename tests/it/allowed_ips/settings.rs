//! The lists of networks that the backend sets.

use serde_json::{Value, json};

use super::{ACCOUNT, key_with, patch};
use crate::harness::App;

async fn get(app: &App, path: &str) -> Value {
    app.send(app.tronagg.call("GET", path)).await.expect(200).json
}

/// Returns the newest audit event of TronAgg.
async fn newest_event(app: &App) -> Value {
    get(app, "/v1/audit-events?limit=1").await["data"][0].clone()
}

/// The networks of a list, as the API shows them.
fn shown() -> Value {
    json!(["203.0.113.0/24", "2001:db8::/48", "192.0.2.7/32", "198.51.100.0/24"])
}

/// The same networks as a client may send them.
fn given() -> Value {
    json!([
        "203.0.113.0/24",
        "2001:DB8:0::/48",
        "192.0.2.7",
        "::ffff:198.51.100.0/120",
        "192.0.2.7/32"
    ])
}

#[tokio::test]
async fn networks_of_a_key_can_be_set_replaced_and_cleared() {
    let app = App::start().await;
    let key = key_with(&app, json!({"allowed_ips": given()})).await;
    assert_eq!(newest_event(&app).await["detail"]["allowed_ips"], shown());
    let list = get(&app, &format!("{ACCOUNT}/keys")).await;
    assert_eq!(list["data"][0]["allowed_ips"], shown());

    assert_eq!(patch(&app, &key.path, json!({"name": "b"})).await["allowed_ips"], shown());
    let mut from = shown();
    for to in [json!(["10.0.0.0/8"]), json!(["::/0", "0.0.0.0/0"]), Value::Null] {
        let changed = patch(&app, &key.path, json!({"allowed_ips": to})).await;
        assert_eq!(changed["allowed_ips"], to);
        assert_eq!(get(&app, &key.path).await["allowed_ips"], to);
        let event = newest_event(&app).await;
        assert_eq!(
            (&event["action"], &event["target_id"]),
            (&json!("api_key.change"), &json!(key.id))
        );
        assert_eq!(event["detail"], json!({"allowed_ips": {"from": from, "to": to}}));
        from = to;
    }
    let me = app.send(key.call("GET", "/v1/me")).await.expect(200);
    assert_eq!(me.json["key"]["allowed_ips"], Value::Null);
}

#[tokio::test]
async fn networks_of_an_account_can_be_set_by_put_and_patch_with_other_settings() {
    let app = App::start().await;
    let put = |body: Value| app.send(app.tronagg.call("PUT", ACCOUNT).json(body));
    assert_eq!(put(json!({})).await.expect(201).json["allowed_ips"], Value::Null);
    assert_eq!(put(json!({"allowed_ips": given()})).await.expect(200).json["allowed_ips"], shown());
    let event = newest_event(&app).await;
    assert_eq!(event["action"], "account.change");
    assert_eq!(event["detail"], json!({"allowed_ips": {"from": null, "to": shown()}}));
    put(json!({"allowed_ips": given()})).await.expect(200);
    assert_eq!(newest_event(&app).await["id"], event["id"], "the repeated PUT changed nothing");
    assert_eq!(put(json!({})).await.expect(200).json["allowed_ips"], shown());

    let limits = json!([{"name": "a", "limit": 1, "window_seconds": 1, "scope": null}]);
    let both = json!({"allowed_ips": null, "rate_limits": limits, "status": "suspended"});
    let changed = patch(&app, ACCOUNT, both).await;
    assert_eq!(
        (&changed["allowed_ips"], &changed["rate_limits"], &changed["status"]),
        (&Value::Null, &limits, &json!("suspended"))
    );
    let detail = newest_event(&app).await["detail"].clone();
    let expected = json!({
        "rate_limits": {"from": null, "to": limits},
        "allowed_ips": {"from": shown(), "to": null},
    });
    assert_eq!(detail, expected, "one change has one event");
    let changed = patch(&app, ACCOUNT, json!({"allowed_ips": given()})).await;
    assert_eq!((&changed["allowed_ips"], &changed["rate_limits"]), (&shown(), &limits));
    assert_eq!(get(&app, "/v1/accounts").await["data"][0]["allowed_ips"], shown());
}

#[tokio::test]
async fn rotated_key_has_the_networks_of_the_old_key() {
    let app = App::start().await;
    let key = key_with(&app, json!({"allowed_ips": given()})).await;
    for grace in [60, 0] {
        let rotate = app.tronagg.call("POST", &format!("{}/rotate", key.path));
        let new = app.send(rotate.json(json!({"grace_seconds": grace}))).await;
        if grace == 60 {
            assert_eq!(new.expect(201).json["allowed_ips"], shown());
        } else {
            new.expect_problem(409, "key_already_rotated");
        }
    }
}

#[tokio::test]
async fn invalid_network_is_refused_with_its_position_and_the_right_value() {
    let app = App::start().await;
    let key = key_with(&app, json!({})).await;
    let many: Vec<String> = (0..101).map(|n| format!("192.0.2.{n}")).collect();
    let keys = format!("{ACCOUNT}/keys");
    for (list, pointer, detail) in [
        (
            json!(["192.0.2.7", "10.0.0.1/8"]),
            "/allowed_ips/1",
            "must be 10.0.0.0/8, because the address has bits set after the prefix. For this address \
             alone, send 10.0.0.1",
        ),
        (
            json!(["2001:db8::1/48"]),
            "/allowed_ips/0",
            "must be 2001:db8::/48, because the address has bits set after the prefix. For this address \
             alone, send 2001:db8::1",
        ),
        (
            json!(["010.0.0.0/8"]),
            "/allowed_ips/0",
            "must be an IP address or a network, such as 203.0.113.7 or 203.0.113.0/24",
        ),
        (json!([7]), "/allowed_ips/0", "must be a string, not a number"),
        (
            json!([]),
            "/allowed_ips",
            "must contain 1 to 100 IP addresses or networks. Send null to allow any address",
        ),
        (
            json!(many),
            "/allowed_ips",
            "must contain 1 to 100 IP addresses or networks. Send null to allow any address",
        ),
        (json!("10.0.0.0/8"), "/allowed_ips", "must be a list of strings, not a string"),
    ] {
        for (method, path) in [("POST", &keys), ("PATCH", &key.path), ("PATCH", &ACCOUNT.into())] {
            let mut body = json!({"allowed_ips": list});
            if method == "POST" {
                body["name"] = "a".into();
            }
            let refused = app.send(app.tronagg.call(method, path).json(body)).await;
            let refused = refused.expect_problem(422, "validation_failed");
            let expected = json!([{"pointer": pointer, "detail": detail}]);
            assert_eq!(refused.json["errors"], expected, "{method} {path}");
        }
    }
    assert_eq!(get(&app, &key.path).await["allowed_ips"], Value::Null);
    assert_eq!(get(&app, ACCOUNT).await["allowed_ips"], Value::Null);
}

#[tokio::test]
async fn database_refuses_a_list_that_no_node_can_read() {
    let app = App::start().await;
    key_with(&app, json!({})).await;
    for list in ["'{}'", "ARRAY[NULL::cidr]", "array_fill('::1'::cidr, ARRAY[101])"] {
        for table in ["api_keys", "accounts"] {
            let update = format!("UPDATE {table} SET allowed_ips = {list}");
            let refused = sqlx::query(sqlx::AssertSqlSafe(update)).execute(&app.pool).await;
            let error = refused.expect_err("the list is invalid").to_string();
            assert!(error.contains(&format!("{table}_allowed_ips")), "{list}: {error}");
        }
    }
}
