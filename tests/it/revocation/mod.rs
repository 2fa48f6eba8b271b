//! After a change that forbids a key has returned, no node accepts the key. The test runs three
//! services, and kills, freezes, isolates and restarts them.

mod record;
mod world;

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use rustix::process::Signal;
use sqlx::AssertSqlSafe;

use crate::harness::{cluster, eventually};
use world::{NODES, World};

/// If this environment variable is set, the test repeats all phases for ten minutes.
const LONG_VARIABLE: &str = "TOLLGATE_TEST_LONG";

const LONG_RUN: Duration = Duration::from_secs(600);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn key_is_refused_on_every_node_once_a_change_that_forbids_it_has_returned() {
    let world = World::start().await;
    let clients = world.start_clients();
    let began = Instant::now();
    run_phase(&world, "no failures", world.make_changes(2000)).await;
    loop {
        run_phase(&world, "a node is killed", a_node_is_killed(&world)).await;
        run_phase(&world, "a node is stopped for 5 s", a_node_is_stopped(&world)).await;
        run_phase(&world, "connections are terminated", connections_are_terminated(&world)).await;
        for (name, to_database, to_node) in [
            ("a node is isolated", false, false),
            ("a node receives nothing from the database", true, false),
            ("the database receives nothing from a node", false, true),
        ] {
            run_phase(&world, name, a_node_is_cut_off(&world, to_database, to_node)).await;
        }
        for signal in [Signal::KILL, Signal::INT] {
            run_phase(&world, "Postgres restarts", postgres_restarts(&world, signal)).await;
        }
        let repeat = cluster::variable(LONG_VARIABLE).is_some() && began.elapsed() < LONG_RUN;
        if !repeat {
            break;
        }
        run_phase(&world, "no failures", world.make_changes(2000)).await;
    }
    let (tally, violations) = world.finish(clients).await;
    println!("{tally:?} in {:?}", began.elapsed());
    assert!(violations.is_empty(), "{}:\n{}", violations.len(), violations.join("\n"));
    assert!(tally.banned > 2000 && tally.passed > 10_000, "{tally:?}");
}

/// Runs one phase, waits until every node has its lease, and prints how long the changes took.
async fn run_phase(world: &Arc<World>, name: &str, phase: impl Future<Output = ()>) {
    let began = Instant::now();
    phase.await;
    world.all_hold_leases().await;
    let mut durations =
        std::mem::take(&mut *world.durations.lock().expect("the lock is not poisoned"));
    durations.sort();
    let percentile = |percent: usize| durations[(durations.len() - 1) * percent / 100];
    let (number, total) = (durations.len(), began.elapsed());
    let (p50, p99, max) = (percentile(50), percentile(99), percentile(100));
    println!(
        "{name}: {number} changes in {total:.1?}, p50 {p50:.1?}, p99 {p99:.1?}, max {max:.1?}"
    );
}

async fn a_node_is_killed(world: &Arc<World>) {
    let node = &world.nodes[2];
    node.kill();
    world.make_changes(40).await;
    node.start().await;
    world.all_hold_leases().await;
    world.make_changes(40).await;
}

async fn a_node_is_stopped(world: &Arc<World>) {
    let node = &world.nodes[1];
    node.is_available.store(false, Ordering::Relaxed);
    node.signal(Signal::STOP);
    // The lease of the stopped node ends during these changes.
    world.make_changes(40).await;
    eventually("the node is stopped for 5 s", async || {
        // A lease lasts 2 s.
        let stopped = "SELECT count(*) FROM nodes
                       WHERE lease_ends_at < clock_timestamp() - interval '3 s'";
        sqlx::query_scalar::<_, i64>(stopped).fetch_one(&world.pool).await.ok() == Some(1)
    })
    .await;
    world.make_changes(40).await;
    node.signal(Signal::CONT);
    node.is_available.store(true, Ordering::Relaxed);
    world.make_changes(40).await;
}

async fn connections_are_terminated(world: &Arc<World>) {
    for name in ["tollgate", "tollgate listener", "tollgate%", "tollgate listener", "tollgate%"] {
        let terminate = format!(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
             WHERE application_name LIKE '{name}' AND pid <> pg_backend_pid()"
        );
        let (terminated, ()) = tokio::join!(
            sqlx::query_scalar::<_, i64>(AssertSqlSafe(terminate)).fetch_one(&world.pool),
            world.make_changes(20),
        );
        let terminated = terminated.expect("the query returns a number");
        assert!(terminated >= NODES as i64, "only {terminated} sessions of {name} were terminated");
        world.all_hold_leases().await;
    }
}

async fn a_node_is_cut_off(world: &Arc<World>, to_database: bool, to_node: bool) {
    let node = &world.nodes[0];
    // The cut happens while clients make changes, some of them on this node.
    let ((), ()) = tokio::join!(world.make_changes(40), async {
        node.proxy.set_open(to_database, to_node);
        node.is_available.store(false, Ordering::Relaxed);
    });
    eventually("the lease of the node has ended", async || {
        node.metric("tollgate_lease_held").await == Some(0)
    })
    .await;
    world.make_changes(40).await;
    let ((), ()) = tokio::join!(world.make_changes(40), async { node.proxy.set_open(true, true) });
    world.all_hold_leases().await;
    node.is_available.store(true, Ordering::Relaxed);
    world.make_changes(40).await;
}

async fn postgres_restarts(world: &Arc<World>, signal: Signal) {
    let ((), ()) = tokio::join!(world.make_changes(40), async {
        cluster::signal_postmaster("revocation", signal);
    });
}
