use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};

use crate::store::{
    Store, StoreError, WindowTag,
    changes::{CHANNEL, lock},
    nodes::{
        notices::RECALL,
        sessions::{OtherNodes, select_others},
    },
};

/// Maximum number of windows in one recall, because Postgres limits a payload to 8,000 bytes.
pub const MAX_RECALLED: usize = 400;

impl Store {
    /// Asks all other nodes to return the calls of these windows that they have not spent. Returns
    /// when each node has returned them, when its lease has ended, or after `limit`.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn recall_shares(
        &self,
        tags: &[WindowTag],
        limit: Duration,
    ) -> Result<(), StoreError> {
        let _timer = self.timer("recall_shares");
        let deadline = Instant::now() + limit;
        let under_way = self.changes.begin();
        let tags: Vec<String> = tags.iter().map(|tag| format!("{:016x}", tag.0)).collect();
        let (node, nobody) = (self.changes.node.uuid().simple(), uuid::Uuid::nil().simple());
        let number = under_way.number;
        let payload = format!("{RECALL} {node} {number} {nobody} {}", tags.join(","));
        let connection = timeout_at(deadline, self.shares.acquire()).await;
        let late = |_| StoreError::Unavailable("no connection was free in time".into());
        let mut connection =
            connection.map_err(late)?.map_err(|error| self.servers.no_connection(error))?;
        // If this future is dropped, a statement may still be running.
        connection.close_on_drop();
        sqlx::query!("SELECT /* rate_limits.recall */ pg_notify($1, $2)", CHANNEL, payload)
            .execute(&mut connection)
            .await?;
        let OtherNodes { rows, .. } = select_others(&mut connection, self.changes.node).await?;
        connection.keep();
        drop(connection);
        let mut waited_for = self.changes.ends_of_leases(&rows);
        loop {
            let acknowledged = self.changes.acknowledged.notified();
            let now = Instant::now();
            if let Some(done) = lock(&self.changes.under_way).get(&number) {
                waited_for.retain(|node, end| !done.contains(node) && *end > now);
            }
            let Some(first_end) = waited_for.values().min().copied() else { return Ok(()) };
            if now >= deadline {
                return Ok(());
            }
            tokio::select! {
                () = acknowledged => {}
                () = sleep_until(first_end.min(deadline)) => {}
            }
        }
    }
}
