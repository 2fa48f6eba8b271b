//! Look-ups of keys by their hash. Concurrent look-ups share a statement.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    hash::{BuildHasherDefault, Hasher},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use sqlx::{PgPool, Postgres, pool::PoolConnection};
use time::OffsetDateTime;
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::{
    domain::api_key::KeyHash,
    store::{StoreError, error::is_lost_connection},
};

/// Number of connections for look-ups, beside those of the pool.
pub(super) const CONNECTIONS: u32 = 2;

/// Maximum number of keys in one statement.
const MAX_BATCH: usize = 128;

/// Maximum number of waiting keys. The next one is answered with 503.
const MAX_WAITING: usize = 65_536;

/// Settings of the connections for look-ups. The plan is made once for all batches, possibly while
/// the tables are empty, and has to use the indexes even then.
pub(super) const SESSION: &str = "SET plan_cache_mode = force_generic_plan; \
     SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_hashjoin = off; \
     SET enable_mergejoin = off; SET jit = off";

/// A key and its account as they are stored.
#[derive(Clone, Debug)]
pub(super) struct KeyAndAccount {
    pub key_hash: Vec<u8>,
    pub tenant_id: Uuid,
    pub key_id: Uuid,
    pub scopes: Vec<String>,
    pub enabled: bool,
    pub expires_at: Option<OffsetDateTime>,
    pub revoked_at: Option<OffsetDateTime>,
    pub external_id: String,
    pub status: String,
    /// The database's clock at the time of the read.
    pub now: OffsetDateTime,
}

/// The look-ups of a node. There is no timer: while every connection runs a statement, keys wait,
/// and the next statement takes all that have gathered.
pub(super) struct Lookups {
    pool: PgPool,
    /// Time limit of one batch, including the wait for its connection.
    timeout: Duration,
    queue: Mutex<Queue>,
    gathered: AtomicU64,
    statements: AtomicU64,
}

type Answer = Result<Option<Arc<KeyAndAccount>>, Arc<StoreError>>;
type Callers = Vec<oneshot::Sender<Answer>>;

/// A waiting key is in the queue once, with all its callers. A call that arrives while the key is
/// being read makes it wait again, because the row that is being read may be older than the call.
#[derive(Default)]
struct Queue {
    order: VecDeque<KeyHash>,
    callers: HashMap<KeyHash, Callers, ByTag>,
    in_flight: HashSet<KeyHash, ByTag>,
    workers: u32,
}

type ByTag = BuildHasherDefault<TagHasher>;

/// Uses the first bytes of a SHA-256 as its hash.
#[derive(Default)]
struct TagHasher(u64);

impl Hasher for TagHasher {
    fn write(&mut self, bytes: &[u8]) {
        if let Some((first, _)) = bytes.split_first_chunk() {
            self.0 = u64::from_ne_bytes(*first);
        }
    }

    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

impl Lookups {
    pub fn new(pool: PgPool, timeout: Duration) -> Self {
        let (gathered, statements) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { pool, timeout, queue: Mutex::default(), gathered, statements }
    }

    /// The key with this hash, if there is one, read after this call began.
    pub async fn find(
        self: &Arc<Self>,
        hash: KeyHash,
    ) -> Result<Option<Arc<KeyAndAccount>>, StoreError> {
        let (caller, answer) = oneshot::channel();
        self.enqueue(hash, caller)?;
        // The sender is dropped without an answer only when the runtime stops.
        let answer = answer.await.map_err(|_| StoreError::Unavailable("stopped".into()))?;
        answer.map_err(|error| match *error {
            StoreError::Unavailable(_) => StoreError::Unavailable(error.into()),
            StoreError::Refused(_) | StoreError::Internal(_) => StoreError::Internal(error.into()),
        })
    }

    /// Numbers of keys that were looked up, and of statements for them.
    pub fn counts(&self) -> (u64, u64) {
        (self.gathered.load(Ordering::Relaxed), self.statements.load(Ordering::Relaxed))
    }

    pub async fn close(&self) {
        self.pool.close().await;
    }

    fn enqueue(
        self: &Arc<Self>,
        hash: KeyHash,
        caller: oneshot::Sender<Answer>,
    ) -> Result<(), StoreError> {
        let mut guard = self.lock();
        let queue = &mut *guard;
        if queue.order.len() >= MAX_WAITING && !queue.callers.contains_key(&hash) {
            return Err(StoreError::Unavailable("too many keys wait to be looked up".into()));
        }
        let callers = queue.callers.entry(hash).or_insert_with(|| {
            queue.order.push_back(hash);
            Vec::with_capacity(1)
        });
        callers.push(caller);
        if queue.workers < CONNECTIONS {
            queue.workers += 1;
            // A runtime that is stopping drops the worker immediately, and the drop takes the lock.
            drop(guard);
            tokio::spawn(Worker { lookups: Arc::clone(self), counted: true }.run());
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // No operation leaves the queue inconsistent, so a panic elsewhere does no harm.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The keys that have waited longest and are not being read, with their callers.
    fn next_batch(&self) -> Vec<(KeyHash, Callers)> {
        let mut queue = self.lock();
        let queue = &mut *queue;
        let mut batch = Vec::new();
        for _ in 0..queue.order.len() {
            if batch.len() == MAX_BATCH {
                break;
            }
            let Some(hash) = queue.order.pop_front() else { break };
            if queue.in_flight.insert(hash) {
                batch.push((hash, queue.callers.remove(&hash).unwrap_or_default()));
            } else {
                queue.order.push_back(hash);
            }
        }
        batch
    }
}

/// A task that empties the queue. It ends when no key waits. The next key starts another one.
struct Worker {
    lookups: Arc<Lookups>,
    /// Whether `Queue::workers` includes this worker.
    counted: bool,
}

impl Worker {
    async fn run(mut self) {
        let mut connection = None;
        loop {
            let batch = self.lookups.next_batch();
            if batch.is_empty() && self.retire() {
                return;
            }
            let lookups = Arc::clone(&self.lookups);
            let batch = InFlight { lookups: &lookups, batch };
            let hashes: Vec<&[u8]> =
                batch.batch.iter().map(|(hash, _)| &hash.as_bytes()[..]).collect();
            let found = self.read(&mut connection, &hashes).await;
            batch.answer(found);
        }
    }

    /// Whether this worker may end. Decided under the queue's lock: a key that arrives later finds
    /// one worker less, and starts another. A waiting key that is being read is left to the worker
    /// that reads it.
    fn retire(&mut self) -> bool {
        let mut queue = self.lookups.lock();
        let queue = &mut *queue;
        let idle = queue.order.iter().all(|hash| queue.in_flight.contains(hash));
        if idle {
            queue.workers -= 1;
            self.counted = false;
        }
        idle
    }

    async fn read(
        &self,
        connection: &mut Option<PoolConnection<Postgres>>,
        hashes: &[&[u8]],
    ) -> Result<Vec<KeyAndAccount>, StoreError> {
        if hashes.is_empty() {
            return Ok(Vec::new());
        }
        self.lookups.gathered.fetch_add(hashes.len() as u64, Ordering::Relaxed);
        self.lookups.statements.fetch_add(1, Ordering::Relaxed);
        let attempts = async {
            let mut failures = 0;
            loop {
                let own = match connection {
                    Some(own) => own,
                    None => connection.insert(self.lookups.pool.acquire().await?),
                };
                match select(own, hashes).await {
                    // A restart of the database has closed this connection, and maybe the other.
                    Err(error) if is_lost_connection(&error) && failures < CONNECTIONS => {
                        *connection = None;
                        failures += 1;
                    }
                    result => return result,
                }
            }
        };
        let result = match tokio::time::timeout(self.lookups.timeout, attempts).await {
            Ok(result) => result.map_err(StoreError::from),
            Err(_) => Err(StoreError::Unavailable("no answer in time".into())),
        };
        if result.is_err()
            && let Some(mut own) = connection.take()
        {
            // If it returned to the pool, the pool would ping it and wait without a time limit.
            own.close_on_drop();
        }
        result
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // A worker is still counted here only after a panic.
        if self.counted {
            self.lookups.lock().workers -= 1;
        }
    }
}

/// The batch that a worker reads. However it ends, its keys leave `Queue::in_flight`.
struct InFlight<'a> {
    lookups: &'a Lookups,
    batch: Vec<(KeyHash, Callers)>,
}

impl InFlight<'_> {
    fn answer(mut self, found: Result<Vec<KeyAndAccount>, StoreError>) {
        let found = found.map(by_hash).map_err(Arc::new);
        self.land();
        for (hash, callers) in std::mem::take(&mut self.batch) {
            let answer = match &found {
                Ok(rows) => Ok(rows.get(&hash).cloned()),
                Err(error) => Err(Arc::clone(error)),
            };
            for caller in callers {
                // An error means that the caller has disconnected.
                let _ = caller.send(answer.clone());
            }
        }
    }

    fn land(&self) {
        let mut queue = self.lookups.lock();
        for (hash, _) in &self.batch {
            queue.in_flight.remove(hash);
        }
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.land();
    }
}

fn by_hash(rows: Vec<KeyAndAccount>) -> HashMap<KeyHash, Arc<KeyAndAccount>, ByTag> {
    let hashed = rows.into_iter().filter_map(|row| {
        let hash = <[u8; 32]>::try_from(row.key_hash.as_slice()).ok()?;
        Some((KeyHash::from_bytes(hash), Arc::new(row)))
    });
    hashed.collect()
}

async fn select(
    connection: &mut PoolConnection<Postgres>,
    hashes: &[&[u8]],
) -> Result<Vec<KeyAndAccount>, sqlx::Error> {
    sqlx::query_as!(
        KeyAndAccount,
        r#"SELECT /* lookups.select */
                  k.key_hash, k.tenant_id, k.key_id, k.scopes, k.enabled, k.expires_at,
                  k.revoked_at, a.external_id, a.status, clock_timestamp() AS "now!"
           FROM api_keys k JOIN accounts a USING (account_id)
           WHERE k.key_hash = ANY($1)"#,
        hashes as &[&[u8]],
    )
    .fetch_all(&mut **connection)
    .await
}
