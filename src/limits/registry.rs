use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::share::Share;
use crate::store::{LimitRow, LimitWindow, WindowTag};

/// Number of shards. With this many, threads seldom wait for each other.
const SHARDS: usize = 64;

/// Maximum number of shares that no cached key uses. Beyond this number, the node returns such
/// shares although their windows are not over.
const MAX_UNUSED: usize = 1_000_000;

/// The shares of this node, by the tags of their windows.
pub struct Registry {
    shards: Box<[Mutex<Shard>]>,
}

#[derive(Default)]
struct Shard(HashMap<u64, Vec<Arc<Share>>>);

impl Registry {
    pub fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }

    /// Returns the share of this limit. Creates it if it does not exist.
    pub fn get(&self, row: LimitRow) -> Arc<Share> {
        let tag = row.tag();
        let mut shard = self.shard(tag);
        let shares = shard.0.entry(tag.0).or_insert_with(|| Vec::with_capacity(1));
        if let Some(share) = shares.iter().find(|share| share.row == row) {
            return Arc::clone(share);
        }
        let share = Arc::new(Share::new(row));
        shares.push(Arc::clone(&share));
        share
    }

    /// Returns the shares of these windows.
    pub fn with_tags(&self, tags: &[WindowTag]) -> Vec<Arc<Share>> {
        let found = |tag: &WindowTag| self.shard(*tag).0.get(&tag.0).cloned().unwrap_or_default();
        tags.iter().flat_map(found).collect()
    }

    /// Returns the unspent calls of a window.
    pub fn unspent(&self, window: &LimitWindow) -> u32 {
        let shares = self.with_tags(&[window.tag()]);
        let is_its = |share: &&Arc<Share>| {
            share.row.window() == (window.account, window.holder, window.name.as_str())
        };
        shares.iter().filter(is_its).map(|share| share.unspent_of(window.number)).sum()
    }

    /// Returns all shares.
    pub fn all(&self) -> Vec<Arc<Share>> {
        let of_shard =
            |shard: &Mutex<Shard>| lock(shard).0.values().flatten().cloned().collect::<Vec<_>>();
        self.shards.iter().flat_map(of_shard).collect()
    }

    /// Forgets shares that no cached key uses and whose window is over. Returns further unused
    /// shares, if there are too many of them. They are forgotten too.
    pub fn sweep(&self, now: Duration) -> Vec<Arc<Share>> {
        let mut surplus = Vec::new();
        for shard in &self.shards {
            let mut unused = 0;
            lock(shard).0.retain(|_, shares| {
                shares.retain(|share| {
                    if Arc::strong_count(share) > 1 {
                        return true;
                    }
                    if share.is_idle(now) {
                        return false;
                    }
                    unused += 1;
                    let is_kept = unused <= MAX_UNUSED / SHARDS;
                    if !is_kept {
                        surplus.push(Arc::clone(share));
                    }
                    is_kept
                });
                !shares.is_empty()
            });
        }
        surplus
    }

    fn shard(&self, tag: WindowTag) -> MutexGuard<'_, Shard> {
        // The map uses other bits of the tag.
        lock(&self.shards[(tag.0 >> 32) as usize % SHARDS])
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    // No operation leaves the map inconsistent, so a panic in another thread is harmless.
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}
