//! Changes that all nodes have to apply. The node that makes a change announces it to the others
//! and waits for them. After the call that makes the change has returned, no node uses the state
//! from before the change. ARCHITECTURE.md contains the protocol and its proof.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use super::{StoreError, connection::Connection, primary::server_started_at};
use crate::domain::{
    api_key::KeyTag,
    id::{NodeId, TenantId},
    key_group::KeyGroup,
    server::ServerId,
    text_enum::text_enum,
};

/// The channel of all changes. Every node listens to it, and `announce_change` notifies it.
pub(super) const CHANNEL: &str = "tollgate_changes";

text_enum! {
    /// The kind of object that changed. Its text is part of the notification.
    pub(super) enum ChangeKind {
        /// API keys.
        Keys = "keys",
        /// An account, and with it its live API keys and dashboard sessions.
        Account = "account",
        /// An admin key, and with it the links that it created and their sessions.
        AdminKey = "admin_key",
        /// Dashboard sessions or unused links.
        Sessions = "sessions",
        /// Rate limits of API keys. A change without a list of keys affects all keys of the tenant.
        Limits = "limits",
        /// The status of a tenant or one of its plans, and with it all its API keys.
        Tenant = "tenant",
    }
}

/// The cached data that a change affects.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Affected {
    Key(KeyTag),
    /// The API keys of a tenant, and other keys in the same group.
    Group(KeyGroup),
    /// Any object. A node applies this by dropping all cached data.
    Everything,
}

/// The id of a change. Other nodes acknowledge the change with this id.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ChangeId {
    pub node: NodeId,
    pub number: u64,
}

/// What this node knows about the other nodes and about its own unsettled changes.
pub(super) struct Changes {
    pub node: NodeId,
    last_number: AtomicU64,
    last_renewal: AtomicI64,
    /// For each unsettled change, by its number, the nodes that have acknowledged it.
    pub under_way: Mutex<HashMap<u64, HashSet<NodeId>>>,
    pub acknowledged: Notify,
    seen: Mutex<HashMap<NodeId, Seen>>,
    pub apply_here: OnceLock<Box<dyn Fn(Affected) + Send + Sync>>,
    /// The callback for commits of this node. Its argument is the server on which the node has
    /// committed a change.
    pub committed_on: OnceLock<Box<dyn Fn(ServerId) + Send + Sync>>,
}

/// The newest known renewal of another node, and the time when this node first saw the renewal. The
/// other node sent the renewal before that time, so its lease ends at most the length of one lease
/// after `since`.
#[derive(Clone, Copy)]
struct Seen {
    renewal: i64,
    since: Instant,
}

/// A row of `nodes`.
#[derive(Clone, Copy)]
pub(super) struct NodeRow {
    pub node: NodeId,
    pub renewal: i64,
    pub lease: Duration,
}

/// A change that its own transaction announced. It must be settled after the commit.
#[must_use]
pub(super) struct Change {
    pub under_way: UnderWay,
    pub affected: Vec<Affected>,
    /// The server of the change's transaction.
    pub server: ServerId,
}

/// The acknowledgements of a change. Dropping this value forgets them.
pub(super) struct UnderWay {
    pub changes: Arc<Changes>,
    pub number: u64,
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
            committed_on: OnceLock::new(),
        }
    }

    /// Returns the channel for notifications to this node only.
    pub fn own_channel(&self) -> String {
        channel_of(self.node)
    }

    pub fn next_renewal(&self) -> i64 {
        self.last_renewal.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Records that another node has applied a change that this node made.
    pub fn acknowledge(&self, number: u64, node: NodeId) {
        if let Some(nodes) = lock(&self.under_way).get_mut(&number) {
            nodes.insert(node);
            self.acknowledged.notify_waiters();
        }
    }

    /// Records the renewals that a read returned. For each node, returns the latest time at which a
    /// lease from before the read can end.
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

    /// Begins to record the acknowledgements of a new change or recall.
    pub fn begin(self: &Arc<Self>) -> UnderWay {
        let number = self.last_number.fetch_add(1, Ordering::Relaxed) + 1;
        lock(&self.under_way).insert(number, HashSet::new());
        UnderWay { changes: Arc::clone(self), number }
    }

    /// Notifies all nodes of a change, in its transaction. `tags` are the tags of the changed API
    /// keys. The nodes receive the notification only if the transaction commits, and after the
    /// notifications of all earlier commits.
    pub async fn announce(
        self: &Arc<Self>,
        connection: &mut Connection,
        tenant: TenantId,
        kind: ChangeKind,
        tags: Vec<KeyTag>,
    ) -> Result<Change, StoreError> {
        let under_way = self.begin();
        let number = under_way.number;
        let texts: Vec<String> = tags.iter().map(ToString::to_string).collect();
        let announced = sqlx::query!(
            r#"SELECT /* changes.announce */ pg_postmaster_start_time() AS "server!"
               FROM announce_change($1, $2, $3, $4, $5)"#,
            kind.as_str(),
            self.node.uuid(),
            number.cast_signed(),
            tenant.uuid(),
            &texts,
        )
        .fetch_one(connection)
        .await?;
        let affected = match kind {
            ChangeKind::Limits if tags.is_empty() => vec![Affected::Everything],
            ChangeKind::Tenant => vec![Affected::Group(KeyGroup::of_tenant(tenant))],
            _ => tags.into_iter().map(Affected::Key).collect(),
        };
        Ok(Change { under_way, affected, server: server_started_at(announced.server) })
    }

    pub(super) fn apply_here(&self, affected: &[Affected]) {
        if let Some(apply) = self.apply_here.get() {
            affected.iter().copied().for_each(apply);
        }
    }
}

impl UnderWay {
    /// Waits until each of these nodes has acknowledged the change, or until the time at which its
    /// lease has ended.
    pub async fn acknowledged_by(&self, mut waited_for: HashMap<NodeId, Instant>) {
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
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        lock(&self.changes.under_way).remove(&self.number);
    }
}

pub(super) fn channel_of(node: NodeId) -> String {
    format!("tollgate_node_{}", node.uuid().simple())
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No operation leaves the value inconsistent, so a panic in another thread is harmless.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
