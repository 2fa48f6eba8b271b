//! The ledger matches the responses that clients received. It contains each purchase once, in the
//! right order. Clients of two services retry and disconnect, while the test kills services and
//! Postgres and cuts connections.

mod clients;
mod judge;
mod record;
mod world;

use std::{sync::Arc, time::Instant};

use rustix::process::Signal;

use crate::harness::cluster;
use world::{NODES, World};

/// If this environment variable is set, the test runs ten times as many orders.
const LONG_VARIABLE: &str = "TOLLGATE_TEST_LONG";

/// The number of orders in a run.
const SHORT_RUN: usize = 20_000;
const LONG_RUN: usize = 200_000;

/// How many replies the test cuts off, one after another.
const CUTS: usize = 30;

/// The bytes that identify a purchase in a batch that a node sends to the database. They are the
/// length of the operation's kind, and the kind. The text of a statement does not contain these
/// bytes.
const PURCHASE_IN_BATCH: &str = "\0\0\0\x08purchase";

/// How many violations the failure message shows. One fault often causes many violations.
const MAX_SHOWN: usize = 50;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ledger_matches_every_response_that_clients_received_despite_crashes() {
    let world = World::start().await;
    let clients = world.start_clients();
    let began = Instant::now();
    let target = if cluster::variable(LONG_VARIABLE).is_some() { LONG_RUN } else { SHORT_RUN };
    while world.orders_done() < target {
        run_phase(&world, "no failures", no_failures(&world)).await;
        run_phase(&world, "each node is killed", each_node_is_killed(&world)).await;
        run_phase(&world, "connections are terminated", connections_are_terminated(&world)).await;
        run_phase(&world, "replies are cut off", replies_are_cut_off(&world)).await;
        for signal in [Signal::KILL, Signal::QUIT] {
            run_phase(&world, "Postgres restarts", postgres_restarts(&world, signal)).await;
        }
    }
    let (tally, violations) = world.finish(clients).await;
    println!("{tally:?} in {:.1?}", began.elapsed());
    let shown = &violations[..violations.len().min(MAX_SHOWN)];
    assert!(violations.is_empty(), "{}:\n{}", violations.len(), shown.join("\n"));
    assert!(tally.accepted > 1000 && tally.declined > 100 && tally.unknown > 10, "{tally:?}");
    assert!(tally.captured > 20 && tally.voided > 20 && tally.replayed > 100, "{tally:?}");
}

/// Runs one phase, and prints how many orders clients finished during it.
async fn run_phase(world: &Arc<World>, name: &str, phase: impl Future<Output = ()>) {
    let (began, before) = (Instant::now(), world.orders_done());
    phase.await;
    println!("{name}: {} orders in {:.1?}", world.orders_done() - before, began.elapsed());
}

async fn no_failures(world: &Arc<World>) {
    for _ in 0..6 {
        world.wait_for_orders(500).await;
    }
}

async fn each_node_is_killed(world: &Arc<World>) {
    for node in &world.nodes {
        node.kill();
        world.wait_for_orders(100).await;
        node.start().await;
        world.wait_for_orders(300).await;
    }
}

async fn connections_are_terminated(world: &Arc<World>) {
    for _ in 0..10 {
        let terminate = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                         WHERE application_name = 'tollgate'";
        let terminated = sqlx::query_scalar::<_, i64>(terminate).fetch_one(&world.pool).await;
        let terminated = terminated.expect("the query returns a number");
        assert!(terminated >= 1, "no service is connected");
        world.wait_for_orders(50).await;
    }
}

/// Lets the database commit a batch, and cuts off the reply to the node.
async fn replies_are_cut_off(world: &Arc<World>) {
    for number in 0..CUTS {
        let proxy = &world.nodes[number % NODES].proxy;
        proxy.cut_reply_to(PURCHASE_IN_BATCH);
        proxy.wait_until_cut().await;
        // Two consecutive cuts may affect a single batch, because the node sends the batch again
        // after the first cut.
        if number % 10 == 9 {
            world.wait_for_orders(50).await;
        }
    }
}

async fn postgres_restarts(world: &Arc<World>, signal: Signal) {
    cluster::signal_postmaster("crash", signal);
    world.wait_for_orders(500).await;
}
