//! A window ends, and a new one begins.

use super::world::World;
use crate::harness::eventually;

/// The limits of the keys: the number of calls and the length of the window in seconds.
const LIMITS: [(usize, u64); 3] = [(20, 1), (5, 2), (1, 1)];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_pass_again_in_each_new_window_and_at_most_the_limit_passes_in_a_window() {
    let world = World::start("windows").await;
    let mut keys = Vec::new();
    for (limit, window) in LIMITS {
        keys.push(world.key(limit, window).await);
    }
    let load = world.start_load(&keys);
    eventually("calls pass in four windows of each limit", async || {
        keys.iter().zip(LIMITS).all(|(key, (limit, _))| key.tally().passed() > 3 * limit)
    })
    .await;
    load.stop().await;
    for (key, (limit, window)) in keys.iter().zip(LIMITS) {
        let tally = key.tally();
        let most = limit * tally.windows(window);
        assert!(tally.passed() <= most, "{limit} in {window} s, at most {most}: {tally}");
        assert_eq!(tally.undecided(), 0, "{limit} in {window} s: {tally}");
        assert!(tally.limited() > 0, "{limit} in {window} s: {tally}");
    }
}
