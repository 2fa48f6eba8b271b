//! The notifications with which nodes announce changes to each other.

use serde_json::json;

use crate::harness::{App, app::NewKey, played_node::PlayedNode, process::tollgate};

async fn status(app: &App, key: &NewKey) -> u16 {
    app.send(key.call("GET", "/v1/authorize/tronagg/live")).await.status
}

async fn decimals(app: &App) -> u8 {
    let tenant = &app.tronagg.tenant;
    let found =
        app.store.find_tenant(&tenant.slug, tenant.environment).await.expect("the query succeeds");
    found.policy.currency.decimals()
}

/// A newer version may change data that this version never changes. The newer version waits until
/// nodes of this version have removed the data from memory.
#[tokio::test]
async fn node_clears_its_caches_and_acknowledges_a_change_of_an_unknown_kind() {
    let app = App::start().await;
    let wallet = app.wallet("0").await;
    let key = app.key(&app.tronagg, wallet).await;
    let mut node = PlayedNode::join(&app.pool).await;
    assert_eq!((status(&app, &key).await, decimals(&app).await), (200, 6));
    for statement in [
        "ALTER TABLE api_keys DISABLE TRIGGER api_keys_tell_nodes",
        "UPDATE api_keys SET revoked_at = clock_timestamp()",
        "ALTER TABLE tenants DISABLE TRIGGER USER",
        "UPDATE tenants SET decimals = 7 WHERE slug = 'tronagg'",
    ] {
        sqlx::query(statement).execute(&app.pool).await.expect(statement);
    }
    assert_eq!(
        (status(&app, &key).await, decimals(&app).await),
        (200, 6),
        "the node uses the outdated key and tenant from memory"
    );

    let payload = format!("unknown {} 9 {} more words", node.id(), app.tronagg.tenant.id.uuid());
    sqlx::query("SELECT pg_notify('tollgate_changes', $1)")
        .bind(&payload)
        .execute(&app.pool)
        .await
        .expect("the notification is sent");
    assert_eq!(node.next().await, payload);
    let acknowledgement = node.next().await;
    let words: Vec<&str> = acknowledgement.split(' ').collect();
    assert!(matches!(words[..], ["applied", _, "9"]), "{acknowledgement}");
    assert_eq!((status(&app, &key).await, decimals(&app).await), (401, 7));
}

/// A command holds no lease, but it receives acknowledgements. So it does not have to wait for the
/// end of the node's lease, which lasts an hour.
#[tokio::test(flavor = "multi_thread")]
async fn command_waits_for_acknowledgements_and_not_for_leases_to_end() {
    let app = App::start().await;
    let wallet = app.wallet("0").await;
    let tenant = &app.tronagg.tenant;
    app.tronagg.admin_key_with(&app, &["audit"]).await;
    let keys = app.store.list_admin_keys(tenant).await.expect("the query succeeds");
    let id = keys[0].id.to_string();
    let mut node = PlayedNode::join(&app.pool).await;
    for (arguments, kind) in [
        (&["admin-key", "revoke", "tronagg", id.as_str()][..], "admin_key"),
        (&["dashboard", "end-sessions", "tronagg", wallet], "sessions"),
        (&["dashboard", "end-sessions", "tronagg"], "sessions"),
    ] {
        let mut command = tollgate(arguments);
        command.env("DATABASE_URL", &app.url);
        let run = async {
            let run = tokio::task::spawn_blocking(move || command.output());
            run.await.expect("the task does not panic").expect("the program runs")
        };
        let output = node.acknowledge_change_of(kind, tenant, run).await;
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {error}");
    }
    let keys = app.store.list_admin_keys(tenant).await.expect("the query succeeds");
    assert!(keys[0].revoked_at.is_some());
}

#[tokio::test]
async fn change_to_a_key_or_an_account_waits_for_every_node() {
    let app = App::start().await;
    let wallet = app.wallet("0").await;
    let key = app.key(&app.tronagg, wallet).await;
    let mut node = PlayedNode::join(&app.pool).await;
    let tenant = &app.tronagg.tenant;
    let suspend = app.tronagg.call("PATCH", &format!("/v1/accounts/{wallet}"));
    let suspend = suspend.json(json!({"status": "suspended"}));
    let suspended = node.acknowledge_change_of("account", tenant, app.send(suspend)).await;
    suspended.expect(200);
    let revoke = app.tronagg.call("POST", &format!("{}/revoke", key.path)).json(json!({}));
    let revoked = node.acknowledge_change_of("keys", tenant, app.send(revoke)).await;
    revoked.expect(200);
}
