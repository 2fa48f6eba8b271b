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
use tokio::{sync::Notify, time::Instant};

use super::StoreError;
use crate::domain::{api_key::KeyTag, id::NodeId};

/// The channel on which all nodes hear what changed. `announce_key_change` notifies it.
pub(super) const CHANNEL: &str = "tollgate_changes";

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
    pub under_way: Mutex<HashMap<u64, HashSet<NodeId>>>,
    pub acknowledged: Notify,
    seen: Mutex<HashMap<NodeId, Seen>>,
    pub apply_here: OnceLock<Box<dyn Fn(KeyTag) + Send + Sync>>,
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
    pub changes: Arc<Changes>,
    pub number: u64,
    pub tags: Vec<KeyTag>,
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
        let tags: Vec<String> = change.tags.iter().map(ToString::to_string).collect();
        sqlx::query!(
            "SELECT /* changes.announce */ FROM announce_key_change($1, $2, $3)",
            self.node.uuid(),
            number.cast_signed(),
            &tags,
        )
        .execute(connection)
        .await?;
        Ok(change)
    }

    pub(super) fn apply_here(&self, tags: &[KeyTag]) {
        if let Some(apply) = self.apply_here.get() {
            tags.iter().copied().for_each(apply);
        }
    }
}

impl Drop for Change {
    fn drop(&mut self) {
        lock(&self.changes.under_way).remove(&self.number);
    }
}

pub(super) fn channel_of(node: NodeId) -> String {
    format!("tollgate_node_{}", node.uuid().simple())
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each operation leaves what is inside whole: a panic elsewhere harms nothing.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
