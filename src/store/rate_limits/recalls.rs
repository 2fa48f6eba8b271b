use std::future::Future;

use crate::store::{
    ChangeId, Store, StoreError, WindowTag,
    changes::CHANNEL,
    nodes::{
        notices::RECALL,
        sessions::{OtherNodes, acknowledge, select_others},
    },
};

/// Maximum number of windows in one recall, because Postgres limits a payload to 8,000 bytes.
pub const MAX_RECALLED: usize = 400;

impl Store {
    /// Asks all other nodes to return the calls of these windows that they have not spent. The
    /// returned future ends when each node has returned them or its lease has ended.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn recall_shares(
        &self,
        tags: &[WindowTag],
    ) -> Result<impl Future<Output = ()> + Send + use<>, StoreError> {
        let _timer = self.timer("recall_shares");
        let under_way = self.changes.begin();
        let tags: Vec<String> = tags.iter().map(|tag| format!("{:016x}", tag.0)).collect();
        let (node, nobody) = (self.changes.node.uuid().simple(), uuid::Uuid::nil().simple());
        let number = under_way.number;
        let payload = format!("{RECALL} {node} {number} {nobody} {}", tags.join(","));
        let connection = self.shares.acquire().await;
        let mut connection = connection.map_err(|error| self.servers.no_connection(error))?;
        // If this future is dropped, a statement may still be running.
        connection.close_on_drop();
        sqlx::query!("SELECT /* rate_limits.recall */ pg_notify($1, $2)", CHANNEL, payload)
            .execute(&mut connection)
            .await?;
        let OtherNodes { rows, .. } = select_others(&mut connection, self.changes.node).await?;
        connection.keep();
        let ends = self.changes.ends_of_leases(&rows);
        Ok(async move { under_way.acknowledged_by(ends).await })
    }

    /// Acknowledges recalls of other nodes.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn acknowledge_recalls(&self, recalls: &[ChangeId]) -> Result<(), StoreError> {
        let connection = self.shares.acquire().await;
        let mut connection = connection.map_err(|error| self.servers.no_connection(error))?;
        Ok(acknowledge(&mut connection, self.changes.node, recalls).await?)
    }
}
