//! Changes of keys that are told to all nodes, and waited for: once a change has returned, no node
//! answers by what was so before it. ARCHITECTURE.md has the protocol and why it is right.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use sqlx::PgConnection;
use tokio::{
    sync::Notify,
    time::{Instant, sleep, sleep_until, timeout_at},
};

use super::{Store, StoreError, nodes::MAX_LEASE};
use crate::domain::{
    account::AccountId,
    api_key::{KeyHash, KeyTag},
    id::{KeyId, NodeId},
};

/// The channel on which all nodes hear what changed.
pub(super) const CHANNEL: &str = "tollgate_changes";

/// Tags in one notification: it may have 8000 bytes.
const TAGS_IN_A_PART: usize = 400;

/// Between two attempts to learn which nodes there are.
const RETRY_AFTER: Duration = Duration::from_millis(50);

/// A change of one node, as the others acknowledge it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ChangeId {
    pub node: NodeId,
    pub number: u64,
}

/// What this node knows of the others, and of its own changes that are under way.
pub(super) struct Changes {
    pub node: NodeId,
    last_number: AtomicU64,
    last_renewal: AtomicI64,
    /// Who acknowledged what so far.
    under_way: Mutex<HashMap<u64, HashSet<NodeId>>>,
    acknowledged: Notify,
    seen: Mutex<HashMap<NodeId, Seen>>,
    apply_here: OnceLock<Box<dyn Fn(KeyTag) + Send + Sync>>,
}

/// The newest renewal of a node that was seen, and since when. It was sent before then, so that
/// its lease ends no later than one lease after.
#[derive(Clone, Copy)]
struct Seen {
    renewal: i64,
    since: Instant,
}

/// A node as it stands in the database.
#[derive(Clone, Copy)]
pub(super) struct NodeRow {
    pub node: NodeId,
    pub renewal: i64,
    pub lease: Duration,
}

/// A change that was announced in its own transaction; to be settled after the commit.
#[must_use]
pub(super) struct Change {
    changes: Arc<Changes>,
    number: u64,
    tags: Vec<KeyTag>,
}

impl Changes {
    pub fn new(node: NodeId) -> Self {
        Self {
            node,
            last_number: AtomicU64::new(0),
            last_renewal: AtomicI64::new(0),
            under_way: Mutex::default(),
            acknowledged: Notify::new(),
            seen: Mutex::default(),
            apply_here: OnceLock::new(),
        }
    }

    /// The channel on which this node hears what is for it alone.
    pub fn own_channel(&self) -> String {
        channel_of(self.node)
    }

    pub fn next_renewal(&self) -> i64 {
        self.last_renewal.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A node has applied a change of this one.
    pub fn acknowledge(&self, number: u64, node: NodeId) {
        if let Some(nodes) = lock(&self.under_way).get_mut(&number) {
            nodes.insert(node);
            self.acknowledged.notify_waiters();
        }
    }

    /// Takes note of the renewals that were read just now. Returns when each node's lease, as far
    /// as it was granted before they were read, is over at the latest.
    pub fn ends_of_leases(&self, rows: &[NodeRow]) -> HashMap<NodeId, Instant> {
        let now = Instant::now();
        let mut seen = lock(&self.seen);
        seen.retain(|node, _| rows.iter().any(|row| row.node == *node));
        let end = |row: &NodeRow| {
            let new = Seen { renewal: row.renewal, since: now };
            let known = seen.entry(row.node).or_insert(new);
            if known.renewal != row.renewal {
                *known = new;
            }
            (row.node, known.since + row.lease)
        };
        rows.iter().map(end).collect()
    }

    /// Tells all nodes, in the change's own transaction, that these keys changed: they hear it if
    /// and when it is committed, after all that was committed before.
    pub async fn announce(
        self: &Arc<Self>,
        connection: &mut PgConnection,
        tags: Vec<KeyTag>,
    ) -> Result<Change, StoreError> {
        let number = self.last_number.fetch_add(1, Ordering::Relaxed) + 1;
        lock(&self.under_way).insert(number, HashSet::new());
        let change = Change { changes: Arc::clone(self), number, tags };
        sqlx::query!(
            "SELECT count(*) FROM unnest($2::text[]) AS part (payload),
                                  LATERAL pg_notify($1, payload)",
            CHANNEL,
            &change.payloads(),
        )
        .fetch_one(connection)
        .await?;
        Ok(change)
    }

    fn apply_here(&self, tags: &[KeyTag]) {
        if let Some(apply) = self.apply_here.get() {
            tags.iter().copied().for_each(apply);
        }
    }
}

impl Change {
    /// In parts, of which the last one asks for the acknowledgement of all.
    fn payloads(&self) -> Vec<String> {
        let parts: Vec<&[KeyTag]> = self.tags.chunks(TAGS_IN_A_PART).collect();
        let origin = self.changes.node.uuid().simple();
        let payload = |(place, part): (usize, &&[KeyTag])| {
            let number = if place + 1 == parts.len() { self.number } else { 0 };
            let tags: Vec<String> = part.iter().map(ToString::to_string).collect();
            format!("{origin} {number} {}", tags.join(","))
        };
        parts.iter().enumerate().map(payload).collect()
    }

    /// Returns once no node answers by what was so before the change: each has applied it, or its
    /// lease is over. To be called after the commit.
    pub async fn settle(self, store: &Store) {
        let committed = Instant::now();
        self.changes.apply_here(&self.tags);
        if self.tags.is_empty() {
            return;
        }
        let _timer = store.timer("settle_change");
        let mut waited_for = self.other_nodes(store, committed + MAX_LEASE).await;
        loop {
            let acknowledged = self.changes.acknowledged.notified();
            let now = Instant::now();
            if let Some(done) = lock(&self.changes.under_way).get(&self.number) {
                waited_for.retain(|node, end| !done.contains(node) && *end > now);
            }
            let Some(first_end) = waited_for.values().min().copied() else { return };
            tokio::select! {
                () = acknowledged => {}
                () = sleep_until(first_end) => {}
            }
        }
    }

    /// When the lease of each other node is over at the latest. If that cannot be found out until
    /// every lease there can be is over, nothing is left to wait for.
    async fn other_nodes(&self, store: &Store, deadline: Instant) -> HashMap<NodeId, Instant> {
        loop {
            match timeout_at(deadline, store.other_nodes()).await {
                Ok(Ok(rows)) => return self.changes.ends_of_leases(&rows),
                Ok(Err(_)) if Instant::now() < deadline => sleep(RETRY_AFTER).await,
                Ok(Err(_)) | Err(_) => return HashMap::new(),
            }
        }
    }
}

impl Drop for Change {
    fn drop(&mut self) {
        lock(&self.changes.under_way).remove(&self.number);
    }
}

impl Store {
    /// What applies a change on this node itself, at once.
    ///
    /// # Panics
    ///
    /// When it was said before: a store belongs to one node.
    pub fn on_change(&self, apply: impl Fn(KeyTag) + Send + Sync + 'static) {
        let said = self.changes.apply_here.set(Box::new(apply));
        assert!(said.is_ok(), "a store belongs to one node");
    }

    /// Announces a change of one key.
    pub(super) async fn announce_key(
        &self,
        connection: &mut PgConnection,
        account_id: AccountId,
        key_id: KeyId,
    ) -> Result<Change, StoreError> {
        let hash = sqlx::query_scalar!(
            "SELECT key_hash FROM api_keys WHERE account_id = $1 AND key_id = $2",
            account_id.uuid(),
            key_id.uuid(),
        )
        .fetch_one(&mut *connection)
        .await?;
        self.changes.announce(connection, vec![stored_tag(&hash)?]).await
    }

    /// Announces a change of all keys of an account that are not dead.
    pub(super) async fn announce_account(
        &self,
        connection: &mut PgConnection,
        account_id: AccountId,
    ) -> Result<Change, StoreError> {
        let hashes = sqlx::query_scalar!(
            "SELECT key_hash FROM api_keys
             WHERE account_id = $1 AND revoked_at IS NULL
               AND (expires_at IS NULL OR expires_at > clock_timestamp())",
            account_id.uuid(),
        )
        .fetch_all(&mut *connection)
        .await?;
        let tags = hashes.iter().map(|hash| stored_tag(hash)).collect::<Result<_, _>>()?;
        self.changes.announce(connection, tags).await
    }
}

pub(super) fn channel_of(node: NodeId) -> String {
    format!("tollgate_node_{}", node.uuid().simple())
}

fn stored_tag(hash: &[u8]) -> Result<KeyTag, StoreError> {
    let bytes = <[u8; 32]>::try_from(hash);
    let bytes = bytes.map_err(|error| StoreError::corrupt("api_keys.key_hash", error))?;
    Ok(KeyHash::from_bytes(bytes).tag())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each operation leaves what is inside whole: a panic elsewhere harms nothing.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
