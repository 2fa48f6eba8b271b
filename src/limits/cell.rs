use std::time::Duration;

use crate::auth::{
    lease::micros,
    sync::{AtomicI64, AtomicU64, Ordering},
};

/// The calls of a share that are not spent yet, with the conditions for spending them. Calls are
/// taken without a lock.
///
/// A share belongs to one *slot*: a window of a rate limit and a generation of its settings. A new
/// slot begins without calls. Only then do its other values change, so a call that was taken from a
/// slot is bound to the values of this slot. [`may_spend`](Self::may_spend) detects that the slot
/// has ended in the meantime.
///
/// Times are since boot, in microseconds.
// Every call reads most of these values, so they have a cache line of their own.
#[repr(align(64))]
pub struct ShareCell {
    /// The number of the slot in the upper half, and the unspent calls in the lower half.
    word: AtomicU64,
    generation: AtomicI64,
    /// The end of the window. It is never too late.
    ends: AtomicU64,
    /// The latest time at which the window ends.
    resets: AtomicU64,
    /// The calls that the database had left after the newest answer.
    left: AtomicU64,
    /// Until this time, the database has at most `left` calls left.
    known_until: AtomicU64,
    /// When this many calls or fewer are unspent, the node requests the next share. With 0, it
    /// waits for a request that needs one.
    low: AtomicU64,
}

/// The number of a slot. A call can be spent only in the slot that it was taken from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slot(u32);

/// The result of an attempt to take calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Take {
    /// The calls were taken from this slot.
    Taken { slot: Slot, is_low: bool },
    /// There are not enough unspent calls, or they belong to another generation.
    TooFew,
}

impl Slot {
    /// Returns the slot with this number, which [`number`](Self::number) returned.
    pub fn from_number(number: u64) -> Self {
        Self(u32::try_from(number).unwrap_or(u32::MAX))
    }

    /// Returns the number, which fits into 32 bits.
    pub fn number(self) -> u64 {
        u64::from(self.0)
    }
}

const CALLS: u64 = 0xFFFF_FFFF;

fn slot(word: u64) -> Slot {
    Slot((word >> 32) as u32)
}

fn calls(word: u64) -> u32 {
    (word & CALLS) as u32
}

/// Creates a share without calls.
impl Default for ShareCell {
    fn default() -> Self {
        Self {
            word: AtomicU64::new(0),
            generation: AtomicI64::new(-1),
            ends: AtomicU64::new(0),
            resets: AtomicU64::new(0),
            left: AtomicU64::new(0),
            known_until: AtomicU64::new(0),
            low: AtomicU64::new(0),
        }
    }
}

impl ShareCell {
    /// Takes calls for a request whose verdict has this generation of the settings.
    pub fn take(&self, generation: i64, cost: u32) -> Take {
        let mut word = self.word.load(Ordering::Acquire);
        loop {
            // If the slot ends after the load above, the exchange below fails.
            if calls(word) < cost || self.generation.load(Ordering::Acquire) != generation {
                return Take::TooFew;
            }
            let less = word - u64::from(cost);
            match self.word.compare_exchange(word, less, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    let low = self.low.load(Ordering::Relaxed);
                    let is_low = low > 0 && less & CALLS <= low;
                    return Take::Taken { slot: slot(word), is_low };
                }
                Err(current) => word = current,
            }
        }
    }

    /// Whether this many calls are unspent. They may belong to another generation.
    pub fn has(&self, cost: u32) -> bool {
        self.unspent() >= cost
    }

    /// Whether calls that were taken from this slot may be spent at `now`, a time after they were
    /// taken.
    pub fn may_spend(&self, taken: Slot, now: Duration) -> bool {
        let ends = self.ends.load(Ordering::Acquire);
        // The end belongs to the slot if the slot has not ended before it was read.
        micros(now) < ends && slot(self.word.load(Ordering::Acquire)) == taken
    }

    /// Puts calls back that were taken and not spent. Returns `false` if their slot has ended.
    pub fn put_back(&self, taken: Slot, cost: u32) -> bool {
        let mut word = self.word.load(Ordering::Acquire);
        while slot(word) == taken {
            let more = word + u64::from(cost);
            match self.word.compare_exchange(word, more, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return true,
                Err(current) => word = current,
            }
        }
        false
    }

    /// Whether a request of this generation would be refused at `now`, because too few calls are
    /// left in the window, on this node and in the database.
    pub fn is_exhausted(&self, generation: i64, cost: u32, now: Duration) -> bool {
        let word = self.word.load(Ordering::Acquire);
        let left = self.left.load(Ordering::Acquire) + u64::from(calls(word));
        let now = micros(now);
        let known = now < self.known_until.load(Ordering::Acquire)
            && now < self.ends.load(Ordering::Acquire);
        left < u64::from(cost)
            && known
            && self.generation.load(Ordering::Acquire) == generation
            && slot(self.word.load(Ordering::Acquire)) == slot(word)
    }

    /// Returns the number of unspent calls.
    pub fn unspent(&self) -> u32 {
        calls(self.word.load(Ordering::Acquire))
    }

    /// Returns the number of calls that are left, on this node and in the database. `None` if no
    /// window of this generation runs at `now`.
    pub fn remaining(&self, generation: i64, now: Duration) -> Option<u32> {
        let left = self.left.load(Ordering::Acquire) + u64::from(self.unspent());
        let runs = micros(now) < self.ends.load(Ordering::Acquire)
            && self.generation.load(Ordering::Acquire) == generation;
        runs.then(|| u32::try_from(left).unwrap_or(u32::MAX))
    }

    /// Returns the generation of the slot.
    pub fn generation(&self) -> i64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Whether the window of the slot may be over at `now`.
    pub fn is_over(&self, now: Duration) -> bool {
        micros(now) >= self.ends.load(Ordering::Acquire)
    }

    /// Returns the number of seconds until the window has ended, rounded up.
    pub fn resets_in(&self, now: Duration) -> u32 {
        let micros = self.resets.load(Ordering::Acquire).saturating_sub(micros(now));
        u32::try_from(micros.div_ceil(1_000_000)).unwrap_or(u32::MAX)
    }

    /// Ends the slot, and begins a new one without calls. Returns the old slot and its unspent
    /// calls. Only the holder of the share's lock may call this and the following methods.
    pub fn end_slot(&self) -> (Slot, u32) {
        let mut word = self.word.load(Ordering::Acquire);
        loop {
            let next = u64::from(slot(word).0.wrapping_add(1)) << 32;
            match self.word.compare_exchange(word, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return (slot(word), calls(word)),
                Err(current) => word = current,
            }
        }
    }

    /// Takes all unspent calls. The slot goes on.
    pub fn take_all(&self) -> u32 {
        let mut word = self.word.load(Ordering::Acquire);
        loop {
            let none = word & !CALLS;
            match self.word.compare_exchange(word, none, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return calls(word),
                Err(current) => word = current,
            }
        }
    }

    /// Sets the generation and the end of a slot that has no calls yet.
    pub fn begin(&self, generation: i64, ends: u64) {
        self.known_until.store(0, Ordering::Release);
        self.generation.store(generation, Ordering::Release);
        self.ends.store(ends, Ordering::Release);
    }

    /// Adds calls to the slot. `ends` is another estimate of the end, and `left` is the number of
    /// calls that the database has left. The estimates are never too late, so the latest one is the
    /// best. With `in_advance`, the node requests the next share before this one is spent.
    pub fn add(&self, more: u32, ends: u64, left: u32, in_advance: bool) {
        self.ends.fetch_max(ends, Ordering::AcqRel);
        let before = self.word.fetch_add(u64::from(more), Ordering::AcqRel);
        let unspent = (before & CALLS) + u64::from(more);
        // The calls come first, because a reader that adds up both must not find too few.
        self.left.store(u64::from(left), Ordering::Release);
        // A share of one call is requested only by a request that needs it.
        let low = if in_advance && left > 0 && unspent > 1 { unspent / 2 } else { 0 };
        self.low.store(low, Ordering::Relaxed);
    }

    /// Prevents further requests for the next share until [`add`](Self::add) is called.
    pub fn stop_requesting(&self) {
        self.low.store(0, Ordering::Relaxed);
    }

    /// Sets the latest time at which the window ends.
    pub fn set_resets(&self, resets: u64) {
        self.resets.store(resets, Ordering::Release);
    }

    /// Records that no more calls than the database had left can become available before this
    /// time.
    pub fn set_known_until(&self, until: u64) {
        self.known_until.store(until, Ordering::Release);
    }

    /// Returns the number of calls that the database had left after the newest answer.
    pub fn left(&self) -> u32 {
        u32::try_from(self.left.load(Ordering::Acquire)).unwrap_or(u32::MAX)
    }

    /// Returns the end of the window.
    pub fn ends(&self) -> u64 {
        self.ends.load(Ordering::Acquire)
    }
}
