//! Clients that make calls with keys, distributed over the nodes.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::task::JoinSet;

use super::world::{Key, NODES, World};
use crate::harness::PATIENCE;

/// The number of concurrent calls with a key.
const CLIENTS: usize = 8;

/// The number of calls with each key after its limit is used up.
const EXCESS: usize = 600;

/// How calls are distributed over the nodes.
#[derive(Clone, Copy, Debug)]
pub enum Spread {
    Even,
    /// 99 % of the calls go to one node.
    Skewed,
    /// All calls go to one node, later all to another, and later all to a third. The first node
    /// gets a twentieth of the calls. So if the number of calls is ten times the limit, half of
    /// the limit is left for the other nodes.
    Moving,
    OneNode,
}

/// Clients that make calls until the test stops them.
pub struct Load {
    stopped: Arc<AtomicBool>,
    clients: JoinSet<()>,
}

impl Spread {
    pub const ALL: [Self; 4] = [Self::Even, Self::Skewed, Self::Moving, Self::OneNode];

    /// Returns the node for a call. `call` is its number, from 0.
    fn node(self, call: usize, calls: usize) -> usize {
        match self {
            Self::Even => call % NODES,
            Self::Skewed if call % 100 == 50 => 1 + call / 100 % (NODES - 1),
            Self::Moving if call >= calls * 9 / 100 => 2,
            Self::Moving if call >= calls / 20 => 1,
            Self::Skewed | Self::Moving | Self::OneNode => 0,
        }
    }
}

impl World {
    /// Makes `calls` calls with the key, several of them concurrently.
    pub async fn offer(self: &Arc<Self>, key: &Arc<Key>, calls: usize, spread: Spread) {
        let begun = Arc::new(AtomicUsize::new(0));
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            let (world, key, begun) = (Arc::clone(self), Arc::clone(key), Arc::clone(&begun));
            clients.spawn(async move {
                loop {
                    let call = begun.fetch_add(1, Ordering::Relaxed);
                    if call >= calls {
                        break;
                    }
                    world.call(spread.node(call, calls), &key).await;
                }
            });
        }
        clients.join_all().await;
    }

    /// Makes calls with all of these keys until `number` more calls have passed, and then more
    /// calls, none of which may pass.
    pub async fn pass_exactly(self: &Arc<Self>, keys: &[Arc<Key>], number: usize) {
        let target = passed(keys) + number;
        let until_used_up = async {
            while passed(keys) < target {
                self.offer_with_each(keys, CLIENTS).await;
            }
        };
        // If this times out, the assertion below prints the responses.
        let _ = tokio::time::timeout(PATIENCE, until_used_up).await;
        self.offer_with_each(keys, EXCESS).await;
        assert_eq!(passed(keys), target, "{}", describe(keys));
    }

    async fn offer_with_each(self: &Arc<Self>, keys: &[Arc<Key>], calls: usize) {
        let mut offers = JoinSet::new();
        for key in keys {
            let (world, key) = (Arc::clone(self), Arc::clone(key));
            offers.spawn(async move { world.offer(&key, calls, Spread::Even).await });
        }
        offers.join_all().await;
    }

    /// Starts clients that make calls with random keys to random available nodes.
    pub fn start_load(self: &Arc<Self>, keys: &[Arc<Key>]) -> Load {
        let stopped = Arc::new(AtomicBool::new(false));
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            let (world, keys, stopped) = (Arc::clone(self), keys.to_vec(), Arc::clone(&stopped));
            clients.spawn(async move {
                let mut random = StdRng::seed_from_u64(number as u64);
                while !stopped.load(Ordering::Relaxed) {
                    let key = &keys[random.random_range(0..keys.len())];
                    let node = random.random_range(0..NODES);
                    if world.nodes[node].is_available.load(Ordering::Relaxed) {
                        world.call(node, key).await;
                    }
                }
            });
        }
        Load { stopped, clients }
    }
}

impl Load {
    /// Stops the clients and waits for their responses.
    pub async fn stop(self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.clients.join_all().await;
    }
}

/// Returns the number of calls that have passed with these keys.
fn passed(keys: &[Arc<Key>]) -> usize {
    keys.iter().map(|key| key.tally().passed()).sum()
}

/// Returns a line for each key.
fn describe(keys: &[Arc<Key>]) -> String {
    keys.iter().map(|key| format!("{}: {}\n", key.path, key.tally())).collect()
}
