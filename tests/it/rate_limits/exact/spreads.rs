//! Limits hold for every distribution of the calls over the nodes.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::{
    load::Spread,
    world::{HOUR, World},
};

const LIMITS: [usize; 4] = [1000, 100, 7, 1];

/// The number of calls that the clients make, as a multiple of the limit.
const EXCESS: usize = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_most_the_limit_and_at_least_99_percent_of_it_pass_in_every_distribution_over_nodes() {
    let world = World::start("spreads").await;
    for spread in Spread::ALL {
        let mut keys = Vec::new();
        for limit in LIMITS {
            keys.push((limit, world.key(limit, HOUR).await));
        }
        let mut offers = JoinSet::new();
        for (limit, key) in &keys {
            let (world, key, calls) = (Arc::clone(&world), Arc::clone(key), limit * EXCESS);
            offers.spawn(async move { world.offer(&key, calls, spread).await });
        }
        offers.join_all().await;
        for (limit, key) in keys {
            let tally = key.tally();
            let least = limit - limit / 100;
            let fits = (least..=limit).contains(&tally.passed());
            assert!(fits, "{spread:?}, a limit of {limit}: {tally}");
            assert_eq!(tally.undecided(), 0, "{spread:?}, a limit of {limit}: {tally}");
        }
    }
}
