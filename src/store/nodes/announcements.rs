//! Announces changes, and waits until every node has applied them.

use tokio::time::{Instant, sleep_until, timeout_at};

use super::sessions::{MAX_LEASE, OtherNodes, select_others};
use crate::{
    domain::{
        account::AccountId,
        api_key::{KeyHash, KeyTag},
        id::{KeyId, TenantId},
        server::ServerId,
    },
    store::{
        Store, StoreError,
        changes::{Affected, Change, ChangeKind},
        connection::Connection,
        transaction::{Committed, Tx},
    },
};

impl Change {
    /// Waits until no node uses the state from before the change. Each node has then applied the
    /// change, or its lease has ended. `connection` has committed the change. This method also
    /// reads the rows of the nodes on this connection. Another connection may reach a server
    /// without the row of a node that has just joined.
    pub(in crate::store) async fn settle(self, store: &Store, mut connection: Committed) {
        let committed = Instant::now();
        let changes = &self.under_way.changes;
        changes.apply_here(&self.affected);
        if let Some(committed_on) = changes.committed_on.get() {
            committed_on(self.server);
        }
        let _timer = store.timer("settle_change");
        let deadline = committed + MAX_LEASE;
        let others = timeout_at(deadline, select_others(&mut *connection, changes.node)).await;
        let rows = match others {
            Ok(Ok(OtherNodes { server, rows })) if server == self.server => rows,
            _ => {
                // The nodes to wait for are unknown. So this method waits until every lease from
                // before the commit has ended.
                connection.close();
                sleep_until(deadline).await;
                return;
            }
        };
        drop(connection);
        self.under_way.acknowledged_by(changes.ends_of_leases(&rows)).await;
    }
}

impl Store {
    /// Sets the function that applies a change on this node.
    ///
    /// # Panics
    ///
    /// If the function is already set. A store belongs to one node.
    pub fn on_change(&self, apply: impl Fn(Affected) + Send + Sync + 'static) {
        let said = self.changes.apply_here.set(Box::new(apply));
        assert!(said.is_ok(), "a store belongs to one node");
    }

    /// Sets the function to call with the server on which this node has committed a change. The
    /// store calls it before the change returns.
    ///
    /// # Panics
    ///
    /// If the function is already set. A store belongs to one node.
    pub fn on_commit(&self, committed_on: impl Fn(ServerId) + Send + Sync + 'static) {
        let said = self.changes.committed_on.set(Box::new(committed_on));
        assert!(said.is_ok(), "a store belongs to one node");
    }

    /// Announces a change that lists no API keys, and commits it. Returns the server that committed
    /// the change, as soon as no node accepts a request that the change forbids.
    ///
    /// For a change to rate limits, nodes drop all cached data. For the other kinds, nodes
    /// invalidate nothing, because they read admin keys, sessions and links for each request on the
    /// server that granted their lease. However, this method waits until a node with a lease from a
    /// deposed server has lost that lease. If this node's own session is on another server, the
    /// callback of [`Self::on_commit`] ends this node's own lease.
    pub(in crate::store) async fn commit_announced(
        &self,
        mut tx: Tx,
        tenant: TenantId,
        kind: ChangeKind,
    ) -> Result<ServerId, StoreError> {
        let change = self.changes.announce(&mut tx, tenant, kind, Vec::new()).await?;
        let (server, committed) = (change.server, tx.commit_and_keep().await?);
        change.settle(self, committed).await;
        Ok(server)
    }

    /// Announces a change to one key. `with_chain` also announces it for the other live keys of its
    /// chain of rotations, whose rate limits are the same.
    pub(in crate::store) async fn announce_key(
        &self,
        connection: &mut Connection,
        tenant: TenantId,
        account_id: AccountId,
        key_id: KeyId,
        kind: ChangeKind,
        with_chain: bool,
    ) -> Result<Change, StoreError> {
        let hashes = sqlx::query_scalar!(
            "SELECT /* changes.announce_key */ other.key_hash
             FROM api_keys k JOIN api_keys other USING (account_id)
             WHERE k.account_id = $1 AND k.key_id = $2
               AND (other.key_id = k.key_id
                    OR $3 AND coalesce(other.spends_as, other.key_id)
                              = coalesce(k.spends_as, k.key_id)
                          AND key_is_live(other.revoked_at, other.expires_at, clock_timestamp()))",
            account_id.uuid(),
            key_id.uuid(),
            with_chain,
        )
        .fetch_all(&mut *connection)
        .await?;
        let tags = hashes.iter().map(|hash| stored_tag(hash)).collect::<Result<_, _>>()?;
        self.changes.announce(connection, tenant, kind, tags).await
    }

    /// Announces a change to an account that affects all its live keys.
    pub(in crate::store) async fn announce_account(
        &self,
        connection: &mut Connection,
        tenant: TenantId,
        account_id: AccountId,
        kind: ChangeKind,
    ) -> Result<Change, StoreError> {
        let hashes = sqlx::query_scalar!(
            "SELECT /* changes.announce_account */ key_hash FROM api_keys
             WHERE account_id = $1 AND key_is_live(revoked_at, expires_at, clock_timestamp())",
            account_id.uuid(),
        )
        .fetch_all(&mut *connection)
        .await?;
        let tags = hashes.iter().map(|hash| stored_tag(hash)).collect::<Result<Vec<_>, _>>()?;
        // Without tags, a change of the kind `Limits` would affect all keys of the tenant.
        let kind = if tags.is_empty() { ChangeKind::Account } else { kind };
        self.changes.announce(connection, tenant, kind, tags).await
    }
}

fn stored_tag(hash: &[u8]) -> Result<KeyTag, StoreError> {
    let bytes = <[u8; 32]>::try_from(hash);
    let bytes = bytes.map_err(|error| StoreError::corrupt("api_keys.key_hash", error))?;
    Ok(KeyHash::from_bytes(bytes).tag())
}
