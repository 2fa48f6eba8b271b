use std::{
    collections::{HashMap, hash_map},
    hash::{BuildHasherDefault, Hasher},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::clients::{Clients, TakenClients};
use crate::{
    auth::Principal,
    domain::{
        id::KeyId,
        key_clients::Client,
        usage::{OutcomeCounts, UsageOutcome},
    },
};

/// Maximum number of keys in the buffer. Counts of further keys are dropped, and the metric
/// `tollgate_usage_dropped_total` counts them.
const MAX_KEYS: usize = 200_000;

/// Number of shards. With this many, concurrent requests rarely wait for the same lock.
const SHARDS: usize = 16;

/// Maximum number of keys in a shard. Each shard has the same fixed maximum, so no shard has to
/// read the others.
const KEYS_IN_A_SHARD: usize = MAX_KEYS / SHARDS;

/// Maximum number of recorded refusals in a shard, with different clients or reasons. Together, the
/// shards record 32,000.
const REFUSALS_IN_A_SHARD: usize = 2000;

/// Minimum interval between two writes of a key's counts.
const WRITE_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// The usage counts and the clients that are not written yet, for at most 200,000 keys.
pub struct UsageBuffer {
    shards: [Mutex<Shard>; SHARDS],
    /// Returns this machine's time since boot, which never steps.
    pub(super) since_boot: fn() -> Duration,
    /// Number of dropped counts that are not in the metric yet.
    pub(super) dropped: AtomicU64,
}

type Keys = HashMap<KeyId, Entry, BuildHasherDefault<RandomBits>>;

#[derive(Default)]
struct Shard {
    keys: Keys,
    /// Number of recorded refusals of all keys, at most [`REFUSALS_IN_A_SHARD`].
    refusals: usize,
}

struct Entry {
    principal: Principal,
    waiting: Option<Usage>,
    clients: Clients,
    /// The time when the counts were last taken for writing.
    taken: Option<Duration>,
}

/// The use of a key over a period. Times are from this machine's clock since boot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Usage {
    pub counts: OutcomeCounts,
    /// The time of the first request.
    pub began: Duration,
    /// The time when the key was last accepted.
    pub passed: Option<Duration>,
}

/// The counts and the clients of a key that were taken for writing.
pub(super) struct TakenKey {
    pub principal: Principal,
    pub usage: Usage,
    pub clients: TakenClients,
}

impl UsageBuffer {
    /// Creates an empty buffer. `since_boot` returns this machine's time since boot, which must
    /// never step.
    #[must_use]
    pub fn new(since_boot: fn() -> Duration) -> Self {
        let shards = std::array::from_fn(|_| Mutex::default());
        Self { shards, since_boot, dropped: AtomicU64::new(0) }
    }

    /// Counts a request with this key, and records its client. The call waits only while another
    /// request of the same shard is counted, or while the counts of the shard are taken. It
    /// allocates memory only if the client differs from the key's last one.
    pub fn record(&self, principal: &Principal, outcome: UsageOutcome, client: &Client<'_>) {
        let now = (self.since_boot)();
        let usage = Usage::once(outcome, now);
        let mut shard = self.shard(principal.key_id);
        let Shard { keys, refusals } = &mut *shard;
        let Some(entry) = entry(keys, principal) else {
            self.drop_counts(&usage);
            return;
        };
        entry.add(&usage);
        if outcome == UsageOutcome::Valid {
            entry.clients.accepted(client, now);
        } else {
            let has_room = *refusals < REFUSALS_IN_A_SHARD;
            *refusals += entry.clients.refused(client, outcome, now, has_room);
        }
    }

    /// Takes the counts that are due. The counts of a key are due once a minute, and all counts are
    /// due if `all` is set. Drops keys that were not used in the minute since their last write.
    pub(super) fn take(&self, all: bool) -> Vec<TakenKey> {
        let now = (self.since_boot)();
        let mut taken = Vec::new();
        for shard in &self.shards {
            let mut shard = lock(shard);
            let Shard { keys, refusals } = &mut *shard;
            keys.retain(|_, entry| {
                let due = entry.taken.is_none_or(|at| now.saturating_sub(at) >= WRITE_AGAIN_AFTER);
                if !due && !all {
                    return true;
                }
                match entry.waiting.take() {
                    Some(usage) => {
                        entry.taken = Some(now);
                        let clients = entry.clients.take();
                        *refusals -= clients.refusals.len();
                        let principal = entry.principal.clone();
                        taken.push(TakenKey { principal, usage, clients });
                        true
                    }
                    None => !due,
                }
            });
        }
        taken
    }

    /// Puts back counts that could not be written. They are due immediately.
    pub(super) fn put_back(&self, taken: &[TakenKey]) {
        for TakenKey { principal, usage, clients } in taken {
            let mut shard = self.shard(principal.key_id);
            let Shard { keys, refusals } = &mut *shard;
            match entry(keys, principal) {
                Some(entry) => {
                    entry.add(usage);
                    *refusals += entry.clients.put_back(clients, REFUSALS_IN_A_SHARD - *refusals);
                    entry.taken = None;
                }
                None => self.drop_counts(usage),
            }
        }
    }

    fn drop_counts(&self, usage: &Usage) {
        let count = usage.counts.total().unsigned_abs();
        self.dropped.fetch_add(count, Ordering::Relaxed);
    }

    fn shard(&self, key_id: KeyId) -> MutexGuard<'_, Shard> {
        // The upper half of the bits chooses the shard, because the shard's map uses other bits to
        // choose a bucket.
        let bits = random_bits(key_id.uuid().as_bytes()) >> 32;
        lock(&self.shards[bits as usize % SHARDS])
    }
}

/// Finds the key's entry. Creates a missing entry if there is room.
fn entry<'a>(keys: &'a mut Keys, principal: &Principal) -> Option<&'a mut Entry> {
    let room = keys.len() < KEYS_IN_A_SHARD;
    match keys.entry(principal.key_id) {
        hash_map::Entry::Occupied(entry) => Some(entry.into_mut()),
        hash_map::Entry::Vacant(vacant) => room.then(|| {
            let principal = principal.clone();
            let clients = Clients::default();
            vacant.insert(Entry { principal, waiting: None, clients, taken: None })
        }),
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    // No operation leaves the map inconsistent, so a panic in another thread is harmless.
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Entry {
    fn add(&mut self, usage: &Usage) {
        match &mut self.waiting {
            Some(waiting) => waiting.merge(usage),
            None => self.waiting = Some(*usage),
        }
    }
}

impl Usage {
    fn once(outcome: UsageOutcome, now: Duration) -> Self {
        let mut counts = OutcomeCounts::default();
        counts.add(outcome, 1);
        let passed = (outcome == UsageOutcome::Valid).then_some(now);
        Self { counts, began: now, passed }
    }

    fn merge(&mut self, other: &Self) {
        self.counts.merge(&other.counts);
        self.began = self.began.min(other.began);
        self.passed = self.passed.max(other.passed);
    }
}

/// A hasher for the id of a key, a UUIDv7. The hash consists of its random bits, which clients
/// cannot choose.
#[derive(Default)]
struct RandomBits(u64);

impl Hasher for RandomBits {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = random_bits(bytes);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Returns the last eight bytes of a UUIDv7. All but two of their bits are random.
fn random_bits(uuid: &[u8]) -> u64 {
    uuid.last_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, collections::BTreeMap};

    use uuid::Uuid;

    use super::*;
    use crate::{
        auth::PrincipalParts,
        domain::{
            account::{AccountFormat, ExternalId},
            scope::ScopeSet,
            tenant::Environment,
        },
    };

    thread_local! {
        static NOW: Cell<Duration> = const { Cell::new(Duration::from_secs(1000)) };
    }

    const CLIENT: Client<'static> = Client { address: None, user_agent: b"bot", route: "/v1/me" };

    fn buffer() -> UsageBuffer {
        UsageBuffer::new(|| NOW.get())
    }

    fn advance_seconds(seconds: u64) {
        NOW.set(NOW.get() + Duration::from_secs(seconds));
    }

    fn key(number: u128) -> Principal {
        Principal::new(PrincipalParts::new(
            "tronagg".parse().expect("a slug"),
            Environment::Live,
            ExternalId::parse("user-1", AccountFormat::Any).expect("an id"),
            KeyId::from_uuid(Uuid::from_u128(number)),
            ScopeSet::parse(["read"]).expect("a scope"),
        ))
    }

    /// Takes the due counts. For the number of each key, returns how often the key was accepted,
    /// and how often it was refused because it was revoked.
    fn due(buffer: &UsageBuffer) -> BTreeMap<u128, (i64, i64)> {
        let counts = |TakenKey { principal, usage, .. }: TakenKey| {
            let (valid, revoked) = (UsageOutcome::Valid, UsageOutcome::Revoked);
            let counts = (usage.counts.get(valid), usage.counts.get(revoked));
            (principal.key_id.uuid().as_u128(), counts)
        };
        buffer.take(false).into_iter().map(counts).collect()
    }

    fn keys_in(buffer: &UsageBuffer) -> usize {
        buffer.shards.iter().map(|shard| lock(shard).keys.len()).sum()
    }

    #[test]
    fn first_use_is_due_immediately_and_later_uses_once_a_minute() {
        let buffer = buffer();
        for outcome in [UsageOutcome::Valid, UsageOutcome::Revoked, UsageOutcome::Valid] {
            buffer.record(&key(1), outcome, &CLIENT);
        }
        buffer.record(&key(2), UsageOutcome::Revoked, &CLIENT);
        assert_eq!(due(&buffer), BTreeMap::from([(1, (2, 1)), (2, (0, 1))]));
        buffer.record(&key(1), UsageOutcome::Valid, &CLIENT);
        advance_seconds(59);
        assert_eq!(due(&buffer), BTreeMap::new());
        buffer.record(&key(1), UsageOutcome::Valid, &CLIENT);
        advance_seconds(1);
        assert_eq!(due(&buffer), BTreeMap::from([(1, (2, 0))]));
    }

    #[test]
    fn unused_key_is_forgotten_after_a_minute() {
        let buffer = buffer();
        buffer.record(&key(1), UsageOutcome::Valid, &CLIENT);
        assert_eq!(due(&buffer).len(), 1);
        assert_eq!((buffer.take(true).len(), keys_in(&buffer)), (0, 1));
        advance_seconds(60);
        assert_eq!((due(&buffer).len(), keys_in(&buffer)), (0, 0));
    }

    #[test]
    fn final_take_returns_all_counts() {
        let buffer = buffer();
        buffer.record(&key(1), UsageOutcome::Valid, &CLIENT);
        assert_eq!(due(&buffer).len(), 1);
        buffer.record(&key(1), UsageOutcome::Valid, &CLIENT);
        assert_eq!(due(&buffer).len(), 0);
        assert_eq!(buffer.take(true).len(), 1);
    }

    #[test]
    fn last_use_is_recorded_for_accepted_and_not_for_refused_requests() {
        let buffer = buffer();
        let beginning = NOW.get();
        buffer.record(&key(1), UsageOutcome::Revoked, &CLIENT);
        advance_seconds(1);
        buffer.record(&key(1), UsageOutcome::Valid, &CLIENT);
        advance_seconds(1);
        buffer.record(&key(1), UsageOutcome::InsufficientScope, &CLIENT);
        buffer.record(&key(2), UsageOutcome::Disabled, &CLIENT);
        let mut taken = buffer.take(false);
        taken.sort_by_key(|taken| taken.principal.key_id);
        let moments: Vec<_> =
            taken.iter().map(|taken| (taken.usage.began, taken.usage.passed)).collect();
        let (second, third) =
            (beginning + Duration::from_secs(1), beginning + Duration::from_secs(2));
        assert_eq!(moments, [(beginning, Some(second)), (third, None)]);
    }

    #[test]
    fn unwritten_counts_are_due_again_together_with_newer_counts() {
        let buffer = buffer();
        let beginning = NOW.get();
        buffer.record(&key(1), UsageOutcome::Valid, &CLIENT);
        let taken = buffer.take(false);
        advance_seconds(5);
        buffer.record(&key(1), UsageOutcome::Revoked, &CLIENT);
        buffer.put_back(&taken);
        let due_again = buffer.take(false);
        let [TakenKey { usage, .. }] = &due_again[..] else {
            panic!("one key, but {} are due", due_again.len())
        };
        assert_eq!((usage.began, usage.passed), (beginning, Some(beginning)));
        let counted =
            [UsageOutcome::Valid, UsageOutcome::Revoked].map(|outcome| usage.counts.get(outcome));
        assert_eq!((counted, usage.counts.total()), ([1, 1], 2));
    }

    #[test]
    fn full_buffer_drops_new_keys_and_counts_the_drops() {
        let buffer = buffer();
        let dropped = || buffer.dropped.load(Ordering::Relaxed);
        // All keys are in one shard, so only its share of the capacity is available.
        let capacity = KEYS_IN_A_SHARD as u128;
        for number in 0..capacity {
            buffer.record(&key(number), UsageOutcome::Valid, &CLIENT);
        }
        assert_eq!((keys_in(&buffer), dropped()), (KEYS_IN_A_SHARD, 0));
        for number in [capacity, capacity + 1, capacity] {
            buffer.record(&key(number), UsageOutcome::Valid, &CLIENT);
        }
        assert_eq!((keys_in(&buffer), dropped()), (KEYS_IN_A_SHARD, 3));
        // Further uses of a key that is in the buffer are counted.
        buffer.record(&key(0), UsageOutcome::Valid, &CLIENT);
        assert_eq!(dropped(), 3);
        // The limit also applies to counts that are put back.
        let usage = Usage::once(UsageOutcome::Valid, NOW.get());
        let taken =
            |number| TakenKey { principal: key(number), usage, clients: TakenClients::default() };
        buffer.put_back(&[taken(0), taken(capacity)]);
        assert_eq!((keys_in(&buffer), dropped()), (KEYS_IN_A_SHARD, 4));
        assert_eq!(due(&buffer)[&0], (3, 0));
    }

    #[test]
    fn keys_are_spread_evenly_over_the_shards() {
        let buffer = buffer();
        for number in 0..1000_u128 {
            // These bits are spread as evenly as the bits of an id.
            let bits = number.wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
            buffer.record(&key(bits), UsageOutcome::Valid, &CLIENT);
        }
        let most = buffer.shards.iter().map(|shard| lock(shard).keys.len()).max();
        assert!(most < Some(1000 / 4), "{most:?}");
    }
}
