//! Requests with keys that may be used only from some networks.

use axum::Router;
use serde_json::{Value, json};
use tollgate::auth::ClientAddress;
use tower::ServiceExt as _;

use super::{ACCOUNT, AUTHORIZE, authorize_from, counted, key_with, patch};
use crate::harness::{
    Answer, App, Call, WALLET,
    app::{CLIENT, NewKey},
    eventually,
};

/// Sends a request of a client at [`CLIENT`] to a node. Returns the status of the response.
async fn status_on(node: &Router, key: &NewKey) -> u16 {
    let mut request = key.call("GET", AUTHORIZE).into_request();
    let address = CLIENT.parse().expect("the address is valid");
    request.extensions_mut().insert(ClientAddress(address));
    let response = node.clone().oneshot(request).await.expect("the router is infallible");
    response.status().as_u16()
}

/// Checks that the response does not differ from the response to an unknown key.
async fn expect_same_401(app: &App, refused: &Answer) {
    const UNKNOWN: &str = "ta_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    assert_eq!((refused.status, refused.code()), (401, "invalid_api_key"), "{refused:?}");
    let unknown = app.send(Call::new("GET", AUTHORIZE).header("X-API-Key", UNKNOWN)).await;
    let without_id = |answer: &Answer| {
        let mut json = answer.json.clone();
        json["request_id"] = Value::Null;
        json
    };
    assert_eq!(without_id(refused), without_id(&unknown));
    let names =
        |answer: &Answer| answer.headers.keys().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(names(refused), names(&unknown));
}

#[tokio::test]
async fn key_is_accepted_only_from_its_networks() {
    let app = App::start().await;
    let networks = json!(["203.0.113.0/24", "192.0.2.7", "2001:db8::/48"]);
    let key = key_with(&app, json!({"allowed_ips": networks})).await;
    // The second round finds the key in the cache.
    for _ in 0..2 {
        for address in ["203.0.113.0", "203.0.113.255", "192.0.2.7", "2001:db8::1"] {
            authorize_from(&app, address, &key).await.expect(200);
        }
        for address in ["203.0.112.255", "203.0.114.0", "192.0.2.6", "192.0.2.8", "2001:db8:1::"] {
            expect_same_401(&app, &authorize_from(&app, address, &key).await).await;
        }
    }
    assert_eq!(
        (counted(&app, &key, "valid").await, counted(&app, &key, "ip_not_allowed").await),
        (8, 10)
    );
}

#[tokio::test]
async fn ipv4_mapped_address_is_its_ipv4_address() {
    let app = App::start().await;
    let v4 = key_with(&app, json!({"allowed_ips": ["203.0.113.0/24"]})).await;
    let v6 = key_with(&app, json!({"allowed_ips": ["::/0"]})).await;
    for (address, in_v4, in_v6) in [
        ("203.0.113.9", 200, 401),
        ("::ffff:203.0.113.9", 200, 401),
        ("::ffff:198.51.100.9", 401, 401),
        ("::203.0.113.9", 401, 200),
        ("2001:db8::9", 401, 200),
    ] {
        assert_eq!(authorize_from(&app, address, &v4).await.status, in_v4, "{address}");
        assert_eq!(authorize_from(&app, address, &v6).await.status, in_v6, "{address}");
    }
}

#[tokio::test]
async fn address_must_be_in_the_networks_of_the_key_and_of_the_account() {
    let app = App::start().await;
    let key = key_with(&app, json!({"allowed_ips": ["203.0.113.0/24", "2001:db8::/48"]})).await;
    let other = key_with(&app, json!({})).await;
    patch(&app, ACCOUNT, json!({"allowed_ips": ["203.0.113.128/25", "198.51.100.0/24"]})).await;
    for (address, of_key, of_other) in [
        ("203.0.113.1", 401, 401),
        ("203.0.113.129", 200, 200),
        ("198.51.100.1", 401, 200),
        ("2001:db8::1", 401, 401),
    ] {
        assert_eq!(authorize_from(&app, address, &key).await.status, of_key, "{address}");
        assert_eq!(authorize_from(&app, address, &other).await.status, of_other, "{address}");
    }
    // The lists have no common address.
    patch(&app, ACCOUNT, json!({"allowed_ips": ["198.51.100.0/24"]})).await;
    for address in ["203.0.113.129", "198.51.100.1"] {
        assert_eq!(authorize_from(&app, address, &key).await.status, 401, "{address}");
    }
    patch(&app, ACCOUNT, json!({"allowed_ips": null})).await;
    authorize_from(&app, "2001:db8::1", &key).await.expect(200);
    authorize_from(&app, "198.51.100.1", &other).await.expect(200);
}

#[tokio::test]
async fn every_route_for_api_keys_refuses_a_wrong_address() {
    let app = App::start().await;
    let key = key_with(&app, json!({})).await;
    let bought = app.send(key.buy("1")).await.expect(201).text("/id").to_owned();
    let held = app.send(key.call("POST", "/v1/holds").json(json!({"amount": "1"}))).await;
    let held = held.expect(201).text("/id").to_owned();
    patch(&app, &key.path, json!({"allowed_ips": ["203.0.113.0/24"]})).await;
    let amount = json!({"amount": "1"});
    let calls = |key: &NewKey| {
        [
            key.call("GET", "/v1/me"),
            key.call("GET", AUTHORIZE),
            key.call("POST", "/v1/purchases").json(amount.clone()),
            key.call("GET", "/v1/purchases"),
            key.call("GET", &format!("/v1/purchases/{bought}")),
            key.call("POST", "/v1/holds").json(amount.clone()),
            key.call("GET", "/v1/holds"),
            key.call("GET", &format!("/v1/holds/{held}")),
            key.call("POST", &format!("/v1/holds/{held}/capture")),
            key.call("POST", &format!("/v1/holds/{held}/void")),
        ]
    };
    for call in calls(&key) {
        expect_same_401(&app, &app.send(call).await).await;
    }
    assert_eq!(app.balance(&app.tronagg, WALLET).await, "9.000000");
    for call in calls(&key).into_iter().take(9) {
        let answer = app.send_from("203.0.113.7", call).await;
        assert!(matches!(answer.status, 200 | 201), "{answer:?}");
    }
    app.check_ledger().await;
}

#[tokio::test]
async fn request_without_a_known_address_is_refused_if_the_key_has_networks() {
    let app = App::start().await;
    let key = key_with(&app, json!({"allowed_ips": ["0.0.0.0/0", "::/0"]})).await;
    app.send(key.call("GET", AUTHORIZE)).await.expect(200);
    let answer = app.send_without_address(key.call("GET", AUTHORIZE)).await;
    expect_same_401(&app, &answer).await;
}

/// The order of the checks: the key, its account, the address, the scope, the rate limits.
#[tokio::test]
async fn address_is_checked_after_the_account_and_before_the_scope_and_the_limits() {
    let app = App::start().await;
    let limits = json!([{"name": "default", "limit": 1, "window_seconds": 3600}]);
    let settings = json!({
        "allowed_ips": ["203.0.113.0/24"], "scopes": ["orders:read"], "rate_limits": limits,
    });
    let key = key_with(&app, settings).await;
    let with_scope = |scope: &str| key.call("GET", &format!("{AUTHORIZE}?scope={scope}"));
    // A wrong address is reported even without the scope, and no refusal is charged.
    for _ in 0..3 {
        expect_same_401(&app, &app.send(with_scope("orders:write")).await).await;
        expect_same_401(&app, &app.send(with_scope("orders:read")).await).await;
        let lacking = app.send_from("203.0.113.7", with_scope("orders:write")).await;
        lacking.expect_problem(403, "insufficient_scope");
    }
    app.send_from("203.0.113.7", with_scope("orders:read")).await.expect(200);
    let limited = app.send_from("203.0.113.7", with_scope("orders:read")).await;
    limited.expect_problem(429, "rate_limited");
    expect_same_401(&app, &app.send(with_scope("orders:read")).await).await;

    patch(&app, ACCOUNT, json!({"status": "suspended"})).await;
    app.send(with_scope("orders:read")).await.expect_problem(403, "account_suspended");
    app.send(app.tronagg.call("POST", &format!("{}/revoke", key.path))).await.expect(200);
    assert_eq!(counted(&app, &key, "ip_not_allowed").await, 7);
    app.send(with_scope("orders:read")).await.expect_problem(401, "invalid_api_key");
    assert_eq!(counted(&app, &key, "revoked").await, 1);
}

#[tokio::test]
async fn wrong_address_does_not_show_a_key_of_another_tenant() {
    let app = App::start().await;
    app.account(&app.tradetally, "user-1", "0").await;
    let settings = json!({"name": "a", "allowed_ips": ["203.0.113.0/24"]});
    let key = app.key_with(&app.tradetally, "user-1", settings).await;
    for address in ["203.0.113.7", "192.0.2.7"] {
        expect_same_401(&app, &authorize_from(&app, address, &key).await).await;
    }
    app.flush_usage().await;
    let usage = app.send(app.tradetally.call("GET", &format!("{}/usage", key.path))).await;
    let counted = |step: &Value| step["outcomes"]["ip_not_allowed"] != 0;
    assert!(!usage.expect(200).data().iter().any(counted), "another tenant was counted");
}

#[tokio::test]
async fn lists_of_a_hundred_networks_are_enforced() {
    let app = App::start().await;
    let networks: Vec<String> = (0..100).map(|n| format!("10.{n}.128.0/17")).collect();
    let key = key_with(&app, json!({"allowed_ips": networks})).await;
    for (address, status) in [
        ("10.0.128.0", 200),
        ("10.99.255.255", 200),
        ("10.50.200.1", 200),
        ("10.50.100.1", 401),
        ("10.100.128.0", 401),
        ("9.255.255.255", 401),
    ] {
        assert_eq!(authorize_from(&app, address, &key).await.status, status, "{address}");
    }
}

#[tokio::test]
async fn removed_network_is_refused_on_every_node_when_the_change_has_returned() {
    let app = App::start().await;
    let other = app.another_node().await;
    let key = key_with(&app, json!({})).await;
    for path in [key.path.as_str(), ACCOUNT] {
        for (networks, status) in
            [(json!(["203.0.113.0/24"]), 401), (json!(["192.0.2.0/24"]), 200), (Value::Null, 200)]
        {
            patch(&app, path, json!({"allowed_ips": networks})).await;
            let answer = status_on(&other, &key).await;
            assert_eq!(answer, status, "{path}: {networks}");
            app.send(key.call("GET", AUTHORIZE)).await.expect(status);
        }
    }
    // A change by hand is announced too.
    for table in ["api_keys", "accounts"] {
        for (networks, status) in [("'{203.0.113.0/24}'", 401), ("NULL", 200)] {
            let update = format!("UPDATE {table} SET allowed_ips = {networks}");
            let changed = sqlx::query(sqlx::AssertSqlSafe(update)).execute(&app.pool).await;
            changed.expect("the row is changed");
            eventually("the nodes have applied the change", async || {
                let here = app.send(key.call("GET", AUTHORIZE)).await.status;
                let there = status_on(&other, &key).await;
                here == status && there == status
            })
            .await;
        }
    }
}
