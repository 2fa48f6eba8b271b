//! Limits hold when the clock of the database's machine changes.

use std::sync::Arc;

use tollgate::postgres::Options;

use super::{
    clock::Clock,
    load::Spread,
    world::{HOUR, Key, World},
};
use crate::harness::{cluster, eventually, node::all_hold_leases};

const LIMIT: usize = 100;

/// Two windows, in seconds.
const TWO_HOURS: i64 = 7200;

/// Creates a key, and uses half of its limit. Every node then knows the window.
async fn half_used_key(world: &Arc<World>) -> Arc<Key> {
    let key = world.key(LIMIT, HOUR).await;
    world.offer(&key, LIMIT / 2, Spread::Even).await;
    assert_eq!(key.tally().passed(), LIMIT / 2, "{}", key.tally());
    key
}

/// Sets the clock, and checks that the clock of the database has changed by this number of minutes.
async fn step(world: &World, clock: &Clock, offset_seconds: i64, minutes: i64) {
    let now = async || {
        sqlx::query_scalar::<_, i64>("SELECT extract(epoch FROM clock_timestamp())::bigint / 60")
            .fetch_one(&world.pool)
            .await
            .expect("the query returns a number")
    };
    let before = now().await;
    clock.set(offset_seconds);
    let step = now().await - before;
    // A minute may end between the queries.
    assert!((minutes..=minutes + 1).contains(&step), "the clock changed by {step} minutes");
    all_hold_leases(&world.nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limit_holds_when_the_clock_of_the_database_is_set_back_or_forward() {
    let clock = Clock::new("rate-limits-clock").await;
    let bindir = Some(clock.bindir());
    let options = Options { pg_bindir: bindir, ..cluster::options("rate-limits-clock-steps") };
    let world = World::start_alone("clock-steps", options).await;

    // The window does not end early.
    let key = half_used_key(&world).await;
    step(&world, &clock, -TWO_HOURS, -120).await;
    world.pass_exactly(&[key], LIMIT / 2).await;

    // The step is shorter than the window, so the same window continues.
    let key = half_used_key(&world).await;
    step(&world, &clock, -TWO_HOURS + 600, 10).await;
    world.pass_exactly(&[key], LIMIT / 2).await;

    // The window ends early, and a new one begins. Nodes may also use the shares of the old window
    // that they hold.
    let key = half_used_key(&world).await;
    step(&world, &clock, 0, 110).await;
    let load = world.start_load(std::slice::from_ref(&key));
    let new_window_is_used = async || key.tally().passed() >= LIMIT / 2 + LIMIT;
    eventually("the calls of a new window pass", new_window_is_used).await;
    world.wait_for_calls(10 * LIMIT).await;
    load.stop().await;
    assert!(key.tally().passed() <= 2 * LIMIT, "{}", key.tally());
    assert_eq!(key.tally().undecided(), 0, "{}", key.tally());
}
