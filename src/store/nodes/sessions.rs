//! The session that holds a node's lease. A session is one connection, which renews the lease and
//! receives changes in the order of their commits.

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use sqlx::{
    PgExecutor,
    postgres::{PgListener, PgNotification},
};
use tokio::time::timeout;

use super::notices::{Notice, OwnNotice, notice, own_notice};
use crate::{
    domain::{id::NodeId, server::ServerId, timestamp::Timestamp},
    entropy,
    store::{
        Store, StoreError,
        changes::{CHANNEL, ChangeId, Changes, NodeRow, channel_of},
        clock::stored_time,
        host_choice::{NoPrimary, why_not},
        primary::{identify, server_started_at},
        turns::{hurry, of_request},
    },
};

/// Maximum length of a lease. If a change cannot read the rows of the other nodes, it waits this
/// long.
pub(in crate::store) const MAX_LEASE: Duration = Duration::from_secs(10);

/// The shortest and the longest lease that can be configured.
pub const LEASE_BOUNDS: RangeInclusive<Duration> = Duration::from_millis(100)..=MAX_LEASE;

/// Time limit for connecting. After this time, the next attempt may reach a database that responds.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// A node that has not renewed its lease for the length of this many leases is gone, and its row is
/// deleted.
const GONE_AFTER_LEASES: u32 = 10;

/// The connection that holds a node's lease. It belongs to one session of the database. The lease
/// is not renewed in another session, which would have missed notifications.
pub struct NodeSession {
    listener: PgListener,
    changes: Arc<Changes>,
    lease: Duration,
    /// Time limit of one operation.
    limit: Duration,
    /// The value of a setting in the session. It identifies the session, and disappears with it.
    mark: String,
    server: ServerId,
}

/// A renewal that was committed. It counts only after its notification arrives.
#[derive(Clone, Copy, Debug)]
pub struct Renewal {
    pub number: i64,
    /// The time of the renewal by the database's clock.
    pub database_clock: Timestamp,
}

impl Store {
    /// Opens a connection for a lease of this length, to the primary that was promoted last. The
    /// connection does not listen yet. After this call, the pools use only connections to the same
    /// server.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn open_session(&self, lease: Duration) -> Result<NodeSession, StoreError> {
        self.servers.end_session();
        let connect = async {
            let unavailable = |reason: NoPrimary| StoreError::Unavailable(reason.into());
            let host = self.choose_hosts().await.map_err(unavailable)?;
            let connected = self.listener.connect(host.clone(), &self.servers, CONNECT_TIMEOUT);
            let mut listener = match connected.await {
                Ok(listener) => listener,
                Err(error) => {
                    let hosts = &self.listener.hosts;
                    return Err(unavailable(why_not(error, hosts, &host, &self.servers).await));
                }
            };
            // The session gets a random id of the same kind as the id of a node.
            let mark = entropy::node_id()?.to_string();
            sqlx::query!(
                "SELECT /* nodes.open_session */ set_config('tollgate.session', $1, false)",
                mark
            )
            .fetch_one(&mut listener)
            .await?;
            let server = identify(&mut listener).await?;
            self.servers.begin_session(server);
            let changes = Arc::clone(&self.changes);
            let limit = lease.min(self.listener.settings.answer_timeout);
            Ok(NodeSession { listener, changes, lease, limit, mark, server: server.id })
        };
        let opened = within(CONNECT_TIMEOUT * 3, connect).await;
        if let Err(StoreError::Unavailable(reason)) = &opened {
            self.servers.no_session(reason.to_string());
        }
        opened
    }

    /// Waits until a connection reaches a server that was promoted after the session's server.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn session_superseded(&self) {
        self.servers.superseded().await;
    }

    /// Deletes the row of this node, so that other nodes no longer wait for it. Call it only after
    /// the lease has ended.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn leave(&self) -> Result<(), StoreError> {
        let node = self.changes.node.uuid();
        self.read(|mut connection| async move {
            sqlx::query!("DELETE /* nodes.leave */ FROM nodes WHERE node_id = $1", node)
                .execute(&mut connection)
                .await
        })
        .await?;
        Ok(())
    }

    /// Checks that the session and the pool use the same database. The renewal that the session
    /// committed must be visible in the pool.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn sees_renewal(&self, number: i64) -> Result<(), StoreError> {
        let node = self.changes.node.uuid();
        let seen = of_request(None, async {
            hurry();
            self.read(|mut connection| async move {
                sqlx::query_scalar!(
                    "SELECT /* nodes.sees_renewal */ renewal FROM nodes WHERE node_id = $1",
                    node
                )
                .fetch_optional(&mut connection)
                .await
            })
            .await
        });
        match seen.await? {
            Some(seen) if seen >= number => Ok(()),
            _ => {
                let reason = "DATABASE_URL and TOLLGATE_LISTEN_DATABASE_URL connect to different \
                              databases";
                Err(StoreError::Unavailable(reason.into()))
            }
        }
    }
}

impl NodeSession {
    /// Returns the server of the session.
    #[must_use]
    pub fn server(&self) -> ServerId {
        self.server
    }

    /// Starts to listen. After this call, the session receives every committed change.
    pub async fn listen(&mut self) -> Result<(), StoreError> {
        let own = self.changes.own_channel();
        let listen = async { Ok(self.listener.listen_all([CHANNEL, own.as_str()]).await?) };
        within(self.limit, listen).await
    }

    /// Commits a renewal. Its notification arrives after the notifications of earlier commits.
    pub async fn renew(&mut self) -> Result<Renewal, StoreError> {
        let number = self.changes.next_renewal();
        within(self.limit, self.write_renewal(number)).await
    }

    /// Reads the rows of the other nodes, so that a change knows how long ago each renewal was
    /// first seen. Deletes the rows of nodes that are gone.
    pub async fn look_at_others(&mut self) -> Result<(), StoreError> {
        within(self.limit, self.forget_gone_nodes()).await
    }

    /// Returns the time limit for the notification of a renewal, and for every other operation of
    /// the session.
    #[must_use]
    pub fn limit(&self) -> Duration {
        self.limit
    }

    /// Deletes the row of this node, so that other nodes no longer wait for it. Call it only after
    /// the lease has ended. Sends this node a last notification and returns the number of the
    /// notification. When it arrives, this node has received all changes that may wait for it.
    pub async fn leave(&mut self) -> Result<i64, StoreError> {
        let number = self.changes.next_renewal();
        let (node, channel) = (self.changes.node.uuid(), self.changes.own_channel());
        let leave = sqlx::query!(
            "WITH /* nodes.leave_session */ gone AS (DELETE FROM nodes WHERE node_id = $1)
             SELECT pg_notify($2, 'renewed ' || $3::bigint)",
            node,
            channel,
            number,
        );
        let leave = async { Ok(leave.execute(&mut self.listener).await.map(drop)?) };
        within(self.limit, leave).await?;
        Ok(number)
    }

    /// Waits for the next notification. This method is cancel-safe.
    pub async fn next(&mut self) -> Result<Notice, StoreError> {
        loop {
            let heard = self.listener.try_recv().await?;
            let heard = heard.ok_or(StoreError::Unavailable("the connection was lost".into()))?;
            if let Some(notice) = self.read(&heard) {
                return Ok(notice);
            }
        }
    }

    /// Returns the next notification if it has already arrived.
    pub fn next_heard(&mut self) -> Option<Notice> {
        loop {
            let heard = self.listener.next_buffered()?;
            if let Some(notice) = self.read(&heard) {
                return Some(notice);
            }
        }
    }

    /// Acknowledges these changes to the nodes that made them.
    pub async fn acknowledge(&mut self, changes: &[ChangeId]) -> Result<(), StoreError> {
        let write = acknowledge(&mut self.listener, self.changes.node, changes);
        within(self.limit, async { Ok(write.await?) }).await
    }

    async fn write_renewal(&mut self, number: i64) -> Result<Renewal, StoreError> {
        let lease = i32::try_from(self.lease.as_millis()).unwrap_or(i32::MAX);
        let row = sqlx::query!(
            r#"WITH /* nodes.write_renewal */ held AS (
                   INSERT INTO nodes (node_id, renewal, lease_ms, lease_ends_at)
                   SELECT $1, $2, $3, clock_timestamp() + $3::integer * interval '1 millisecond'
                   WHERE current_setting('tollgate.session', true) = $4
                   ON CONFLICT (node_id) DO UPDATE
                   SET renewal = EXCLUDED.renewal, lease_ms = EXCLUDED.lease_ms,
                       lease_ends_at = EXCLUDED.lease_ends_at
                   WHERE nodes.renewal < EXCLUDED.renewal
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
        let OtherNodes { rows, .. } = select_others(&mut self.listener, self.changes.node).await?;
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

    /// Parses a notification. Records an acknowledgement of a change by this node, and returns
    /// `None` for it.
    fn read(&self, heard: &PgNotification) -> Option<Notice> {
        if heard.channel() == CHANNEL {
            // This node applies its own changes in `Change::settle`.
            return Some(notice(heard.payload(), self.changes.node));
        }
        match own_notice(heard.payload()) {
            Some(OwnNotice::Renewed(number)) => Some(Notice::Renewed(number)),
            Some(OwnNotice::Applied { by, number }) => {
                self.changes.acknowledge(number, by);
                None
            }
            // The notification may come from a newer version, and may concern any key.
            None => Some(Notice::Everything { acknowledge: None }),
        }
    }
}

/// Acknowledges these changes and recalls of other nodes.
pub(in crate::store) async fn acknowledge(
    executor: impl PgExecutor<'_>,
    own: NodeId,
    changes: &[ChangeId],
) -> Result<(), sqlx::Error> {
    let own = own.uuid().simple();
    let channels: Vec<String> = changes.iter().map(|change| channel_of(change.node)).collect();
    let payloads: Vec<String> =
        changes.iter().map(|change| format!("applied {own} {}", change.number)).collect();
    // If an acknowledgement is lost, the change waits for at most one lease, so this commit
    // need not wait for the disk.
    let write = sqlx::query!(
        "SELECT /* nodes.acknowledge */ set_config('synchronous_commit', 'off', true)
         FROM unnest($1::text[], $2::text[]) AS ack (channel, payload),
              LATERAL pg_notify(channel, payload)",
        &channels,
        &payloads,
    );
    write.fetch_all(executor).await.map(drop)
}

/// The other nodes, according to a server.
pub(in crate::store) struct OtherNodes {
    pub server: ServerId,
    pub rows: Vec<NodeRow>,
}

/// Reads the nodes whose caches may contain a changed key.
pub(in crate::store) async fn select_others(
    executor: impl PgExecutor<'_>,
    own: NodeId,
) -> Result<OtherNodes, sqlx::Error> {
    let rows = sqlx::query!(
        r#"SELECT /* nodes.select_others */
                  pg_postmaster_start_time() AS "server!", node_id AS "node_id?",
                  renewal AS "renewal?", lease_ms AS "lease_ms?"
           FROM (SELECT) AS answer LEFT JOIN nodes ON node_id <> $1"#,
        own.uuid(),
    )
    .fetch_all(executor)
    .await?;
    let server = rows.first().map(|row| server_started_at(row.server));
    let rows = rows.into_iter().filter_map(|row| {
        let lease = u64::try_from(row.lease_ms?).unwrap_or(0);
        Some(NodeRow {
            node: NodeId::from_uuid(row.node_id?),
            renewal: row.renewal?,
            lease: Duration::from_millis(lease),
        })
    });
    Ok(OtherNodes { server: server.ok_or(sqlx::Error::RowNotFound)?, rows: rows.collect() })
}

/// Runs an operation of a session. If it exceeds the time limit, treats the session as lost.
pub(super) async fn within<T>(
    bound: Duration,
    operation: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let late = |_| Err(StoreError::Unavailable("the database does not answer".into()));
    timeout(bound, operation).await.unwrap_or_else(late)
}
