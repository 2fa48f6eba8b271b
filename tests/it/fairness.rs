//! One tenant cannot take the database's connections from another.

use serde_json::json;
use tokio::task::JoinSet;
use tower::ServiceExt as _;

use crate::harness::{App, Call, WALLET, within_patience};

#[tokio::test(flavor = "multi_thread")]
async fn tenant_whose_requests_wait_for_a_lock_stops_neither_others_nor_what_is_urgent() {
    let app = App::start().await;
    let wallet = app.wallet("10").await;
    let key = app.key(&app.tronagg, wallet).await;
    let path = format!("/v1/accounts/{WALLET}/keys/{}", key.id);
    let lock = app.lock_accounts().await;
    let mut waiting = JoinSet::new();
    let mut change = |body| {
        let call = app.tronagg.call("PATCH", &path).json(body);
        waiting.spawn(app.router.clone().oneshot(call.into_request()));
    };
    for number in 0..20 {
        change(json!({"name": format!("name {number}")}));
    }
    // Of the pool's six connections one is in the reserve. Of the others, one tenant gets four.
    app.wait_until_blocked(4).await;
    let others = async {
        app.send(Call::new("GET", "/readyz")).await.expect(200);
        app.account(&app.tradetally, "user-1", "0").await;
        let other = app.key(&app.tradetally, "user-1").await;
        let revoke = format!("/v1/accounts/user-1/keys/{}/revoke", other.id);
        app.send(app.tradetally.call("POST", &revoke)).await.expect(200);
    };
    within_patience("the other tenant's requests are answered", others).await;
    // Disabling a key uses the reserve, although the tenant has all of its turns.
    change(json!({"enabled": false}));
    app.wait_until_blocked(5).await;
    within_patience("the other tenant is served", async {
        app.send(app.tradetally.call("GET", "/v1/accounts/user-1")).await.expect(200);
    })
    .await;
    lock.commit().await.expect("the commit");
    for answer in within_patience("all are answered", waiting.join_all()).await {
        assert_eq!(answer.expect("the router is infallible").status(), 200);
    }
}
