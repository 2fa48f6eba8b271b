//! A node that revokes an admin key or ends dashboard sessions announces this to all nodes, and
//! waits for their acknowledgements before it responds.

use serde_json::json;
use tollgate::domain::audit::Origin;

use super::visitor::Site;
use crate::harness::{Call, OTHER_WALLET, WALLET, played_node::PlayedNode, within_patience};

#[tokio::test]
async fn revoking_an_admin_key_waits_for_every_node() {
    let site = Site::start().await;
    let (app, tenant) = (&site.app, &site.app.tronagg.tenant);
    let text = app.tronagg.admin_key_with(app, &["audit"]).await;
    let keys = app.store.list_admin_keys(tenant).await.expect("a list");
    let mut node = PlayedNode::join(&app.pool).await;
    // A second call waits too, because the response to the first call may not have reached its
    // client.
    for _ in 0..2 {
        let origin = Origin::cli();
        let revoke = app.store.revoke_admin_key(tenant, keys[0].id, &origin);
        let revoked = node.acknowledge_change_of("admin_key", tenant, revoke).await;
        revoked.expect("the key is revoked");
        let events = Call::new("GET", "/v1/audit-events").bearer(&text);
        site.api(events).await.expect_problem(401, "invalid_admin_key");
    }
}

#[tokio::test]
async fn ending_the_sessions_of_an_account_waits_for_every_node() {
    let site = Site::start().await;
    let (app, tenant) = (&site.app, &site.app.tronagg.tenant);
    app.wallet("0").await;
    let mut by_sign_out = site.owner(&app.tronagg, WALLET).await;
    let keys = by_sign_out.get("/dashboard/keys").await.expect(200);
    let mut by_sign_out_everywhere = site.owner(&app.tronagg, WALLET).await;
    let everywhere = by_sign_out_everywhere.get("/dashboard/log").await.expect(200);
    let mut by_link = site.owner(&app.tronagg, WALLET).await;
    let link = site.link(&app.tronagg, WALLET).await;
    let enter = by_link.get(&link).await.expect(200);
    let mut node = PlayedNode::join(&app.pool).await;

    let sign_out = by_sign_out.send_form(&keys, "/dashboard/logout", &[]);
    let page = node.acknowledge_change_of("sessions", tenant, sign_out).await;
    page.expect_redirect("/dashboard/signed-out");
    // Opening a link ends the previous session of the browser.
    let use_link = by_link.send_form(&enter, "/dashboard/enter", &[]);
    let page = node.acknowledge_change_of("sessions", tenant, use_link).await;
    page.expect_redirect("/dashboard/keys");
    let all = by_sign_out_everywhere.send_form(&everywhere, "/dashboard/logout-everywhere", &[]);
    let page = node.acknowledge_change_of("sessions", tenant, all).await;
    page.expect_redirect("/dashboard/signed-out");
    by_link.get("/dashboard/keys").await.expect_redirect("/dashboard/signed-out");
    for _ in 0..2 {
        let path = format!("/v1/accounts/{WALLET}/dashboard-sessions");
        let end = site.api(app.tronagg.call("DELETE", &path));
        node.acknowledge_change_of("sessions", tenant, end).await.expect(204);
    }
    // The account has no keys, so no key has changed.
    let suspend = app.tronagg.call("PATCH", &format!("/v1/accounts/{WALLET}"));
    let suspend = site.api(suspend.json(json!({"status": "suspended"})));
    node.acknowledge_change_of("account", tenant, suspend).await.expect(200);
}

#[tokio::test]
async fn ending_the_sessions_of_a_tenant_announces_each_account_and_waits_once() {
    let site = Site::start().await;
    let (app, tenant) = (&site.app, &site.app.tronagg.tenant);
    app.wallet("0").await;
    app.account(&app.tronagg, OTHER_WALLET, "0").await;
    site.owner(&app.tronagg, WALLET).await;
    site.link(&app.tronagg, OTHER_WALLET).await;
    let mut node = PlayedNode::join(&app.pool).await;
    let (store, of, origin) = (app.store.clone(), tenant.clone(), Origin::cli());
    let end = async move { store.end_dashboard_sessions_of_tenant(&of, &origin).await };
    let end = tokio::spawn(end);
    let mut last = None;
    for _ in 0..3 {
        let change = node.next_change().await;
        change.expect("sessions", tenant);
        last = Some(change);
    }
    assert!(!end.is_finished());
    node.acknowledge(&last.expect("three changes")).await;
    let ended = within_patience("the sessions end", end).await.expect("no panic");
    assert_eq!(ended.expect("the sessions end"), 1);
    // A second call ends no session. It waits too, because the first call may have failed before
    // all nodes acknowledged it.
    let origin = Origin::cli();
    let again = app.store.end_dashboard_sessions_of_tenant(tenant, &origin);
    let ended = node.acknowledge_change_of("sessions", tenant, again).await;
    assert_eq!(ended.expect("no session is left"), 0);
}
