//! A node that a test plays: it receives every change, and acknowledges a change when the test
//! tells it to.

use std::pin::pin;

use sqlx::{PgPool, postgres::PgListener};
use tollgate::domain::tenant::Tenant;
use uuid::Uuid;

use super::within_patience;

/// A change of another node, as its notification names it.
#[derive(Debug)]
pub struct HeardChange {
    pub kind: String,
    /// The id of the node, without hyphens.
    node: String,
    number: u64,
    /// The id of the tenant, without hyphens.
    tenant: String,
}

/// A row of `nodes`, and a session that listens.
pub struct PlayedNode {
    id: Uuid,
    listener: PgListener,
    pool: PgPool,
}

impl PlayedNode {
    /// Adds this node to those of the database. Its lease does not end while a test runs, so a
    /// change waits until this node acknowledges it.
    pub async fn join(pool: &PgPool) -> Self {
        let id = Uuid::from_u128(0x7e57);
        let mut listener = PgListener::connect_with(pool).await.expect("a connection");
        let own = format!("tollgate_node_{}", id.simple());
        listener
            .listen_all(["tollgate_changes", own.as_str()])
            .await
            .expect("the listener listens");
        let no_bound = "ALTER TABLE nodes DROP CONSTRAINT nodes_lease_ms_check";
        sqlx::query(no_bound).execute(pool).await.expect("the constraint is dropped");
        let join = "INSERT INTO nodes (node_id, renewal, lease_ms, lease_ends_at)
                    VALUES ($1, 1, 3600000, clock_timestamp() + interval '1 hour')";
        sqlx::query(join).bind(id).execute(pool).await.expect("the row is inserted");
        Self { id, listener, pool: pool.clone() }
    }

    /// The id of this node, without hyphens.
    pub fn id(&self) -> String {
        self.id.simple().to_string()
    }

    /// The payload of the next notification, for all nodes or for this one.
    pub async fn next(&mut self) -> String {
        let heard = within_patience("a notification arrives", self.listener.recv()).await;
        heard.expect("the session is open").payload().to_owned()
    }

    /// The next change that waits for acknowledgements. Changes by triggers have the number 0.
    pub async fn next_change(&mut self) -> HeardChange {
        loop {
            let payload = self.next().await;
            let words: Vec<&str> = payload.split(' ').collect();
            let [kind, node, number, tenant, ..] = words[..] else {
                panic!("{payload} names no change");
            };
            let [kind, node, tenant] = [kind, node, tenant].map(str::to_owned);
            let number = number.parse().expect("a number");
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

    /// Runs an operation that announces one change of this kind, and asserts that it does not end
    /// before this node has acknowledged the change.
    pub async fn acknowledge_change_of<T>(
        &mut self,
        kind: &str,
        tenant: &Tenant,
        operation: impl Future<Output = T>,
    ) -> T {
        let mut operation = pin!(operation);
        let change = tokio::select! {
            change = self.next_change() => change,
            _ = &mut operation => panic!("the operation has announced no change"),
        };
        change.expect(kind, tenant);
        // An operation that does not wait for the acknowledgement ends within this time.
        let pause = tokio::time::sleep(std::time::Duration::from_millis(100));
        tokio::select! {
            () = pause => {}
            _ = &mut operation => panic!("the operation has not waited for {change:?}"),
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
