//! The session by which a node holds its lease: one connection that renews it and hears what
//! changed, in the order in which it was committed.

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use sqlx::{
    PgExecutor,
    postgres::{PgListener, PgNotification},
};
use tokio::time::timeout;
use uuid::Uuid;

use crate::{
    domain::{api_key::KeyTag, id::NodeId, timestamp::Timestamp},
    entropy,
    store::{
        Store, StoreError,
        changes::{CHANNEL, ChangeId, Changes, NodeRow, channel_of},
        clock::stored_time,
    },
};

/// The longest lease there may be. Who cannot find out which nodes there are waits so long.
pub(in crate::store) const MAX_LEASE: Duration = Duration::from_secs(10);

/// How long a lease may be.
pub const LEASE_BOUNDS: RangeInclusive<Duration> = Duration::from_millis(100)..=MAX_LEASE;

/// For the connection to be made: the next attempt may find a database that answers.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// A node whose renewals have stood still for so many leases is gone, and its row with it.
const GONE_AFTER_LEASES: u32 = 10;

/// The connection that holds a node's lease. It is bound to one session of the database: a lease
/// is not renewed on another one, which would not have heard all.
pub struct NodeSession {
    listener: PgListener,
    changes: Arc<Changes>,
    lease: Duration,
    /// Set in the session, and lost with it.
    mark: String,
}

/// A renewal that was committed. It counts once it has been heard.
#[derive(Clone, Copy, Debug)]
pub struct Renewal {
    pub number: i64,
    /// When it was made.
    pub database_clock: Timestamp,
}

/// What a node hears, in the order in which it was committed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Notice {
    /// These keys changed; who did it may wait until it is acknowledged.
    Changed { tags: Vec<KeyTag>, acknowledge: Option<ChangeId> },
    /// Anything may have changed.
    Everything,
    /// The renewal with this number: all that was committed before it has been heard.
    Renewed(i64),
}

impl Store {
    /// A connection for a lease of this length, which has not heard anything yet.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn open_session(&self, lease: Duration) -> Result<NodeSession, StoreError> {
        let connect = async {
            let mut listener = self.listener.connect(CONNECT_TIMEOUT).await?;
            // What tells a node from another tells a session from another.
            let mark = entropy::node_id()?.to_string();
            sqlx::query!(
                "SELECT /* nodes.open_session */ set_config('tollgate.session', $1, false)",
                mark
            )
            .fetch_one(&mut listener)
            .await?;
            let changes = Arc::clone(&self.changes);
            Ok(NodeSession { listener, changes, lease, mark })
        };
        within(CONNECT_TIMEOUT * 2, connect).await
    }

    /// Takes this node out of those that others wait for. Its lease has to be over.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn leave(&self) -> Result<(), StoreError> {
        let node = self.changes.node.uuid();
        self.read(|pool| async move {
            sqlx::query!("DELETE /* nodes.leave */ FROM nodes WHERE node_id = $1", node)
                .execute(&pool)
                .await
        })
        .await?;
        Ok(())
    }

    /// Makes sure that the session is on the database in which keys are looked up: that the
    /// renewal, which was committed there, is here.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn sees_renewal(&self, number: i64) -> Result<(), StoreError> {
        let node = self.changes.node.uuid();
        let seen = self
            .read(|pool| async move {
                sqlx::query_scalar!(
                    "SELECT /* nodes.sees_renewal */ renewal FROM nodes WHERE node_id = $1",
                    node
                )
                .fetch_optional(&pool)
                .await
            })
            .await?;
        if seen.is_some_and(|seen| seen >= number) {
            return Ok(());
        }
        let reason =
            "TOLLGATE_LISTEN_DATABASE_URL and DATABASE_URL lead to two different databases";
        Err(StoreError::Unavailable(reason.into()))
    }

    /// The nodes whose caches may hold what changes.
    pub(in crate::store) async fn other_nodes(&self) -> Result<Vec<NodeRow>, StoreError> {
        let own = self.changes.node;
        self.read(|pool| async move { select_others(&pool, own).await }).await
    }
}

impl NodeSession {
    /// From here on it hears every change that is committed.
    pub async fn listen(&mut self) -> Result<(), StoreError> {
        let own = self.changes.own_channel();
        let listen = async { Ok(self.listener.listen_all([CHANNEL, own.as_str()]).await?) };
        within(self.lease, listen).await
    }

    /// Commits a renewal, which is heard in its turn.
    pub async fn renew(&mut self) -> Result<Renewal, StoreError> {
        let number = self.changes.next_renewal();
        within(self.lease, self.write_renewal(number)).await
    }

    /// Looks at the others, so that a change knows how long each of their renewals has stood
    /// still, and takes away what nodes left behind that are gone.
    pub async fn look_at_others(&mut self) -> Result<(), StoreError> {
        within(self.lease, self.forget_gone_nodes()).await
    }

    /// The next thing that is heard. May be dropped while it waits.
    pub async fn next(&mut self) -> Result<Notice, StoreError> {
        loop {
            let heard = self.listener.try_recv().await?;
            let heard = heard.ok_or(StoreError::Unavailable("the connection was lost".into()))?;
            if let Some(notice) = self.read(&heard) {
                return Ok(notice);
            }
        }
    }

    /// The next thing that was heard already.
    pub fn next_heard(&mut self) -> Option<Notice> {
        loop {
            let heard = self.listener.next_buffered()?;
            if let Some(notice) = self.read(&heard) {
                return Some(notice);
            }
        }
    }

    /// Tells the nodes that made these changes that they were applied here.
    pub async fn acknowledge(&mut self, changes: &[ChangeId]) -> Result<(), StoreError> {
        let own = self.changes.node.uuid().simple();
        let channels: Vec<String> = changes.iter().map(|change| channel_of(change.node)).collect();
        let payloads: Vec<String> =
            changes.iter().map(|change| format!("applied {own} {}", change.number)).collect();
        // Nothing is lost with it but a wait of one lease: it need not be on disk.
        let write = sqlx::query!(
            "SELECT /* nodes.acknowledge */ set_config('synchronous_commit', 'off', true)
             FROM unnest($1::text[], $2::text[]) AS ack (channel, payload),
                  LATERAL pg_notify(channel, payload)",
            &channels,
            &payloads,
        );
        let write = async { Ok(write.fetch_all(&mut self.listener).await.map(drop)?) };
        within(self.lease, write).await
    }

    async fn write_renewal(&mut self, number: i64) -> Result<Renewal, StoreError> {
        let lease = i32::try_from(self.lease.as_millis()).unwrap_or(i32::MAX);
        let row = sqlx::query!(
            r#"WITH /* nodes.write_renewal */ held AS (
                   INSERT INTO nodes (node_id, renewal, lease_ms, lease_expires_at)
                   SELECT $1, $2, $3, clock_timestamp() + $3::integer * interval '1 millisecond'
                   WHERE current_setting('tollgate.session', true) = $4
                   ON CONFLICT (node_id) DO UPDATE
                   SET renewal = EXCLUDED.renewal, lease_ms = EXCLUDED.lease_ms,
                       lease_expires_at = EXCLUDED.lease_expires_at
                   RETURNING renewal)
               SELECT clock_timestamp() AS "now!"
               FROM held, LATERAL pg_notify($5, 'renewed ' || renewal)"#,
            self.changes.node.uuid(),
            number,
            lease,
            self.mark,
            self.changes.own_channel(),
        )
        .fetch_optional(&mut self.listener)
        .await?;
        let row = row.ok_or(StoreError::Unavailable("the session was replaced".into()))?;
        Ok(Renewal { number, database_clock: stored_time("clock_timestamp()", row.now)? })
    }

    async fn forget_gone_nodes(&mut self) -> Result<(), StoreError> {
        let rows = select_others(&mut self.listener, self.changes.node).await?;
        let ends = self.changes.ends_of_leases(&rows);
        for row in rows {
            let gone = ends
                .get(&row.node)
                .is_some_and(|end| end.elapsed() >= row.lease * (GONE_AFTER_LEASES - 1));
            if gone {
                sqlx::query!(
                    "DELETE /* nodes.forget_gone_nodes */ FROM nodes WHERE node_id = (
                         SELECT node_id FROM nodes WHERE node_id = $1 AND renewal = $2
                         FOR UPDATE SKIP LOCKED)",
                    row.node.uuid(),
                    row.renewal,
                )
                .execute(&mut self.listener)
                .await?;
            }
        }
        Ok(())
    }

    /// What a notification says; `None` when it was for the changes of this node.
    fn read(&self, heard: &PgNotification) -> Option<Notice> {
        let own = heard.channel() != CHANNEL;
        let notice = if own { own_notice(heard.payload()) } else { notice(heard.payload()) };
        match notice {
            // What cannot be read may be of a newer version: it may have changed anything.
            None => Some(Notice::Everything),
            Some(Heard::Notice(Notice::Changed { tags, acknowledge })) => {
                // This node has applied its own changes by itself.
                let acknowledge = acknowledge.filter(|change| change.node != self.changes.node);
                Some(Notice::Changed { tags, acknowledge })
            }
            Some(Heard::Notice(notice)) => Some(notice),
            Some(Heard::Applied { by, number }) => {
                self.changes.acknowledge(number, by);
                None
            }
        }
    }
}

#[derive(PartialEq, Eq, Debug)]
enum Heard {
    Notice(Notice),
    Applied { by: NodeId, number: u64 },
}

/// Reads what was said to all: `all`, or `<node> <number> <tag>,<tag>…`.
fn notice(payload: &str) -> Option<Heard> {
    if payload == "all" {
        return Some(Heard::Notice(Notice::Everything));
    }
    let mut words = payload.split(' ');
    let (node, number, tags) = (words.next()?, words.next()?, words.next()?);
    let change = ChangeId { node: read_node(node)?, number: number.parse().ok()? };
    let tag = |text| u64::from_str_radix(text, 16).ok().map(KeyTag::from_bits);
    let tags = tags.split(',').map(tag).collect::<Option<_>>()?;
    let acknowledge = (change.number != 0).then_some(change);
    words.next().is_none().then_some(Heard::Notice(Notice::Changed { tags, acknowledge }))
}

/// Reads what was said to this node: `renewed <number>` or `applied <node> <number>`.
fn own_notice(payload: &str) -> Option<Heard> {
    let words: Vec<&str> = payload.split(' ').collect();
    match words[..] {
        ["renewed", number] => Some(Heard::Notice(Notice::Renewed(number.parse().ok()?))),
        ["applied", node, number] => {
            Some(Heard::Applied { by: read_node(node)?, number: number.parse().ok()? })
        }
        _ => None,
    }
}

fn read_node(text: &str) -> Option<NodeId> {
    Uuid::try_parse(text).ok().map(NodeId::from_uuid)
}

async fn select_others(
    executor: impl PgExecutor<'_>,
    own: NodeId,
) -> Result<Vec<NodeRow>, sqlx::Error> {
    let rows = sqlx::query!(
        "SELECT /* nodes.select_others */
                node_id, renewal, lease_ms FROM nodes WHERE node_id <> $1",
        own.uuid(),
    )
    .fetch_all(executor)
    .await?;
    let lease = |millis| Duration::from_millis(u64::try_from(millis).unwrap_or(0));
    let node = NodeId::from_uuid;
    let rows = rows.into_iter().map(|row| NodeRow {
        node: node(row.node_id),
        renewal: row.renewal,
        lease: lease(row.lease_ms),
    });
    Ok(rows.collect())
}

/// A session that does not answer in time has lost its connection without hearing of it.
async fn within<T>(
    bound: Duration,
    operation: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let late = |_| Err(StoreError::Unavailable("the database does not answer".into()));
    timeout(bound, operation).await.unwrap_or_else(late)
}
