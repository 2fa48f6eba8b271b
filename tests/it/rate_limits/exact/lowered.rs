//! A limit that a change lowers below the calls that have passed.

use std::sync::{Arc, atomic::Ordering};

use axum::http::Method;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::{
    load::Spread,
    world::{HOUR, Key, NODES, World, limits},
};
use crate::harness::eventually;

/// The number of calls before the change. Afterwards each node holds a share.
const USED: usize = 30;

/// Lowers a limit of the key below the calls that have passed, and raises it again by ten calls.
/// `path` and `member` name the setting.
async fn lower_and_raise(world: &Arc<World>, key: &Arc<Key>, path: &str, member: &str) {
    let set = |calls| -> Value { json!({member: limits(calls, HOUR)}) };
    world.offer(key, USED, Spread::Even).await;
    assert_eq!(key.tally().passed(), USED, "{path}, {member}: {}", key.tally());

    world.change(1, Method::PATCH, path, set(USED / 3)).await;
    world.offer(key, 20 * NODES, Spread::Even).await;
    assert_eq!(key.tally().passed(), USED, "{path}, {member}: {}", key.tally());

    world.change(2, Method::PATCH, path, set(USED + 10)).await;
    world.pass_exactly(std::slice::from_ref(key), 10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limit_that_is_used_up_by_a_change_refuses_on_every_node_once_the_change_has_returned() {
    let world = World::start("lowered").await;
    let key = world.key(1000, HOUR).await;
    lower_and_raise(&world, &key, &key.path, "rate_limits").await;

    let account = world.account(json!({"rate_limits": limits(1000, HOUR)})).await;
    let key = world.key_of(&account, json!({"name": "a key"})).await;
    lower_and_raise(&world, &key, &account, "rate_limits").await;

    for member in ["key_rate_limits", "account_rate_limits"] {
        let body = json!({member: limits(1000, HOUR)});
        world.change(0, Method::PATCH, "/v1/limits", body).await;
        let account = world.account(json!({})).await;
        let key = world.key_of(&account, json!({"name": "a key"})).await;
        lower_and_raise(&world, &key, "/v1/limits", member).await;
        world.change(0, Method::PATCH, "/v1/limits", json!({member: null})).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_that_was_stopped_while_a_limit_was_lowered_does_not_use_its_old_share() {
    let world = World::start("lowered-stopped").await;
    // A share is at least a 64th of what is left, so each node holds a share after its first call.
    let key = world.key(3000, HOUR).await;
    world.offer(&key, USED, Spread::Even).await;
    assert_eq!(key.tally().passed(), USED, "{}", key.tally());

    let node = &world.nodes[1];
    node.is_available.store(false, Ordering::Relaxed);
    node.signal(Signal::STOP);
    let body = json!({"rate_limits": limits(USED / 3, HOUR)});
    // This returns after the lease of the stopped node has ended.
    world.change(0, Method::PATCH, &key.path, body).await;
    let load = world.start_load(std::slice::from_ref(&key));
    world.wait_for_calls(100).await;
    let before = key.tally();
    node.is_available.store(true, Ordering::Relaxed);
    node.signal(Signal::CONT);
    let refuses = async || key.tally().limited_by(1) > before.limited_by(1) + 100;
    eventually("the stopped node refuses calls", refuses).await;
    load.stop().await;
    assert_eq!(key.tally().passed(), USED, "{}", key.tally());
}
