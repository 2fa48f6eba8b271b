//! Limits hold while nodes, connections and Postgres fail.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use rustix::process::Signal;
use sqlx::AssertSqlSafe;

use super::{
    tally::Outcome,
    world::{HOUR, Key, NODES, World},
};
use crate::harness::{cluster, eventually, node::all_hold_leases};

/// The name of the Postgres that the test restarts.
const POSTGRES: &str = "rate-limits-faults";

/// The limits of the keys in each phase: the number of calls and the length of the window in
/// seconds.
const LIMITS: [(usize, u64); 6] =
    [(300, HOUR), (300, HOUR), (300, HOUR), (300, HOUR), (20, 2), (20, 2)];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_most_the_limit_passes_in_a_window_while_nodes_connections_and_postgres_fail() {
    let world = World::start_alone("faults", cluster::options(POSTGRES)).await;
    run_phase(&world, "a node is killed", a_node_is_killed).await;
    run_phase(&world, "a node is stopped", a_node_is_stopped).await;
    run_phase(&world, "connections are terminated", connections_are_terminated).await;
    for (name, to_database, to_node) in [
        ("a node is isolated", false, false),
        ("a node receives nothing from the database", true, false),
    ] {
        let cut_off =
            async |world: &Arc<World>| a_node_is_cut_off(world, to_database, to_node).await;
        run_phase(&world, name, cut_off).await;
    }
    for (name, signal) in [("Postgres is killed", Signal::KILL), ("Postgres restarts", Signal::INT)]
    {
        let restarts = async |world: &Arc<World>| postgres_restarts(world, signal).await;
        run_phase(&world, name, restarts).await;
    }
}

/// Starts clients, causes a failure while calls with each key pass, and checks the responses after
/// the nodes have recovered.
async fn run_phase(world: &Arc<World>, name: &str, fail: impl AsyncFnOnce(&Arc<World>)) {
    let began = Instant::now();
    let mut keys = Vec::new();
    for (limit, window) in LIMITS {
        keys.push(world.key(limit, window).await);
    }
    let load = world.start_load(&keys);
    let all_pass = async || keys.iter().all(|key| key.tally().passed() > 0);
    eventually("calls with each key pass", all_pass).await;
    fail(world).await;
    all_hold_leases(&world.nodes).await;
    let recovered: Vec<_> = keys.iter().map(|key| key.tally()).collect();
    eventually("each limit refuses calls after the failure, and new windows begin", async || {
        keys.iter().zip(LIMITS).zip(&recovered).all(|((key, (_, window)), before)| {
            let after = key.tally();
            after.limited() > before.limited() + 50
                && (window == HOUR || after.passed() > before.passed())
        })
    })
    .await;
    load.stop().await;
    for (key, (limit, window)) in keys.iter().zip(LIMITS) {
        check(name, key, limit, window);
    }
    every_node_answers(world).await;
    println!("{name}: {:.1?}", began.elapsed());
}

fn check(name: &str, key: &Key, limit: usize, window: u64) {
    let tally = key.tally();
    let most = if window == HOUR { limit } else { limit * tally.windows(window) };
    assert!(tally.passed() <= most, "{name}: {limit} in {window} s, at most {most}: {tally}");
    // Only shares that a node held, or that a lost reply contained, are missing.
    assert!(tally.passed() >= limit / 4, "{name}: {limit} in {window} s: {tally}");
}

/// Waits until a call to each node passes.
async fn every_node_answers(world: &World) {
    let key = world.key(1000, HOUR).await;
    for node in 0..NODES {
        let passes = async || world.call(node, &key).await == Outcome::Passed;
        eventually("a call to the node passes", passes).await;
    }
}

async fn a_node_is_killed(world: &Arc<World>) {
    let node = &world.nodes[2];
    node.kill();
    world.wait_for_calls(500).await;
    node.start().await;
}

async fn a_node_is_stopped(world: &Arc<World>) {
    let node = &world.nodes[1];
    node.is_available.store(false, Ordering::Relaxed);
    node.signal(Signal::STOP);
    eventually("the lease of the node ended a second ago", async || {
        let leases = "SELECT count(*) FROM nodes
                      WHERE lease_ends_at > clock_timestamp() - interval '1 s'";
        let leases = sqlx::query_scalar::<_, i64>(leases).fetch_one(&world.pool).await;
        leases.ok() == Some(NODES as i64 - 1)
    })
    .await;
    // Clients may send calls before the node continues. So the node may decide calls before it
    // notices that its lease has ended.
    node.is_available.store(true, Ordering::Relaxed);
    node.signal(Signal::CONT);
    world.wait_for_calls(500).await;
}

async fn connections_are_terminated(world: &Arc<World>) {
    for name in ["tollgate", "tollgate listener", "tollgate%"] {
        let terminate = format!(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
             WHERE application_name LIKE '{name}' AND pid <> pg_backend_pid()"
        );
        let terminated = sqlx::query_scalar::<_, i64>(AssertSqlSafe(terminate));
        let terminated = terminated.fetch_one(&world.pool).await;
        let terminated = terminated.expect("the query returns a number");
        assert!(terminated >= NODES as i64, "only {terminated} sessions of {name} were terminated");
        world.wait_for_calls(200).await;
        all_hold_leases(&world.nodes).await;
    }
}

async fn a_node_is_cut_off(world: &Arc<World>, to_database: bool, to_node: bool) {
    let node = &world.nodes[0];
    node.proxy.set_open(to_database, to_node);
    // Calls to this node wait for seconds, and would occupy all clients.
    node.is_available.store(false, Ordering::Relaxed);
    eventually("the lease of the node has ended", async || {
        node.metric("tollgate_lease_held").await == Some(0)
    })
    .await;
    world.wait_for_calls(200).await;
    node.proxy.set_open(true, true);
    node.is_available.store(true, Ordering::Relaxed);
}

async fn postgres_restarts(world: &Arc<World>, signal: Signal) {
    let started = async || {
        sqlx::query_scalar::<_, String>("SELECT pg_postmaster_start_time()::text")
            .fetch_one(&world.pool)
            .await
            .ok()
    };
    let before = started().await.expect("Postgres runs");
    cluster::signal_postmaster(POSTGRES, signal);
    let has_restarted = async || started().await.is_some_and(|now| now != before);
    eventually("Postgres has restarted", has_restarted).await;
}
