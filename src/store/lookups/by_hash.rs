use std::{sync::Arc, time::Duration};

use super::{
    gathered::Gathered,
    rows::{KeyAndAccount, StoredAdminKey, StoredLink, StoredSession},
};
use crate::store::{connection::Pool, servers::Servers};

/// Number of connections for lookups of API keys.
const API_KEY_CONNECTIONS: u32 = 2;

/// Number of connections for lookups of admin keys, sessions and links. Each kind runs one
/// statement at a time, so no kind waits for another.
const OTHER_CONNECTIONS: u32 = 3;

/// Number of connections for lookups, in addition to the pool.
pub(in crate::store) const CONNECTIONS: u32 = API_KEY_CONNECTIONS + OTHER_CONNECTIONS;

/// Settings of the connections for lookups. Postgres plans the statement once for all batches,
/// possibly while the tables are empty. The plan has to use the indexes even then.
pub(in crate::store) const SESSION: &str = "SET plan_cache_mode = force_generic_plan; \
     SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_hashjoin = off; \
     SET enable_mergejoin = off; SET jit = off";

/// The lookups of a node. They have their own connections, so that requests with unknown keys and
/// tokens cannot block other requests.
pub(in crate::store) struct Lookups {
    pub api_keys: Arc<Gathered<KeyAndAccount>>,
    pub admin_keys: Arc<Gathered<StoredAdminKey>>,
    pub sessions: Arc<Gathered<StoredSession>>,
    pub links: Arc<Gathered<StoredLink>>,
    pools: [Pool; 2],
}

impl Lookups {
    /// Creates the lookups. `pool` creates a pool with the given number of connections. `timeout`
    /// limits one batch, including the wait for its connection.
    pub fn new(timeout: Duration, servers: &Servers, pool: impl Fn(u32) -> Pool) -> Self {
        let (api_keys, others) = (pool(API_KEY_CONNECTIONS), pool(OTHER_CONNECTIONS));
        Self {
            api_keys: Arc::new(Gathered::new(
                api_keys.clone(),
                servers,
                API_KEY_CONNECTIONS,
                timeout,
            )),
            admin_keys: Arc::new(Gathered::new(others.clone(), servers, 1, timeout)),
            sessions: Arc::new(Gathered::new(others.clone(), servers, 1, timeout)),
            links: Arc::new(Gathered::new(others.clone(), servers, 1, timeout)),
            pools: [api_keys, others],
        }
    }

    pub fn pools(&self) -> &[Pool] {
        &self.pools
    }

    pub async fn close(&self) {
        let [api_keys, others] = &self.pools;
        tokio::join!(api_keys.close(), others.close());
    }
}
