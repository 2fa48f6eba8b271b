//! A simulated node. It receives every change, and acknowledges a change only when the test calls
//! `acknowledge`.

use std::pin::pin;

use sqlx::{PgPool, postgres::PgListener};
use tollgate::domain::tenant::Tenant;
use uuid::Uuid;

use super::within_patience;

/// A change by another node, as parsed from its notification.
#[derive(Debug)]
pub struct HeardChange {
    pub kind: String,
    /// The id of the node that made the change, without hyphens.
    node: String,
    number: u64,
    /// The id of the tenant that the change affects, without hyphens.
    tenant: String,
}

/// A simulated node: a row of `nodes`, and a session that listens for notifications.
pub struct PlayedNode {
    id: Uuid,
    listener: PgListener,
    pool: PgPool,
}

impl PlayedNode {
    /// Adds this node to the table `nodes`. Its lease does not end while a test runs, so every
    /// change waits until this node acknowledges it.
    pub async fn join(pool: &PgPool) -> Self {
        let id = Uuid::from_u128(0x7e57);
        let mut listener = PgListener::connect_with(pool).await.expect("the connection opens");
        let own = format!("tollgate_node_{}", id.simple());
        listener
            .listen_all(["tollgate_changes", own.as_str()])
            .await
            .expect("the listener subscribes");
        let no_bound = "ALTER TABLE nodes DROP CONSTRAINT nodes_lease_ms_check";
        sqlx::query(no_bound).execute(pool).await.expect("the constraint is dropped");
        let join = "INSERT INTO nodes (node_id, renewal, lease_ms, lease_ends_at)
                    VALUES ($1, 1, 3600000, clock_timestamp() + interval '1 hour')";
        sqlx::query(join).bind(id).execute(pool).await.expect("the row is inserted");
        Self { id, listener, pool: pool.clone() }
    }

    /// Returns the id of this node, without hyphens.
    pub fn id(&self) -> String {
        self.id.simple().to_string()
    }

    /// Waits for the next notification to all nodes or to this node. Returns its payload.
    pub async fn next(&mut self) -> String {
        let heard = within_patience("a notification arrives", self.listener.recv()).await;
        heard.expect("the session is open").payload().to_owned()
    }

    /// Waits for the next change that needs acknowledgements. Skips changes with the number 0.
    /// Database triggers announce these changes, which need no acknowledgements.
    pub async fn next_change(&mut self) -> HeardChange {
        loop {
            let payload = self.next().await;
            let words: Vec<&str> = payload.split(' ').collect();
            let [kind, node, number, tenant, ..] = words[..] else {
                panic!("{payload} is not a change");
            };
            let [kind, node, tenant] = [kind, node, tenant].map(str::to_owned);
            let number = number.parse().expect("the text is a number");
            if number != 0 {
                return HeardChange { kind, node, number, tenant };
            }
        }
    }

    pub async fn acknowledge(&self, change: &HeardChange) {
        sqlx::query("SELECT pg_notify($1, $2)")
            .bind(format!("tollgate_node_{}", change.node))
            .bind(format!("applied {} {}", self.id(), change.number))
            .execute(&self.pool)
            .await
            .expect("the notification is sent");
    }

    /// Runs an operation that announces one change of this kind. Asserts that the operation does
    /// not end before this node has acknowledged the change.
    pub async fn acknowledge_change_of<T>(
        &mut self,
        kind: &str,
        tenant: &Tenant,
        operation: impl Future<Output = T>,
    ) -> T {
        let mut operation = pin!(operation);
        let change = tokio::select! {
            change = self.next_change() => change,
            _ = &mut operation => panic!("the operation ended without announcing a change"),
        };
        change.expect(kind, tenant);
        // This time is long enough for an operation that does not wait for the acknowledgement.
        let pause = tokio::time::sleep(std::time::Duration::from_millis(100));
        tokio::select! {
            () = pause => {}
            _ = &mut operation => panic!("the operation ended before {change:?} was acknowledged"),
        }
        self.acknowledge(&change).await;
        within_patience("the operation ends", operation).await
    }
}

impl HeardChange {
    #[track_caller]
    pub fn expect(&self, kind: &str, tenant: &Tenant) {
        let tenant = tenant.id.uuid().simple().to_string();
        assert_eq!((self.kind.as_str(), &self.tenant), (kind, &tenant), "{self:?}");
    }
}
