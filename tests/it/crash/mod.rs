//! What clients were told is what the ledger says, each purchase is there once, and in the order in
//! which they were made: two services, clients that repeat and hang up, and whatever can break off
//! on the way.

mod clients;
mod judge;
mod record;
mod world;

use std::{sync::Arc, time::Instant};

use rustix::process::Signal;

use crate::harness::cluster;
use world::{NODES, World};

/// Set to anything, the long form runs: ten times as much.
const LONG: &str = "TOLLGATE_TEST_LONG";

/// Orders until it is enough.
const SHORT_FORM: usize = 20_000;
const LONG_FORM: usize = 200_000;

/// Replies that are cut off, one after the other.
const CUTS: usize = 30;

/// How a purchase stands in a batch on its way to the database: the length of its kind, and the
/// kind. The text of a statement has no such thing in it.
const A_PURCHASE: &str = "\0\0\0\x08purchase";

/// Violations that are shown: one fault often makes many.
const SHOWN: usize = 50;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ledger_matches_every_response_that_clients_received_despite_crashes() {
    let world = World::start().await;
    let clients = world.open();
    let began = Instant::now();
    let enough = if cluster::variable(LONG).is_some() { LONG_FORM } else { SHORT_FORM };
    while world.done() < enough {
        say(&world, "nothing happens", nothing_happens(&world)).await;
        say(&world, "each node is killed", each_node_is_killed(&world)).await;
        say(&world, "connections are terminated", connections_are_terminated(&world)).await;
        say(&world, "replies are cut off", replies_are_cut_off(&world)).await;
        for signal in [Signal::KILL, Signal::QUIT] {
            say(&world, "Postgres restarts", postgres_restarts(&world, signal)).await;
        }
    }
    let (tally, violations) = world.finish(clients).await;
    println!("{tally:?} in {:.1?}", began.elapsed());
    let shown = &violations[..violations.len().min(SHOWN)];
    assert!(violations.is_empty(), "{}:\n{}", violations.len(), shown.join("\n"));
    assert!(tally.accepted > 1000 && tally.declined > 100 && tally.unknown > 10, "{tally:?}");
    assert!(tally.captured > 20 && tally.voided > 20 && tally.replayed > 100, "{tally:?}");
}

/// Does it, and says how much was done meanwhile.
async fn say(world: &Arc<World>, what: &str, happens: impl Future<Output = ()>) {
    let (began, before) = (Instant::now(), world.done());
    happens.await;
    println!("{what}: {} orders in {:.1?}", world.done() - before, began.elapsed());
}

async fn nothing_happens(world: &Arc<World>) {
    for _ in 0..6 {
        world.traffic(500).await;
    }
}

async fn each_node_is_killed(world: &Arc<World>) {
    for node in &world.nodes {
        node.kill();
        world.traffic(100).await;
        node.start().await;
        world.traffic(300).await;
    }
}

async fn connections_are_terminated(world: &Arc<World>) {
    for _ in 0..10 {
        let terminate = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                         WHERE application_name = 'tollgate'";
        let terminated = sqlx::query_scalar::<_, i64>(terminate).fetch_one(&world.pool).await;
        let terminated = terminated.expect("they are terminated");
        assert!(terminated >= 1, "no service is connected");
        world.traffic(50).await;
    }
}

/// The database has committed a batch, and its node does not hear of it.
async fn replies_are_cut_off(world: &Arc<World>) {
    for number in 0..CUTS {
        let proxy = &world.nodes[number % NODES].proxy;
        proxy.cut_reply_to(A_PURCHASE);
        proxy.has_cut().await;
        // Between two of these it may be the same batch that is sent again and cut off again.
        if number % 10 == 9 {
            world.traffic(50).await;
        }
    }
}

async fn postgres_restarts(world: &Arc<World>, signal: Signal) {
    world.signal_postmaster(signal);
    world.traffic(500).await;
}
