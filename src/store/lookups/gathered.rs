//! Gathers the lookups of one kind of row, so that concurrent lookups share a statement.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    hash::{BuildHasherDefault, Hasher},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use sqlx::PgConnection;
use tokio::sync::{Notify, oneshot};

use crate::{
    domain::server::ServerId,
    store::{
        StoreError,
        connection::{Connection, Pool},
        error::is_lost_connection,
        servers::Servers,
    },
};

/// How long hashes wait while a statement is under way. Starting a statement costs about as much as
/// reading ten rows, so the hashes of concurrent calls are gathered.
const GATHER: Duration = Duration::from_millis(5);

/// Number of waiting hashes that are read immediately, even while another statement is under way.
const ENOUGH: usize = 16;

/// Maximum number of hashes in one statement.
const MAX_BATCH: usize = 128;

/// Maximum number of waiting hashes. Further requests get a 503.
const MAX_WAITING: usize = 65_536;

/// Pause before a connection to an unwanted server is replaced.
const RECONNECT_AFTER: Duration = Duration::from_millis(10);

/// The SHA-256 of a secret that a client presents, such as a key.
type Hash = [u8; 32];

/// A kind of row that is looked up by such a hash.
pub(in crate::store) trait Row: Sized + Send + Sync + 'static {
    /// Returns the hash of this row.
    fn hash(&self) -> &[u8];

    /// Reads the rows with these hashes, in any order. Hashes without a row are skipped.
    fn select(
        connection: &mut PgConnection,
        hashes: &[&[u8]],
    ) -> impl Future<Output = Result<Read<Self>, sqlx::Error>> + Send;
}

/// The rows that one statement found, and the server that responded.
pub(in crate::store) struct Read<R> {
    pub server: ServerId,
    pub rows: Vec<R>,
}

/// The row of one hash, if it exists, and the server that responded.
pub(in crate::store) struct Found<R> {
    pub server: ServerId,
    pub row: Option<Arc<R>>,
}

/// The lookups of one kind on a node. While a statement is under way, new hashes are gathered for
/// the next one.
pub(in crate::store) struct Gathered<R> {
    /// The pool, with one connection for each worker.
    pool: Pool,
    servers: Servers,
    /// Maximum number of concurrent statements.
    max_workers: u32,
    /// Time limit of one batch, including the wait for its connection.
    timeout: Duration,
    queue: Mutex<Queue<R>>,
    /// Wakes the worker that gathers lookups.
    wake: Notify,
    gathered: AtomicU64,
    statements: AtomicU64,
}

type Answer<R> = Result<Found<R>, Arc<StoreError>>;
type Callers<R> = Vec<Caller<R>>;

/// A call that waits for a row.
struct Caller<R> {
    /// The server that should respond. If a different server responds, the connection to it is
    /// closed.
    wanted: Option<ServerId>,
    answer: oneshot::Sender<Answer<R>>,
}

/// The queue of waiting hashes. It contains each hash once, with all its callers. If a call arrives
/// while a statement is reading the hash, the hash waits again, because the row may be older than
/// the call.
struct Queue<R> {
    order: VecDeque<Hash>,
    callers: HashMap<Hash, Callers<R>, ByTag>,
    in_flight: HashSet<Hash, ByTag>,
    workers: u32,
}

impl<R> Queue<R> {
    /// Returns the least number of waiting hashes that no statement is reading.
    fn readable(&self) -> usize {
        self.order.len().saturating_sub(self.in_flight.len())
    }
}

type ByTag = BuildHasherDefault<TagHasher>;

/// A hasher that uses the first bytes of a SHA-256 as its hash value.
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

impl<R: Row> Gathered<R> {
    pub fn new(pool: Pool, servers: &Servers, max_workers: u32, timeout: Duration) -> Self {
        let servers = servers.clone();
        let queue = Mutex::new(Queue {
            order: VecDeque::new(),
            callers: HashMap::default(),
            in_flight: HashSet::default(),
            workers: 0,
        });
        let (gathered, statements) = (AtomicU64::new(0), AtomicU64::new(0));
        let wake = Notify::new();
        Self { pool, servers, max_workers, timeout, queue, wake, gathered, statements }
    }

    /// Finds the row with this hash, if it exists. The row is read after this call began. If a
    /// server other than the wanted one responds, the connection to it is closed, and the caller
    /// has to call this again.
    pub async fn find(
        self: &Arc<Self>,
        hash: Hash,
        wanted: Option<ServerId>,
    ) -> Result<Found<R>, StoreError> {
        let (sender, answer) = oneshot::channel();
        self.enqueue(hash, Caller { wanted, answer: sender })?;
        // The sender is dropped without an answer only when the runtime stops.
        let answer = answer.await.map_err(|_| StoreError::Unavailable("stopped".into()))?;
        answer.map_err(|error| match *error {
            StoreError::Unavailable(_) => StoreError::Unavailable(error.into()),
            StoreError::Refused(_) | StoreError::Internal(_) => StoreError::Internal(error.into()),
        })
    }

    /// Returns the number of hashes that were looked up, and the number of statements for them.
    pub fn counts(&self) -> (u64, u64) {
        (self.gathered.load(Ordering::Relaxed), self.statements.load(Ordering::Relaxed))
    }

    fn enqueue(self: &Arc<Self>, hash: Hash, caller: Caller<R>) -> Result<(), StoreError> {
        let mut guard = self.lock();
        let queue = &mut *guard;
        if queue.order.len() >= MAX_WAITING && !queue.callers.contains_key(&hash) {
            return Err(StoreError::Unavailable("too many lookups are waiting".into()));
        }
        let callers = queue.callers.entry(hash).or_insert_with(|| {
            queue.order.push_back(hash);
            Vec::with_capacity(1)
        });
        callers.push(caller);
        if queue.readable() == ENOUGH {
            self.wake.notify_one();
        }
        if queue.workers < self.max_workers {
            queue.workers += 1;
            // If the runtime is stopping, it drops the worker immediately, and the drop takes the
            // lock.
            drop(guard);
            tokio::spawn(Worker { lookups: Arc::clone(self), counted: true }.run());
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Queue<R>> {
        // No operation leaves the queue inconsistent, so a panic in another thread is harmless.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there are enough hashes for a statement, or until no other statement is under
    /// way.
    async fn gather(&self) {
        let is_gathered = || {
            let queue = self.lock();
            queue.in_flight.is_empty() || queue.readable() >= ENOUGH
        };
        let gathered = async {
            while !is_gathered() {
                self.wake.notified().await;
            }
        };
        // After the timeout, the worker reads the hashes that it has.
        let _ = tokio::time::timeout(GATHER, gathered).await;
    }

    /// Takes the hashes that have waited longest and that no statement is reading, with their
    /// callers.
    fn next_batch(&self) -> Vec<(Hash, Callers<R>)> {
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

/// A task that empties the queue. It ends when no hash waits. The next call starts another worker.
struct Worker<R: Row> {
    lookups: Arc<Gathered<R>>,
    /// Whether `Queue::workers` still includes this worker.
    counted: bool,
}

impl<R: Row> Worker<R> {
    async fn run(mut self) {
        let mut connection = None;
        loop {
            self.lookups.gather().await;
            let batch = self.lookups.next_batch();
            if batch.is_empty() && self.retire() {
                return;
            }
            let lookups = Arc::clone(&self.lookups);
            if batch.is_empty() {
                continue;
            }
            let batch = InFlight { lookups: &lookups, batch };
            let hashes: Vec<&[u8]> = batch.batch.iter().map(|(hash, _)| &hash[..]).collect();
            let read = self.read(&mut connection, &hashes).await;
            let is_other_server = batch.answer(read);
            if is_other_server && let Some(mut other) = connection.take() {
                other.close_on_drop();
                // The next connection may also reach the unwanted server.
                tokio::time::sleep(RECONNECT_AFTER).await;
            }
        }
    }

    /// Whether this worker may end. This method decides under the queue's lock, so a call that
    /// arrives later finds one worker fewer, and starts another. If another worker's statement is
    /// already reading a waiting hash, that worker will also handle the hash again.
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
        connection: &mut Option<Connection>,
        hashes: &[&[u8]],
    ) -> Result<Read<R>, StoreError> {
        self.lookups.gathered.fetch_add(hashes.len() as u64, Ordering::Relaxed);
        self.lookups.statements.fetch_add(1, Ordering::Relaxed);
        let max_failures = self.lookups.pool.unlimited().options().get_max_connections();
        let attempts = async {
            let mut failures = 0;
            loop {
                let own = match connection {
                    Some(own) => own,
                    None => {
                        let new = self.lookups.pool.acquire().await;
                        let no_connection = |error| self.lookups.servers.no_connection(error);
                        connection.insert(new.map_err(no_connection)?)
                    }
                };
                match R::select(own.unlimited(), hashes).await {
                    // A restart of the database has closed this connection, and possibly the
                    // others.
                    Err(error) if is_lost_connection(&error) && failures < max_failures => {
                        if let Some(mut lost) = connection.take() {
                            lost.close_on_drop();
                        }
                        failures += 1;
                    }
                    result => return Ok(result?),
                }
            }
        };
        let result = match tokio::time::timeout(self.lookups.timeout, attempts).await {
            Ok(result) => result,
            Err(_) => Err(StoreError::Unavailable("the database did not answer in time".into())),
        };
        if result.is_err()
            && let Some(mut own) = connection.take()
        {
            own.close_on_drop();
        }
        result
    }
}

impl<R: Row> Drop for Worker<R> {
    fn drop(&mut self) {
        // The worker is still counted here only after a panic.
        if self.counted {
            self.lookups.lock().workers -= 1;
        }
    }
}

/// The batch that a worker reads. Dropping the batch removes its hashes from `Queue::in_flight`.
struct InFlight<'a, R: Row> {
    lookups: &'a Gathered<R>,
    batch: Vec<(Hash, Callers<R>)>,
}

impl<R: Row> InFlight<'_, R> {
    /// Delivers the results. Returns whether a caller wanted another server.
    fn answer(mut self, read: Result<Read<R>, StoreError>) -> bool {
        let read = read.map(|Read { server, rows }| (server, rows_by_hash(rows)));
        let read = read.map_err(Arc::new);
        self.land();
        let mut is_other_server = false;
        for (hash, callers) in std::mem::take(&mut self.batch) {
            for Caller { wanted, answer } in callers {
                let found = match &read {
                    Ok((server, rows)) => {
                        is_other_server |= wanted.is_some_and(|wanted| wanted != *server);
                        Ok(Found { server: *server, row: rows.get(&hash).cloned() })
                    }
                    Err(error) => Err(Arc::clone(error)),
                };
                // An error means that the caller has disconnected.
                let _ = answer.send(found);
            }
        }
        is_other_server
    }

    fn land(&self) {
        let mut queue = self.lookups.lock();
        for (hash, _) in &self.batch {
            queue.in_flight.remove(hash);
        }
        self.lookups.wake.notify_one();
    }
}

impl<R: Row> Drop for InFlight<'_, R> {
    fn drop(&mut self) {
        self.land();
    }
}

fn rows_by_hash<R: Row>(rows: Vec<R>) -> HashMap<Hash, Arc<R>, ByTag> {
    let hashed = rows.into_iter().filter_map(|row| {
        let hash = Hash::try_from(row.hash()).ok()?;
        Some((hash, Arc::new(row)))
    });
    hashed.collect()
}
