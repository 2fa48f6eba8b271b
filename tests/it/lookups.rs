//! Tollgate refuses unknown admin keys, sessions and dashboard links without a connection from the
//! pool that requests share.

use std::sync::Arc;

use axum::Router;
use serde_json::json;
use tokio::task::JoinSet;
use tollgate::{
    node::{Node, NodeSettings},
    state::Limits,
    store::{PoolSettings, Store},
};
use tower::ServiceExt as _;

use crate::{
    dashboard::visitor,
    harness::{
        App, Call,
        app::{service, state_of},
        cluster,
    },
};

/// Builds a request with a well-formed admin key that does not exist.
fn with_unknown_admin_key(number: u32) -> Call {
    Call::new("GET", "/v1/accounts").bearer(&format!("tg_admin_{number:043}"))
}

/// Builds a request with a well-formed session cookie that does not exist.
fn with_unknown_session(number: u32) -> Call {
    Call::new("GET", "/dashboard/keys").header("Cookie", &format!("tollgate_session={number:043}"))
}

/// Builds a request that opens a well-formed dashboard link that does not exist.
fn with_unknown_link(number: u32) -> Call {
    Call::new("GET", &format!("/dashboard/enter?token={number:043}"))
}

/// Builds the form that confirms the use of a dashboard link. The link does not exist.
fn form_with_unknown_link(number: u32) -> Call {
    let form = visitor::form("/dashboard/enter", &[("token", &format!("{number:043}"))]);
    form.header("Origin", "null").header("Sec-Fetch-Site", "same-origin")
}

/// Sends a request. Returns the status of the response, and the path to which it redirects.
async fn outcome(router: Router, call: Call) -> (u16, Option<String>) {
    let response = router.oneshot(call.into_request()).await.expect("the router is infallible");
    let location = response.headers().get("location");
    let location =
        location.map(|location| location.to_str().expect("the header is text").to_owned());
    (response.status().as_u16(), location)
}

#[tokio::test]
async fn unknown_admin_keys_sessions_and_links_are_refused_while_the_pool_is_exhausted() {
    let mut app = App::start().await;
    let wallet = app.wallet("0").await;
    let settings = PoolSettings { max_connections: 1, ..cluster::pool_settings(&app.url) };
    let store = Arc::new(Store::connect(&settings).await.expect("the database is reachable"));
    let node = Node::new(Arc::clone(&store), NodeSettings::default());
    app.router = service(state_of(node, Limits::default()));

    let lock = app.lock_accounts().await;
    let create = app.tronagg.call("POST", &format!("/v1/accounts/{wallet}/keys"));
    let create = create.json(json!({"name": "a key"}));
    let blocked = tokio::spawn(outcome(app.router.clone(), create));
    app.wait_until_blocked(1).await;
    assert_eq!(store.pool_state().used, 1);
    app.send(with_unknown_admin_key(0)).await.expect_problem(401, "invalid_admin_key");
    let signed_out = app.send(with_unknown_session(0)).await.expect(303);
    assert_eq!(signed_out.header("location"), Some("/dashboard/signed-out"));
    for call in [with_unknown_link(0), form_with_unknown_link(1)] {
        assert_eq!(outcome(app.router.clone(), call).await, (410, None));
    }
    assert_eq!(store.pool_state().used, 1, "the change still occupies the only connection");
    app.wait_until_blocked(1).await;

    lock.commit().await.expect("the transaction commits");
    let (created, _) = blocked.await.expect("the task does not panic");
    assert_eq!(created, 201);
}

#[tokio::test]
async fn concurrent_lookups_of_unknown_admin_keys_sessions_and_links_share_statements() {
    let app = App::start().await;
    let wallet = app.wallet("0").await;
    let key = app.key(&app.tronagg, wallet).await;
    let mut lock = app.pool.begin().await.expect("the transaction begins");
    let tables =
        "LOCK TABLE admin_keys, dashboard_sessions, dashboard_links IN ACCESS EXCLUSIVE MODE";
    sqlx::query(tables).execute(&mut *lock).await.expect("Postgres grants the lock");
    let mut requests = JoinSet::new();
    for number in 0..100 {
        requests.spawn(outcome(app.router.clone(), with_unknown_admin_key(number)));
        requests.spawn(outcome(app.router.clone(), with_unknown_session(number)));
        requests.spawn(outcome(app.router.clone(), with_unknown_link(number)));
    }
    // One statement of each kind waits for the lock. All other lookups wait in memory.
    app.wait_until_blocked(3).await;
    app.send(key.call("GET", "/v1/me")).await.expect(200);
    app.wait_until_blocked(3).await;

    lock.commit().await.expect("the transaction commits");
    let mut outcomes = requests.join_all().await;
    outcomes.sort();
    let (pages, others) = outcomes.split_at(100);
    let (refusals, dead) = others.split_at(100);
    let signed_out = (303, Some("/dashboard/signed-out".to_owned()));
    assert!(pages.iter().all(|page| *page == signed_out), "{pages:?}");
    assert!(refusals.iter().all(|refusal| *refusal == (401, None)), "{refusals:?}");
    assert!(dead.iter().all(|page| *page == (410, None)), "{dead:?}");
}

#[tokio::test]
async fn concurrent_lookups_return_the_right_result_for_each_admin_key() {
    let app = App::start().await;
    let limited = app.tronagg.admin_key_with(&app, &["audit"]).await;
    let mut requests = JoinSet::new();
    for number in 0..100 {
        let (key, status) = match number % 4 {
            0 => (app.tronagg.admin_key.clone(), 200_u16),
            1 => (app.tradetally.admin_key.clone(), 200),
            2 => (limited.clone(), 403),
            _ => (format!("tg_admin_{number:043}"), 401),
        };
        let call = Call::new("GET", "/v1/dashboard-settings").bearer(&key);
        let router = app.router.clone();
        requests.spawn(async move { (outcome(router, call).await.0, status) });
    }
    for (got, expected) in requests.join_all().await {
        assert_eq!(got, expected);
    }
}
