use std::sync::{PoisonError, atomic::AtomicU8};

use super::{
    Denied, Principal, Verdict,
    group_changes::GroupChanges,
    sync::{AtomicU64, Ordering, RwLock},
};
use crate::domain::{
    api_key::{KeyHash, KeyTag},
    key_group::KeyGroup,
    verification::Denial,
};

/// Minimum number of shards. With this many, threads seldom wait for each other.
const MIN_SHARDS: usize = 16;

/// Maximum number of entries in a shard. A shard that grows is locked while its entries move. With
/// this many entries, that takes a fraction of a millisecond.
const SHARD_ENTRIES: usize = 16_000;

/// Maximum capacity of a cache.
pub const MAX_ENTRIES: usize = 100_000_000;

/// Verdicts by the hash of the key. The size is bounded, and rarely used entries are evicted first.
///
/// The cache contains only keys that exist, so requests with invented keys evict nothing. Eviction
/// follows the CLOCK algorithm. A lookup marks an entry as used, and a new entry has no mark. When
/// room is needed, the clock hand clears the marks that it passes, and evicts the first entry
/// without a mark. So a scan of many keys that are used once does not evict keys that are used
/// repeatedly.
///
/// Memory latency dominates the time of a lookup. So, in addition to the lock, a lookup touches
/// only the slots of the key and the data that the principal points to. There is no index, list or
/// second table.
///
/// A row that was read before its key changed must not be inserted after the change was applied. So
/// each shard counts the changes that were applied to it. A miss returns the count as a [`Ticket`].
/// The row is inserted only if the count has not changed since. See [`GroupChanges`] for changes to
/// all keys of a tenant.
pub struct KeyCache {
    shards: Box<[RwLock<Shard>]>,
    groups: GroupChanges,
    /// Number of changes that the groups and all shards have applied.
    changes: AtomicU64,
}

/// The numbers of changes that had been applied when a lookup missed.
#[derive(Clone, Copy)]
pub struct Ticket {
    /// Number of changes of the shard.
    shard: u64,
    /// Number of changes of all groups.
    groups: u64,
}

/// The result of a lookup in the cache.
pub enum Found {
    /// The cached verdict of the key.
    Hit(Verdict),
    /// The key is not cached. With this ticket, the caller can insert a verdict that it reads from
    /// now on.
    Miss(Ticket),
}

/// A hash table with Robin Hood hashing. A key is in its home slot, or as close behind it as the
/// keys with earlier home slots allow. So keys with the same home slot are adjacent. A search ends
/// at the first key that is closer to its home slot than the searched key would be. A removal
/// leaves no tombstone. Celis, "Robin Hood hashing", 1986.
struct Shard {
    /// Number of changes that the shard has applied.
    changes: u64,
    /// Number of hits. Each shard has its own count, next to its lock, so that threads that read
    /// different shards do not contend for one cache line.
    hits: AtomicU64,
    /// The number of slots grows with the number of entries, up to 8/7 of the capacity.
    slots: Box<[Slot]>,
    entries: usize,
    capacity: usize,
    hand: usize,
}

/// A slot takes 48 bytes, so four slots fit into three cache lines of the processor.
#[derive(Default)]
struct Slot {
    /// The hash without its last byte. The mark takes the place of that byte.
    hash: [u8; 31],
    mark: Mark,
    principal: Option<Principal>,
    /// Number of changes of all groups before the row of the key was read.
    group_changes: u64,
}

/// The state of a slot: whether it contains a key, whether the key was used since the hand last
/// passed, and the reason if the key is refused.
#[derive(Default)]
struct Mark(AtomicU8);

const EMPTY: u8 = 0;
const USED: u8 = 0b1000_0000;

/// A shard that contains an entry has more than this many slots, unless its capacity is smaller.
const MIN_SLOTS: usize = 8;

impl KeyCache {
    /// Creates an empty cache for at most `capacity` keys.
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.min(MAX_ENTRIES);
        let number = capacity.div_ceil(SHARD_ENTRIES).max(MIN_SHARDS.min(capacity).max(1));
        let shards = (0..number).map(|shard| {
            let capacity = capacity / number + usize::from(shard < capacity % number);
            RwLock::new(Shard::new(capacity))
        });
        let (groups, changes) = (GroupChanges::new(), AtomicU64::new(0));
        Self { shards: shards.collect(), groups, changes }
    }

    /// Finds the verdict of a key.
    pub fn look_up(&self, hash: &KeyHash) -> Found {
        let shard = self.shard(hash.tag()).read().unwrap_or_else(PoisonError::into_inner);
        let slot = shard.find(hash).map(|place| &shard.slots[place]);
        match slot.filter(|slot| slot.is_current(&self.groups)) {
            Some(slot) => {
                shard.hits.fetch_add(1, Ordering::Relaxed);
                Found::Hit(slot.verdict())
            }
            None => Found::Miss(self.ticket_of(&shard)),
        }
    }

    /// Returns a ticket with which the caller can insert or replace the verdict of a key, whether
    /// or not the key is cached.
    pub fn ticket(&self, hash: &KeyHash) -> Ticket {
        self.ticket_of(&self.shard(hash.tag()).read().unwrap_or_else(PoisonError::into_inner))
    }

    fn ticket_of(&self, shard: &Shard) -> Ticket {
        Ticket { shard: shard.changes, groups: self.groups.number() }
    }

    /// Inserts a verdict that was read after the ticket was taken, unless the shard has applied a
    /// change since.
    pub fn insert(&self, hash: &KeyHash, ticket: Ticket, verdict: &Verdict) {
        // Verdicts about unknown keys and outages are not cached, so they need no lock.
        let Some(slot) = Slot::new(hash, verdict, ticket.groups) else { return };
        let mut shard = self.shard(hash.tag()).write().unwrap_or_else(PoisonError::into_inner);
        if shard.changes == ticket.shard {
            shard.insert(hash, slot);
        }
    }

    /// Applies a change to the keys with this tag. It removes their entries, and prevents the
    /// insertion of rows whose lookups are in flight.
    pub fn invalidate(&self, tag: KeyTag) {
        let mut shard = self.shard(tag).write().unwrap_or_else(PoisonError::into_inner);
        shard.changes += 1;
        while let Some(place) = shard.search(tag, |slot| slot.tag() == tag) {
            shard.remove(place);
        }
        drop(shard);
        self.changes.fetch_add(1, Ordering::AcqRel);
    }

    /// Applies a change to all keys of a group. After it returns, no lookup finds a verdict that was
    /// read before the change.
    pub fn invalidate_group(&self, group: KeyGroup) {
        self.groups.apply(group);
        self.changes.fetch_add(1, Ordering::AcqRel);
    }

    /// Returns the number of changes that were applied. If the number is the same before a lookup
    /// and later, every change to the key that was applied by then was visible to the lookup.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Applies a change to all keys.
    pub fn clear(&self) {
        for shard in &self.shards {
            let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
            shard.changes += 1;
            shard.clear();
        }
        self.changes.fetch_add(1, Ordering::AcqRel);
    }

    /// Returns the number of cached keys, and the number of hits.
    pub fn counts(&self) -> (usize, u64) {
        self.shards.iter().fold((0, 0), |(keys, hits), shard| {
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            (keys + shard.entries, hits + shard.hits.load(Ordering::Relaxed))
        })
    }

    fn shard(&self, tag: KeyTag) -> &RwLock<Shard> {
        // A tag is a part of a SHA-256 hash, so its bits are evenly distributed. The high bits
        // choose the shard, and the low bits choose the home slot in it.
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

    /// Finds the slot of the key with this tag for which `is_it` returns true.
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

    /// Inserts a new key into its slot. The shard must have room for the key.
    fn place(&mut self, mut slot: Slot) {
        let mut place = self.home(slot.tag());
        let mut distance = 0;
        while !self.slots[place].is_empty() {
            let other = self.distance(&self.slots[place], place);
            if other < distance {
                // The other key is closer to its home slot, so it makes room.
                std::mem::swap(&mut self.slots[place], &mut slot);
                distance = other;
            }
            place = self.after(place);
            distance += 1;
        }
        self.slots[place] = slot;
    }

    fn grow(&mut self) {
        // The sizes are the maximum, its half, its quarter and so on, so each step approximately
        // doubles the size. If the size doubled from the minimum, the last step could be small. It
        // would move all entries, but add few slots.
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
        // The loop ends in the second round at the latest, because the first one clears all marks.
        loop {
            if self.hand >= self.slots.len() {
                self.hand = 0;
            }
            let slot = &self.slots[self.hand];
            if !slot.is_empty() && !slot.mark.take_use() {
                // The hand does not move, because the next key may move to this slot.
                self.remove(self.hand);
                return;
            }
            self.hand += 1;
        }
    }

    /// Empties a slot. Moves the keys behind it one slot back, up to the next empty slot or the
    /// next key in its home slot.
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

    /// Returns the distance of a key from its home slot.
    fn distance(&self, slot: &Slot, place: usize) -> usize {
        let home = self.home(slot.tag());
        if place >= home { place - home } else { place + self.slots.len() - home }
    }

    fn after(&self, place: usize) -> usize {
        if place + 1 == self.slots.len() { 0 } else { place + 1 }
    }
}

/// Maps the bits to one of `number` parts. The high bits decide.
fn scale(bits: u64, number: usize) -> usize {
    let part = (u128::from(bits) * number as u128) >> 64;
    usize::try_from(part).expect("less than the number of parts")
}

impl Slot {
    /// Returns `None` if verdicts of this kind are not cached.
    fn new(hash: &KeyHash, verdict: &Verdict, group_changes: u64) -> Option<Self> {
        let (denial, principal) = match verdict {
            Ok(principal) => (None, Some(principal.clone())),
            Err(denied) => (Some(denied.reason), denied.principal.clone()),
        };
        let mark = Mark::new(denial)?;
        let (hash, _) =
            hash.as_bytes().split_first_chunk().expect("32 bytes have a prefix of 31 bytes");
        Some(Self { hash: *hash, mark, principal, group_changes })
    }

    /// Whether the group of the key has not changed since the row was read.
    fn is_current(&self, groups: &GroupChanges) -> bool {
        let group = self.principal.as_ref().map(|principal| principal.group);
        group.is_none_or(|group| groups.is_current(group, self.group_changes))
    }

    fn is_empty(&self) -> bool {
        self.mark.0.load(Ordering::Relaxed) == EMPTY
    }

    fn tag(&self) -> KeyTag {
        let (first, _) = self.hash.split_first_chunk().expect("31 bytes have a prefix of 8 bytes");
        KeyTag::from_bits(u64::from_be_bytes(*first))
    }

    fn verdict(&self) -> Verdict {
        self.mark.use_it();
        let principal = self.principal.clone();
        match self.mark.denial() {
            None => Ok(principal.expect("an accepted key has a principal")),
            Some(reason) => Err(Denied { principal, ..Denied::new(reason) }),
        }
    }
}

impl Mark {
    /// Returns `None` if verdicts of this kind are not cached.
    fn new(denial: Option<Denial>) -> Option<Self> {
        let code = match denial {
            None => 1,
            Some(Denial::Revoked) => 2,
            Some(Denial::Expired) => 3,
            Some(Denial::Disabled) => 4,
            Some(Denial::AccountSuspended) => 5,
            Some(Denial::TenantSuspended) => 6,
            Some(
                Denial::Malformed
                | Denial::NotFound
                | Denial::IpNotAllowed
                | Denial::RateLimited
                | Denial::Unavailable,
            ) => return None,
        };
        Some(Self(AtomicU8::new(code)))
    }

    fn denial(&self) -> Option<Denial> {
        match self.0.load(Ordering::Relaxed) & !USED {
            1 => None,
            2 => Some(Denial::Revoked),
            3 => Some(Denial::Expired),
            4 => Some(Denial::Disabled),
            5 => Some(Denial::AccountSuspended),
            _ => Some(Denial::TenantSuspended),
        }
    }

    fn use_it(&self) {
        // The mark is written only if it changes, so that threads that read one key can share its
        // cache line.
        if self.0.load(Ordering::Relaxed) & USED == 0 {
            self.0.fetch_or(USED, Ordering::Relaxed);
        }
    }

    /// Clears the mark. Returns whether it was set.
    fn take_use(&self) -> bool {
        self.0.fetch_and(!USED, Ordering::Relaxed) & USED != 0
    }
}
