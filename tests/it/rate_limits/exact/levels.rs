//! Limits of keys, accounts and the tenant apply together.

use axum::http::Method;
use serde_json::json;

use super::world::{HOUR, World, limits};
use crate::harness::process::tollgate;

/// Sets the limits of the tenant itself, which only the command line can do.
fn limit_tenant(world: &World, change: &[&str]) {
    let output = tollgate(&["tenant", "limits", "tronagg", "--database-url", &world.url])
        .args(change)
        .output()
        .expect("the program runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn call_that_one_limit_refuses_is_charged_to_no_other_limit() {
    let world = World::start("levels").await;
    limit_tenant(&world, &["--limit", "default=30/1h"]);
    let mut accounts = Vec::new();
    for _ in 0..2 {
        accounts.push(world.account(json!({"rate_limits": limits(40, HOUR)})).await);
    }
    let mut keys = Vec::new();
    for account in [0, 0, 1] {
        let body = json!({"name": "a key", "rate_limits": limits(50, HOUR)});
        keys.push(world.key_of(&accounts[account], body).await);
    }

    // The tenant's limit refuses.
    world.pass_exactly(&keys, 30).await;

    // The limit of each account refuses.
    limit_tenant(&world, &["--no-limits"]);
    world.pass_exactly(&keys, 2 * 40 - 30).await;

    // The limit of each key refuses.
    for account in &accounts {
        let body = json!({"rate_limits": limits(1000, HOUR)});
        world.change(1, Method::PATCH, account, body).await;
    }
    world.pass_exactly(&keys, 3 * 50 - 2 * 40).await;
    for key in keys {
        assert_eq!(key.tally().passed(), 50, "{}: {}", key.path, key.tally());
    }
}
