use std::sync::{
    PoisonError,
    atomic::{AtomicU8, Ordering},
};

use hashbrown::HashTable;

use super::{Denied, Principal, Verdict, sync::RwLock};
use crate::domain::{
    api_key::{KeyHash, KeyTag},
    verification::Denial,
};

/// The least shards that a cache is cut into, so that threads seldom wait for each other.
const MIN_SHARDS: usize = 16;

/// Entries of a shard at the most: a hash table of 2^14 places is full with so many. A little over
/// half full it would take twice the memory.
const SHARD_ENTRIES: usize = (1 << 14) / 8 * 7;

/// The most entries that a cache may be made for: a shard counts its entries in 32 bits.
pub const MAX_ENTRIES: usize = 100_000_000;

/// Verdicts by the hash of the key, bounded, the seldom used ones evicted first.
///
/// Only keys that exist are kept: texts that are made up push nothing out. A key comes in as one
/// that was not used; when room is needed, the hand of a clock goes around, takes the mark of use
/// from those that have it, and evicts the first one that has none. So a scan of many keys that are
/// asked for once goes by those that are asked for again.
///
/// A row that was read before its key changed must not come in after the change was applied. So
/// each shard counts the changes that were applied to it: who misses gets the count as a
/// [`Ticket`], reads the row, and comes in only if the count is still the same.
pub struct KeyCache {
    shards: Box<[RwLock<Shard>]>,
}

/// What was applied to a shard when a key was not found in it.
#[derive(Clone, Copy)]
pub struct Ticket(u64);

pub enum Found {
    Hit(Verdict),
    Miss(Ticket),
}

struct Shard {
    /// Changes that were applied.
    changes: u64,
    /// Places in `slots`, by the tag of the key.
    index: HashTable<u32>,
    slots: Vec<Slot>,
    /// A byte for each slot, beside them: in them it would take eight.
    marks: Vec<Mark>,
    capacity: usize,
    hand: usize,
}

struct Slot {
    hash: KeyHash,
    principal: Option<Principal>,
}

/// Whether the slot was used since the hand went by, and why the key does not pass, if it does not.
struct Mark(AtomicU8);

const USED: u8 = 0b1000_0000;

impl KeyCache {
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.min(MAX_ENTRIES);
        let number = capacity.div_ceil(SHARD_ENTRIES).max(MIN_SHARDS.min(capacity).max(1));
        let shards = (0..number).map(|shard| {
            let capacity = capacity / number + usize::from(shard < capacity % number);
            RwLock::new(Shard::new(capacity))
        });
        Self { shards: shards.collect() }
    }

    pub fn look_up(&self, hash: &KeyHash) -> Found {
        let shard = self.shard(hash.tag()).read().unwrap_or_else(PoisonError::into_inner);
        match shard.find(hash) {
            Some(place) => Found::Hit(shard.verdict(place)),
            None => Found::Miss(Ticket(shard.changes)),
        }
    }

    /// The ticket of a key whose entry, if there is one, is to be replaced.
    pub fn ticket(&self, hash: &KeyHash) -> Ticket {
        Ticket(self.shard(hash.tag()).read().unwrap_or_else(PoisonError::into_inner).changes)
    }

    /// Keeps what was read after the ticket was taken, unless a change was applied since.
    pub fn insert(&self, hash: &KeyHash, ticket: Ticket, verdict: &Verdict) {
        let mut shard = self.shard(hash.tag()).write().unwrap_or_else(PoisonError::into_inner);
        if shard.changes == ticket.0 {
            shard.insert(*hash, verdict);
        }
    }

    /// Applies a change of the keys with this tag: what is here of them goes, and what is being
    /// read of them does not come in.
    pub fn invalidate(&self, tag: KeyTag) {
        let mut shard = self.shard(tag).write().unwrap_or_else(PoisonError::into_inner);
        shard.changes += 1;
        while let Some(place) = shard.find_tag(tag) {
            shard.remove(place);
        }
    }

    /// The same for all keys.
    pub fn clear(&self) {
        for shard in &self.shards {
            let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
            shard.changes += 1;
            shard.clear();
        }
    }

    pub fn len(&self) -> usize {
        let read = |shard: &RwLock<Shard>| {
            shard.read().unwrap_or_else(PoisonError::into_inner).slots.len()
        };
        self.shards.iter().map(read).sum()
    }

    fn shard(&self, tag: KeyTag) -> &RwLock<Shard> {
        // The high bits choose the shard; the table in it goes by the others.
        let place = (u128::from(tag.bits()) * self.shards.len() as u128) >> 64;
        &self.shards[usize::try_from(place).expect("less than the number of shards")]
    }
}

impl Shard {
    fn new(capacity: usize) -> Self {
        // Taken at once, so that nothing is copied when it grows; the system gives the memory when
        // it is first written to.
        Self {
            changes: 0,
            index: HashTable::with_capacity(capacity),
            slots: Vec::with_capacity(capacity),
            marks: Vec::with_capacity(capacity),
            capacity,
            hand: 0,
        }
    }

    fn find(&self, hash: &KeyHash) -> Option<usize> {
        let same = |place: &u32| self.slots[*place as usize].hash == *hash;
        self.index.find(table_hash(hash.tag()), same).map(|place| *place as usize)
    }

    fn find_tag(&self, tag: KeyTag) -> Option<usize> {
        let same = |place: &u32| self.slots[*place as usize].hash.tag() == tag;
        self.index.find(table_hash(tag), same).map(|place| *place as usize)
    }

    fn verdict(&self, place: usize) -> Verdict {
        let mark = &self.marks[place];
        mark.use_it();
        let principal = self.slots[place].principal.clone();
        match mark.denial() {
            None => Ok(principal.expect("who passes is known")),
            Some(reason) => Err(Denied { reason, principal }),
        }
    }

    fn insert(&mut self, hash: KeyHash, verdict: &Verdict) {
        let (denial, principal) = match verdict {
            Ok(principal) => (None, Some(principal.clone())),
            Err(denied) => (Some(denied.reason), denied.principal.clone()),
        };
        // Unknown keys and outages are not kept.
        let Some(mark) = Mark::new(denial) else { return };
        if let Some(place) = self.find(&hash) {
            self.slots[place].principal = principal;
            self.marks[place] = mark;
            return;
        }
        if self.capacity == 0 {
            return;
        }
        if self.slots.len() == self.capacity {
            self.evict();
        }
        let place = u32::try_from(self.slots.len()).expect("a shard is far smaller");
        self.slots.push(Slot { hash, principal });
        self.marks.push(mark);
        let slots = &self.slots;
        let tag = |place: &u32| table_hash(slots[*place as usize].hash.tag());
        self.index.insert_unique(table_hash(hash.tag()), place, tag);
    }

    fn evict(&mut self) {
        // Twice around is enough: the second time no mark is left.
        loop {
            if self.hand >= self.slots.len() {
                self.hand = 0;
            }
            if !self.marks[self.hand].take_use() {
                self.remove(self.hand);
                return;
            }
            self.hand += 1;
        }
    }

    /// The last slot moves to where one was taken out.
    fn remove(&mut self, place: usize) {
        self.unlink(place);
        self.slots.swap_remove(place);
        self.marks.swap_remove(place);
        let moved = self.slots.len();
        if place < moved {
            let tag = table_hash(self.slots[place].hash.tag());
            let entry = self.index.find_mut(tag, |found| *found as usize == moved);
            let entry = entry.expect("every slot is in the index");
            *entry = u32::try_from(place).expect("a shard is far smaller");
        }
    }

    fn unlink(&mut self, place: usize) {
        let tag = table_hash(self.slots[place].hash.tag());
        if let Ok(entry) = self.index.find_entry(tag, |found| *found as usize == place) {
            entry.remove();
        }
    }

    fn clear(&mut self) {
        self.index.clear();
        self.slots.clear();
        self.marks.clear();
        self.hand = 0;
    }
}

/// The tag is a part of a SHA-256, so that all of its bits are as good as random; the table takes
/// the highest seven, which the choice of the shard has used.
fn table_hash(tag: KeyTag) -> u64 {
    tag.bits().rotate_left(32)
}

impl Mark {
    /// `None` for what is not kept.
    fn new(denial: Option<Denial>) -> Option<Self> {
        let code = match denial {
            None => 0,
            Some(Denial::Revoked) => 1,
            Some(Denial::Expired) => 2,
            Some(Denial::Disabled) => 3,
            Some(Denial::AccountSuspended) => 4,
            Some(Denial::Malformed | Denial::NotFound | Denial::Unavailable) => return None,
        };
        Some(Self(AtomicU8::new(code)))
    }

    fn denial(&self) -> Option<Denial> {
        match self.0.load(Ordering::Relaxed) & !USED {
            0 => None,
            1 => Some(Denial::Revoked),
            2 => Some(Denial::Expired),
            3 => Some(Denial::Disabled),
            _ => Some(Denial::AccountSuspended),
        }
    }

    fn use_it(&self) {
        // Written only when it changes, so that threads that read one key share its line.
        if self.0.load(Ordering::Relaxed) & USED == 0 {
            self.0.fetch_or(USED, Ordering::Relaxed);
        }
    }

    /// Whether it was used; from here on it is not.
    fn take_use(&self) -> bool {
        self.0.fetch_and(!USED, Ordering::Relaxed) & USED != 0
    }
}
