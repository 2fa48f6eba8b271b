use std::sync::{
    PoisonError,
    atomic::{AtomicU8, AtomicU64, Ordering},
};

use super::{Denied, Principal, Verdict, sync::RwLock};
use crate::domain::{
    api_key::{KeyHash, KeyTag},
    verification::Denial,
};

/// The least shards that a cache is cut into, so that threads seldom wait for each other.
const MIN_SHARDS: usize = 16;

/// Entries of a shard at the most: so many are moved within a fraction of a millisecond when it
/// grows, while nobody else can look into it.
const SHARD_ENTRIES: usize = 16_000;

/// The most entries that a cache may be made for.
pub const MAX_ENTRIES: usize = 100_000_000;

/// Verdicts by the hash of the key, bounded, the seldom used ones evicted first.
///
/// Only keys that exist are kept: texts that are made up push nothing out. A key comes in as one
/// that was not used; when room is needed, the hand of a clock goes around, takes the mark of use
/// from those that have it, and evicts the first one that has none. So a scan of many keys that are
/// asked for once goes by those that are asked for again.
///
/// What a look-up takes is the waiting for memory: beside the lock, it touches the slots of the key
/// and what the principal points to, and no index, no list and no second table.
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

/// What a look-up in the cache finds.
pub enum Found {
    /// The cached verdict of the key.
    Hit(Verdict),
    /// The key is not cached. With this ticket a verdict that is read now can be inserted.
    Miss(Ticket),
}

/// Keys by Robin Hood hashing: a key lies at its home, or as near behind it as those of earlier
/// homes leave room. So keys of one home lie side by side, a search ends at the first key that is
/// nearer to its own home than the one that is searched for would be, and what is taken out leaves
/// no trace. Celis, "Robin Hood hashing", 1986.
struct Shard {
    /// Changes that were applied.
    changes: u64,
    /// Keys that were found. Here, where the lock is: one count for all would make threads wait for
    /// each other that look at different shards.
    hits: AtomicU64,
    /// Grows with the entries, up to a seventh more than there may be.
    slots: Box<[Slot]>,
    entries: usize,
    capacity: usize,
    hand: usize,
}

/// 40 bytes: three fit into two lines of the processor's cache with room to spare.
#[derive(Default)]
struct Slot {
    /// The hash without its last byte, whose place the mark takes.
    hash: [u8; 31],
    mark: Mark,
    principal: Option<Principal>,
}

/// Whether there is a key in the slot, whether it was used since the hand went by, and why it does
/// not pass, if it does not.
#[derive(Default)]
struct Mark(AtomicU8);

const EMPTY: u8 = 0;
const USED: u8 = 0b1000_0000;

/// Slots of a shard that has an entry, to begin with.
const MIN_SLOTS: usize = 8;

impl KeyCache {
    /// An empty cache for at most `capacity` keys.
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.min(MAX_ENTRIES);
        let number = capacity.div_ceil(SHARD_ENTRIES).max(MIN_SHARDS.min(capacity).max(1));
        let shards = (0..number).map(|shard| {
            let capacity = capacity / number + usize::from(shard < capacity % number);
            RwLock::new(Shard::new(capacity))
        });
        Self { shards: shards.collect() }
    }

    /// Finds the verdict of a key.
    pub fn look_up(&self, hash: &KeyHash) -> Found {
        let shard = self.shard(hash.tag()).read().unwrap_or_else(PoisonError::into_inner);
        match shard.find(hash) {
            Some(place) => {
                shard.hits.fetch_add(1, Ordering::Relaxed);
                Found::Hit(shard.slots[place].verdict())
            }
            None => Found::Miss(Ticket(shard.changes)),
        }
    }

    /// The ticket of a key whose entry, if there is one, is to be replaced.
    pub fn ticket(&self, hash: &KeyHash) -> Ticket {
        Ticket(self.shard(hash.tag()).read().unwrap_or_else(PoisonError::into_inner).changes)
    }

    /// Keeps what was read after the ticket was taken, unless a change was applied since.
    pub fn insert(&self, hash: &KeyHash, ticket: Ticket, verdict: &Verdict) {
        // Unknown keys and outages are not kept: for them nobody has to wait.
        let Some(slot) = Slot::new(hash, verdict) else { return };
        let mut shard = self.shard(hash.tag()).write().unwrap_or_else(PoisonError::into_inner);
        if shard.changes == ticket.0 {
            shard.insert(hash, slot);
        }
    }

    /// Applies a change of the keys with this tag: what is here of them goes, and what is being
    /// read of them does not come in.
    pub fn invalidate(&self, tag: KeyTag) {
        let mut shard = self.shard(tag).write().unwrap_or_else(PoisonError::into_inner);
        shard.changes += 1;
        while let Some(place) = shard.search(tag, |slot| slot.tag() == tag) {
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

    /// The keys that are here, and how often one was found.
    pub fn counts(&self) -> (usize, u64) {
        self.shards.iter().fold((0, 0), |(keys, hits), shard| {
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            (keys + shard.entries, hits + shard.hits.load(Ordering::Relaxed))
        })
    }

    fn shard(&self, tag: KeyTag) -> &RwLock<Shard> {
        // A tag is a part of a SHA-256: all of its bits are as good as random. The high ones choose
        // the shard, the low ones the home in it.
        &self.shards[scale(tag.bits(), self.shards.len())]
    }
}

impl Shard {
    fn new(capacity: usize) -> Self {
        let (changes, hits) = (0, AtomicU64::new(0));
        Self { changes, hits, slots: Box::default(), entries: 0, capacity, hand: 0 }
    }

    fn find(&self, hash: &KeyHash) -> Option<usize> {
        self.search(hash.tag(), |slot| slot.hash[..] == hash.as_bytes()[..31])
    }

    /// Where the key with this tag is of which `is_it` is true.
    fn search(&self, tag: KeyTag, is_it: impl Fn(&Slot) -> bool) -> Option<usize> {
        if self.slots.is_empty() {
            return None;
        }
        let mut place = self.home(tag);
        for distance in 0..self.slots.len() {
            let slot = &self.slots[place];
            if slot.is_empty() {
                return None;
            }
            if is_it(slot) {
                return Some(place);
            }
            if self.distance(slot, place) < distance {
                return None;
            }
            place = self.after(place);
        }
        None
    }

    fn insert(&mut self, hash: &KeyHash, slot: Slot) {
        if let Some(place) = self.find(hash) {
            self.slots[place] = slot;
            return;
        }
        if self.capacity == 0 {
            return;
        }
        if self.entries == self.capacity {
            self.evict();
        } else if self.entries >= self.slots.len() / 8 * 7 && self.slots.len() < self.most_slots() {
            self.grow();
        }
        self.place(slot);
        self.entries += 1;
    }

    /// Puts a key that is not there yet, and for which there is room, where it belongs.
    fn place(&mut self, mut slot: Slot) {
        let mut place = self.home(slot.tag());
        let mut distance = 0;
        while !self.slots[place].is_empty() {
            let other = self.distance(&self.slots[place], place);
            if other < distance {
                // That one is nearer to its home than this one: it makes room.
                std::mem::swap(&mut self.slots[place], &mut slot);
                distance = other;
            }
            place = self.after(place);
            distance += 1;
        }
        self.slots[place] = slot;
    }

    fn grow(&mut self) {
        // Halves of the most there may be, the smallest that is more: so the last step is no small
        // one, which would leave nearly as much behind as it takes.
        let mut number = self.most_slots();
        while number.div_ceil(2) > self.slots.len().max(MIN_SLOTS) {
            number = number.div_ceil(2);
        }
        let grown = (0..number).map(|_| Slot::default()).collect();
        let old = std::mem::replace(&mut self.slots, grown);
        self.hand = 0;
        old.into_iter().filter(|slot| !slot.is_empty()).for_each(|slot| self.place(slot));
    }

    fn most_slots(&self) -> usize {
        self.capacity + self.capacity / 7 + 1
    }

    fn evict(&mut self) {
        // Twice around is enough: the second time no mark is left.
        loop {
            if self.hand >= self.slots.len() {
                self.hand = 0;
            }
            let slot = &self.slots[self.hand];
            if !slot.is_empty() && !slot.mark.take_use() {
                // The hand stays: the next one may move here.
                self.remove(self.hand);
                return;
            }
            self.hand += 1;
        }
    }

    /// Those behind that are not at their homes move one up.
    fn remove(&mut self, mut place: usize) {
        loop {
            let next = self.after(place);
            let slot = &self.slots[next];
            if slot.is_empty() || self.distance(slot, next) == 0 {
                break;
            }
            self.slots.swap(place, next);
            place = next;
        }
        self.slots[place] = Slot::default();
        self.entries -= 1;
    }

    fn clear(&mut self) {
        self.slots = Box::default();
        self.entries = 0;
        self.hand = 0;
    }

    fn home(&self, tag: KeyTag) -> usize {
        scale(tag.bits().rotate_left(32), self.slots.len())
    }

    /// How far a key lies behind its home.
    fn distance(&self, slot: &Slot, place: usize) -> usize {
        let home = self.home(slot.tag());
        if place >= home { place - home } else { place + self.slots.len() - home }
    }

    fn after(&self, place: usize) -> usize {
        if place + 1 == self.slots.len() { 0 } else { place + 1 }
    }
}

/// One of `number` parts, by the high bits.
fn scale(bits: u64, number: usize) -> usize {
    let part = (u128::from(bits) * number as u128) >> 64;
    usize::try_from(part).expect("less than the number of parts")
}

impl Slot {
    /// `None` for what is not kept.
    fn new(hash: &KeyHash, verdict: &Verdict) -> Option<Self> {
        let (denial, principal) = match verdict {
            Ok(principal) => (None, Some(principal.clone())),
            Err(denied) => (Some(denied.reason), denied.principal.clone()),
        };
        let mark = Mark::new(denial)?;
        let (hash, _) = hash.as_bytes().split_first_chunk().expect("32 bytes have 31 in front");
        Some(Self { hash: *hash, mark, principal })
    }

    fn is_empty(&self) -> bool {
        self.mark.0.load(Ordering::Relaxed) == EMPTY
    }

    fn tag(&self) -> KeyTag {
        let (first, _) = self.hash.split_first_chunk().expect("31 bytes have 8 in front");
        KeyTag::from_bits(u64::from_be_bytes(*first))
    }

    fn verdict(&self) -> Verdict {
        self.mark.use_it();
        let principal = self.principal.clone();
        match self.mark.denial() {
            None => Ok(principal.expect("who passes is known")),
            Some(reason) => Err(Denied { reason, principal }),
        }
    }
}

impl Mark {
    /// `None` for what is not kept.
    fn new(denial: Option<Denial>) -> Option<Self> {
        let code = match denial {
            None => 1,
            Some(Denial::Revoked) => 2,
            Some(Denial::Expired) => 3,
            Some(Denial::Disabled) => 4,
            Some(Denial::AccountSuspended) => 5,
            Some(Denial::Malformed | Denial::NotFound | Denial::Unavailable) => return None,
        };
        Some(Self(AtomicU8::new(code)))
    }

    fn denial(&self) -> Option<Denial> {
        match self.0.load(Ordering::Relaxed) & !USED {
            1 => None,
            2 => Some(Denial::Revoked),
            3 => Some(Denial::Expired),
            4 => Some(Denial::Disabled),
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
