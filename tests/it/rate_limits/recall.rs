//! A node uses the calls that other nodes were given and have not spent.

use std::cell::Cell;

use axum::Router;
use serde_json::json;
use tower::ServiceExt as _;

use super::calls::{AUTHORIZE, limit, limited_key};
use crate::harness::{
    App,
    app::NewKey,
    cluster, eventually,
    process::{Process, tollgate},
};

const LIMIT: u32 = 1000;

/// The calls to the node that holds further calls afterwards. The first share of a limit of 1,000
/// has 15 calls.
const FIRST: u32 = 10;

/// Sends a call to a node. Returns whether it passed.
async fn passes(node: &Router, key: &NewKey) -> bool {
    let request = key.call("GET", AUTHORIZE).into_request();
    let response = node.clone().oneshot(request).await.expect("the router is infallible");
    match response.status().as_u16() {
        200 => true,
        429 => false,
        status => panic!("the node answered {status}"),
    }
}

/// Returns the calls of the window that nodes were given and have not returned.
async fn given(app: &App) -> i32 {
    sqlx::query_scalar("SELECT given FROM rate_limit_windows")
        .fetch_one(&app.pool)
        .await
        .expect("there is one window")
}

#[tokio::test]
async fn node_that_finds_nothing_left_recalls_the_unspent_calls_of_another_node() {
    let app = App::start().await;
    let other = app.another_node().await;
    let key = limited_key(&app, json!([limit("default", LIMIT)])).await;
    for _ in 0..FIRST {
        assert!(passes(&app.router, &key).await);
    }
    assert!(given(&app).await > FIRST.cast_signed(), "the first node holds unspent calls");

    // A recall may time out on a slow machine. Then a later call recalls again.
    let passed = Cell::new(FIRST);
    let all_pass = async || {
        while passes(&other, &key).await {
            passed.set(passed.get() + 1);
        }
        passed.get() >= LIMIT
    };
    eventually("the other node passes the rest of the limit", all_pass).await;
    assert_eq!(passed.get(), LIMIT);
    for node in [&app.router, &other, &app.router] {
        assert!(!passes(node, &key).await);
    }
}

#[tokio::test]
async fn calls_move_back_and_forth_between_nodes_and_exactly_the_limit_passes() {
    let app = App::start().await;
    let nodes = [app.router.clone(), app.another_node().await];
    let key = limited_key(&app, json!([limit("default", 100)])).await;
    let passed = Cell::new(0);
    let all_pass = async || {
        // Each node makes a few calls, and keeps a share when the calls move to the other node.
        for node in nodes.iter().cycle().take(40) {
            for _ in 0..5 {
                passed.set(passed.get() + u32::from(passes(node, &key).await));
            }
        }
        passed.get() >= 100
    };
    eventually("the limit is used up", all_pass).await;
    assert_eq!(passed.get(), 100);
}

#[tokio::test]
async fn node_that_stops_returns_its_unspent_calls() {
    let app = App::start().await;
    let key = limited_key(&app, json!([limit("default", LIMIT)])).await;
    let mut command = tollgate(&["serve"]);
    command.env("DATABASE_URL", &app.url);
    let log = cluster::directory("rate-limits-stop.log");
    let path = log.clone();
    let call = key.call("GET", AUTHORIZE);
    let start_and_call = move || {
        let process = Process::start(command, &path);
        for _ in 0..FIRST {
            process.send(call.clone()).expect(200);
        }
        process
    };
    let process = tokio::task::spawn_blocking(start_and_call).await;
    let process = process.expect("the task does not panic");
    // After half of the first share, the process has requested a second share.
    let holds_two_shares = async || given(&app).await > 15;
    eventually("the process holds a second share", holds_two_shares).await;

    let stopped = tokio::task::spawn_blocking(move || process.stop()).await;
    let (status, output) = stopped.expect("the task does not panic");
    assert!(status.success(), "{status}: {output}");
    assert_eq!(given(&app).await, FIRST.cast_signed());
    for number in FIRST..LIMIT {
        assert!(passes(&app.router, &key).await, "call {number} was refused");
    }
    assert!(!passes(&app.router, &key).await);
    std::fs::remove_file(log).expect("the log exists");
}
