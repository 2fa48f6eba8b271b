//! Once a change has returned that takes a key its right to pass, no node passes it: three
//! services, and whatever can happen to them.

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

/// Set to anything, the long form runs: all of it again and again, for ten minutes.
const LONG: &str = "TOLLGATE_TEST_LONG";

const LONG_TIME: Duration = Duration::from_secs(600);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn key_is_refused_on_every_node_after_a_change_that_forbids_it_has_returned() {
    let world = World::start().await;
    let clients = world.hammer();
    let began = Instant::now();
    say(&world, "nothing happens", world.change(2000)).await;
    loop {
        say(&world, "a node is killed", a_node_is_killed(&world)).await;
        say(&world, "a node is stopped for 5 s", a_node_is_stopped(&world)).await;
        say(&world, "connections are terminated", connections_are_terminated(&world)).await;
        for (what, to_database, to_node) in [
            ("a node is cut off", false, false),
            ("a node hears nothing", true, false),
            ("a node is not heard", false, true),
        ] {
            say(&world, what, a_node_is_cut_off(&world, to_database, to_node)).await;
        }
        for signal in [Signal::KILL, Signal::INT] {
            say(&world, "Postgres restarts", postgres_restarts(&world, signal)).await;
        }
        let long = cluster::variable(LONG).is_some() && began.elapsed() < LONG_TIME;
        if !long {
            break;
        }
        say(&world, "nothing happens", world.change(2000)).await;
    }
    let (tally, violations) = world.finish(clients).await;
    println!("{tally:?} in {:?}", began.elapsed());
    assert!(violations.is_empty(), "{}:\n{}", violations.len(), violations.join("\n"));
    assert!(tally.banned > 2000 && tally.passed > 10_000, "{tally:?}");
}

/// Does it, waits until all is well again, and says how long the changes took meanwhile.
async fn say(world: &Arc<World>, what: &str, happens: impl Future<Output = ()>) {
    let began = Instant::now();
    happens.await;
    world.all_hold_leases().await;
    let mut took = std::mem::take(&mut *world.took.lock().expect("no panic"));
    took.sort();
    let at = |percent: usize| took[(took.len() - 1) * percent / 100];
    let (number, whole) = (took.len(), began.elapsed());
    let (p50, p99, max) = (at(50), at(99), at(100));
    println!(
        "{what}: {number} changes in {whole:.1?}, p50 {p50:.1?}, p99 {p99:.1?}, max {max:.1?}"
    );
}

async fn a_node_is_killed(world: &Arc<World>) {
    let node = &world.nodes[2];
    node.kill();
    world.change(40).await;
    node.start().await;
    world.all_hold_leases().await;
    world.change(40).await;
}

async fn a_node_is_stopped(world: &Arc<World>) {
    let node = &world.nodes[1];
    node.answers.store(false, Ordering::Relaxed);
    node.signal(Signal::STOP);
    // Its lease ends on the way.
    world.change(40).await;
    eventually("it was stopped for 5 s", async || {
        // Its last renewal was for 2 s.
        let stopped = "SELECT count(*) FROM nodes
                       WHERE lease_expires_at < clock_timestamp() - interval '3 s'";
        sqlx::query_scalar::<_, i64>(stopped).fetch_one(&world.pool).await.ok() == Some(1)
    })
    .await;
    world.change(40).await;
    node.signal(Signal::CONT);
    node.answers.store(true, Ordering::Relaxed);
    world.change(40).await;
}

async fn connections_are_terminated(world: &Arc<World>) {
    for name in ["tollgate", "tollgate listener", "tollgate%", "tollgate listener", "tollgate%"] {
        let terminate = format!(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
             WHERE application_name LIKE '{name}' AND pid <> pg_backend_pid()"
        );
        let (terminated, ()) = tokio::join!(
            sqlx::query_scalar::<_, i64>(AssertSqlSafe(terminate)).fetch_one(&world.pool),
            world.change(20),
        );
        let terminated = terminated.expect("they are terminated");
        assert!(terminated >= NODES as i64, "{terminated} of {name}");
        world.all_hold_leases().await;
    }
}

async fn a_node_is_cut_off(world: &Arc<World>, to_database: bool, to_node: bool) {
    let node = &world.nodes[0];
    // Amid changes, of which some are just being made on this node.
    let ((), ()) = tokio::join!(world.change(40), async {
        node.proxy.set(to_database, to_node);
        node.answers.store(false, Ordering::Relaxed);
    });
    eventually("its lease is over", async || node.metric("tollgate_lease_held").await == Some(0))
        .await;
    world.change(40).await;
    let ((), ()) = tokio::join!(world.change(40), async { node.proxy.set(true, true) });
    world.all_hold_leases().await;
    node.answers.store(true, Ordering::Relaxed);
    world.change(40).await;
}

async fn postgres_restarts(world: &Arc<World>, signal: Signal) {
    let ((), ()) = tokio::join!(world.change(40), async { world.signal_postmaster(signal) });
}
