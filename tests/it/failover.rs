//! A primary with a standby, and a load balancer that routes connections to the wrong server.

use std::{pin::pin, sync::Arc, time::Duration};

use axum::Router;
use serde_json::json;
use sqlx::AssertSqlSafe;
use tollgate::{
    domain::{
        account::{AccountFormat, ExternalId},
        audit::Origin,
    },
    node::{Node, NodeSettings},
    postgres::{DATABASE, Options, PrivatePostgres},
    state::Limits,
    store::{PoolSettings, Store, StoreError},
};
use tower::ServiceExt as _;

use crate::harness::{
    App, Call, PATIENCE,
    app::{NewKey, service, start_node_with, state_of},
    cluster, eventually,
    played_node::PlayedNode,
    process::{Process, tollgate},
    proxy::Proxy,
    standby::Standby,
};

type Requests = tokio::task::JoinSet<Result<axum::response::Response, std::convert::Infallible>>;
type Lock = sqlx::Transaction<'static, sqlx::Postgres>;

/// A primary, its standby, and two nodes. The first node connects to the primary. The second node
/// is called the balanced node. It has one load balancer for its queries and another for its
/// listener session.
pub struct Pair {
    pub primary: PrivatePostgres,
    options: Options,
    pub standby: Standby,
    pub balancer: Proxy,
    pub balancer_of_session: Proxy,
    pub app: App,
    balanced: Router,
    balanced_node: Node,
}

impl Pair {
    pub async fn start(name: &str) -> Self {
        Self::start_with(name, NodeSettings::default(), Duration::from_secs(1)).await
    }

    /// Starts both servers and both nodes. `settings` applies to the balanced node.
    /// `acquire_timeout` is how long its requests wait for a connection.
    async fn start_with(name: &str, settings: NodeSettings, acquire_timeout: Duration) -> Self {
        let options = cluster::options(&format!("{name}-primary"));
        let started = {
            let options = options.clone();
            tokio::task::spawn_blocking(move || PrivatePostgres::start(&options))
        };
        let primary = started.await.expect("the task does not panic").expect("Postgres starts");
        let url = primary.url(DATABASE);
        let store =
            Store::connect(&cluster::pool_settings(&url)).await.expect("the database is reachable");
        store.migrate().await.expect("the migrations apply");
        store.close().await;
        let app = App::on(&url).await;
        let standby = Standby::of(&primary, &options, &format!("{name}-standby")).await;
        let balancer = Proxy::start(primary_socket(&primary)).await;
        let balancer_of_session = Proxy::start(primary_socket(&primary)).await;
        let pool = PoolSettings {
            listen_url: Some(balancer_of_session.url(DATABASE)),
            acquire_timeout,
            ..cluster::pool_settings(&balancer.url(DATABASE))
        };
        let store = Store::connect(&pool).await.expect("the database is reachable");
        let balanced_node = start_node_with(Arc::new(store), settings).await;
        let balanced = service(state_of(balanced_node.clone(), Limits::default()));
        Self {
            primary,
            options,
            standby,
            balancer,
            balancer_of_session,
            app,
            balanced,
            balanced_node,
        }
    }

    /// Makes the balancer route new connections to the standby, and closes the open connections.
    async fn lead_to_standby(&self) {
        self.standby.catch_up(&self.app.pool).await;
        self.standby.pause_replay().await;
        self.lead_to_promoted().await;
    }

    /// Makes the balancer route new connections to the promoted standby, and closes the open
    /// connections.
    async fn lead_to_promoted(&self) {
        self.balancer.lead_to(self.standby.socket());
        let terminate = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                         WHERE application_name = 'tollgate'";
        sqlx::query(terminate).execute(&self.app.pool).await.expect("the connections are closed");
    }

    /// Routes the node's session and its queries to this server, and closes the open connections to
    /// both servers.
    async fn lead_everything_to(&self, socket: std::path::PathBuf) {
        self.balancer.lead_to(socket.clone());
        self.balancer_of_session.lead_to(socket);
        let terminate = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                         WHERE application_name LIKE 'tollgate%'";
        for pool in [&self.app.pool, &self.standby.pool] {
            sqlx::query(terminate).execute(pool).await.expect("the connections are closed");
        }
    }

    /// Sends requests whose lookups wait on the primary until the returned lock is dropped.
    async fn keep_busy(&self, table: &str, calls: Vec<Call>) -> (Requests, Lock) {
        let mut lock = self.app.pool.begin().await.expect("the transaction begins");
        let statement = AssertSqlSafe(format!("LOCK TABLE {table}"));
        sqlx::query(statement).execute(&mut *lock).await.expect("Postgres grants the lock");
        let mut requests = Requests::new();
        // The requests are sequential, because concurrent lookups would share a statement.
        for call in calls {
            requests.spawn(self.balanced.clone().oneshot(call.into_request()));
            let all_wait = async || {
                let waiting = "SELECT count(*) FROM pg_stat_activity
                               WHERE query LIKE '%lookups.%' AND wait_event_type = 'Lock'";
                let waiting = sqlx::query_scalar::<_, i64>(waiting).fetch_one(&self.app.pool).await;
                usize::try_from(waiting.expect("the query returns a number")) == Ok(requests.len())
            };
            eventually("the lookup waits", all_wait).await;
        }
        (requests, lock)
    }

    /// Sends a request that waits behind the requests of [`keep_busy`](Self::keep_busy), and then
    /// releases the lock.
    async fn ask_behind(&self, lock: Lock, call: Call) -> u16 {
        let mut request = pin!(self.ask(call));
        // The test cannot observe when the request begins to wait, so it polls the request many
        // times.
        for _ in 0..100 {
            tokio::select! {
                biased;
                status = request.as_mut() => panic!("the request got {status} without waiting"),
                () = tokio::task::yield_now() => {}
            }
        }
        drop(lock);
        request.await
    }

    /// Deposes the primary. Routes new connections to the new primary until it has granted the
    /// node's lease. The connections for lookups stay on the old primary.
    async fn move_lease_to_promoted(&self) -> App {
        self.depose_primary().await;
        self.balancer.lead_to(self.standby.socket());
        self.balancer_of_session.lead_to(self.standby.socket());
        let sessions = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                        WHERE application_name = 'tollgate listener'";
        sqlx::query(sessions).execute(&self.app.pool).await.expect("the connections are closed");
        let new = App::on(&self.standby.url()).await;
        let granted = async || {
            let renewals = "SELECT count(*) FROM nodes
                            WHERE lease_ends_at > clock_timestamp() - interval '100 milliseconds'";
            let nodes = sqlx::query_scalar::<_, i64>(renewals).fetch_one(&new.pool).await;
            nodes.expect("the query returns a number") == 2
                && self.balanced_node.verifier().holds_lease()
        };
        eventually("the new primary grants the lease", granted).await;
        new
    }

    /// Turns on synchronous replication, and then promotes the standby. Afterwards the old primary
    /// still serves reads, but acknowledges no commit.
    async fn depose_primary(&self) {
        for statement in
            ["ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()"]
        {
            sqlx::query(statement)
                .execute(&self.app.pool)
                .await
                .expect("Postgres accepts the setting");
        }
        let is_synchronous = async || {
            sqlx::query_scalar::<_, bool>(
                "SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'",
            )
            .fetch_one(&self.app.pool)
            .await
            .expect("the query succeeds")
        };
        eventually("the standby is synchronous", is_synchronous).await;
        self.standby.promote().await;
    }

    fn lead_to_primary(&self) {
        self.balancer.lead_to(primary_socket(&self.primary));
    }

    /// Sends a request to the balanced node. Returns the status of the response.
    async fn ask(&self, call: Call) -> u16 {
        let answer = self.balanced.clone().oneshot(call.into_request()).await;
        answer.expect("the router is infallible").status().as_u16()
    }

    pub async fn end(self) {
        drop(self.standby);
        self.app.store.close().await;
        let primary = self.primary;
        tokio::task::spawn_blocking(|| primary.stop().expect("Postgres stops"))
            .await
            .expect("the task does not panic");
        std::fs::remove_dir_all(self.options.data_dir).expect("the test owns the directory");
    }
}

pub fn primary_socket(primary: &PrivatePostgres) -> std::path::PathBuf {
    primary.socket_dir().join(".s.PGSQL.5432")
}

pub fn authorize(key: &NewKey) -> Call {
    key.call("GET", "/v1/authorize/tronagg/live")
}

/// The primary notifies the node of the revocation before the standby has replayed it. If the node
/// read the row on the standby, the outdated row would stay in its cache.
#[tokio::test(flavor = "multi_thread")]
async fn revoked_key_that_is_still_live_on_a_standby_is_refused() {
    let pair = Pair::start("stale").await;
    let wallet = pair.app.wallet("10").await;
    let [key, other] = [
        pair.app.key(&pair.app.tronagg, wallet).await,
        pair.app.key(&pair.app.tronagg, wallet).await,
    ];
    assert_eq!(pair.ask(authorize(&key)).await, 200);
    pair.lead_to_standby().await;
    let revoke = pair.app.tronagg.call("POST", &format!("{}/revoke", key.path)).json(json!({}));
    pair.app.send(revoke).await.expect(200);
    let stale = "SELECT revoked_at IS NULL FROM api_keys ORDER BY key_id LIMIT 1";
    let stale = sqlx::query_scalar::<_, bool>(AssertSqlSafe(stale)).fetch_one(&pair.standby.pool);
    assert!(stale.await.expect("the query succeeds"), "the standby does not show the revocation");
    for _ in 0..3 {
        assert_eq!(pair.ask(authorize(&key)).await, 503);
    }
    pair.lead_to_primary();
    eventually("the node refuses the key", async || pair.ask(authorize(&key)).await == 401).await;
    assert_eq!(pair.ask(authorize(&other)).await, 200);
    pair.end().await;
}

/// The key is still live on the old primary. But the old primary grants no lease, because it cannot
/// acknowledge a renewal.
#[tokio::test(flavor = "multi_thread")]
async fn node_on_a_deposed_primary_refuses_keys_that_were_revoked_on_the_new_primary() {
    let pair = Pair::start("deposed").await;
    let wallet = pair.app.wallet("10").await;
    let key = pair.app.key(&pair.app.tronagg, wallet).await;
    assert_eq!(pair.ask(authorize(&key)).await, 200);
    pair.depose_primary().await;
    let new = App::on(&pair.standby.url()).await;
    let revoke = new.tronagg.call("POST", &format!("{}/revoke", key.path)).json(json!({}));
    new.send(revoke).await.expect(200);
    let stale = "SELECT bool_and(revoked_at IS NULL) FROM api_keys";
    let stale = sqlx::query_scalar::<_, bool>(stale).fetch_one(&pair.app.pool).await;
    assert!(stale.expect("the query succeeds"), "the old primary does not show the revocation");
    for _ in 0..3 {
        assert_eq!(pair.ask(authorize(&key)).await, 503);
    }
    new.store.close().await;
    pair.end().await;
}

/// The connections for lookups are busy on the old primary while the new primary grants the node's
/// lease. A lookup on these connections would return the outdated row of the old primary.
#[tokio::test(flavor = "multi_thread")]
async fn node_reads_keys_only_on_the_server_that_granted_its_lease() {
    let pair = Pair::start_with("lookup", NodeSettings::default(), PATIENCE).await;
    let wallet = pair.app.wallet("10").await;
    let mut keys = Vec::new();
    for _ in 0..3 {
        keys.push(pair.app.key(&pair.app.tronagg, wallet).await);
    }
    let revoked = keys.pop().expect("there are three keys");
    let calls = keys.iter().map(authorize).collect();
    let (busy, lock) = pair.keep_busy("api_keys", calls).await;
    let new = pair.move_lease_to_promoted().await;
    let revoke = new.tronagg.call("POST", &format!("{}/revoke", revoked.path)).json(json!({}));
    new.send(revoke).await.expect(200);
    assert_eq!(pair.ask_behind(lock, authorize(&revoked)).await, 401);
    for answer in busy.join_all().await {
        assert_eq!(answer.expect("the router is infallible").status(), 200);
    }
    new.store.close().await;
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn node_reads_admin_keys_only_on_the_server_that_granted_its_lease() {
    let pair = Pair::start_with("admin", NodeSettings::default(), PATIENCE).await;
    let tenant = &pair.app.tronagg.tenant;
    let admin_key = pair.app.tronagg.admin_key_with(&pair.app, &["audit"]).await;
    let keys = pair.app.store.list_admin_keys(tenant).await.expect("the query succeeds");
    let list = |admin_key: &str| Call::new("GET", "/v1/audit-events").bearer(admin_key);
    let (busy, lock) = pair.keep_busy("admin_keys", vec![list(&pair.app.tronagg.admin_key)]).await;
    let new = pair.move_lease_to_promoted().await;
    new.store
        .revoke_admin_key(tenant, keys[0].id, &Origin::cli())
        .await
        .expect("the key is revoked");
    assert_eq!(pair.ask_behind(lock, list(&admin_key)).await, 401);
    for answer in busy.join_all().await {
        assert_eq!(answer.expect("the router is infallible").status(), 200);
    }
    new.store.close().await;
    pair.end().await;
}

/// The node's session is on the new primary, which has not granted a lease yet. The connections for
/// lookups are still on the old primary, where the key is live.
#[tokio::test(flavor = "multi_thread")]
async fn node_reads_no_key_before_the_first_renewal_of_a_new_session() {
    let pair = Pair::start("renewal").await;
    let wallet = pair.app.wallet("10").await;
    let key = pair.app.key(&pair.app.tronagg, wallet).await;
    assert_eq!(pair.ask(authorize(&key)).await, 200);
    pair.depose_primary().await;
    let new = App::on(&pair.standby.url()).await;
    let revoke = new.tronagg.call("POST", &format!("{}/revoke", key.path)).json(json!({}));
    new.send(revoke).await.expect(200);
    let mut no_renewals = new.pool.begin().await.expect("the transaction begins");
    sqlx::query("LOCK TABLE nodes")
        .execute(&mut *no_renewals)
        .await
        .expect("Postgres grants the lock");
    pair.balancer_of_session.lead_to(pair.standby.socket());
    let old_session = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                       WHERE application_name = 'tollgate listener'";
    sqlx::query(old_session).execute(&pair.app.pool).await.expect("the connections are closed");
    let has_session = async || {
        let waiting = "SELECT count(*) >= 2 FROM pg_stat_activity
                       WHERE application_name = 'tollgate listener' AND wait_event_type = 'Lock'";
        let waiting = sqlx::query_scalar::<_, bool>(waiting).fetch_one(&new.pool).await;
        waiting.expect("the query succeeds") && !pair.balanced_node.verifier().holds_lease()
    };
    eventually("the node has a session without a lease", has_session).await;
    for _ in 0..3 {
        assert_eq!(pair.ask(authorize(&key)).await, 503);
    }
    drop(no_renewals);
    pair.balancer.lead_to(pair.standby.socket());
    eventually("the node refuses the key", async || pair.ask(authorize(&key)).await == 401).await;
    new.store.close().await;
    pair.end().await;
}

/// The node commits a change on the new primary. Its session is still on the old primary, which
/// granted its lease.
#[tokio::test(flavor = "multi_thread")]
async fn node_that_commits_a_change_on_another_server_gives_up_its_lease() {
    let settings = NodeSettings { lease: Duration::from_secs(10), ..NodeSettings::default() };
    let pair = Pair::start_with("own", settings, Duration::from_secs(1)).await;
    let wallet = pair.app.wallet("10").await;
    let key = pair.app.key(&pair.app.tronagg, wallet).await;
    assert_eq!(pair.ask(authorize(&key)).await, 200);
    pair.depose_primary().await;
    pair.lead_to_promoted().await;
    assert!(pair.balanced_node.verifier().holds_lease());
    let (account, id) = (
        ExternalId::parse(wallet, AccountFormat::Tron).expect("the account id is valid"),
        key.id.parse().expect("the account id is valid"),
    );
    let (tenant, origin) = (&pair.app.tronagg.tenant, Origin::cli());
    let account = pair.balanced_node.store().account(tenant, &account, &origin);
    account.revoke_api_key(id, None).await.expect("the key is revoked");
    assert!(!pair.balanced_node.verifier().holds_lease());
    assert_eq!(pair.ask(authorize(&key)).await, 503);
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn node_that_revokes_an_admin_key_on_another_server_gives_up_its_lease() {
    let settings = NodeSettings { lease: Duration::from_secs(10), ..NodeSettings::default() };
    let pair = Pair::start_with("own-admin", settings, Duration::from_secs(1)).await;
    let tenant = &pair.app.tronagg.tenant;
    pair.app.tronagg.admin_key_with(&pair.app, &["audit"]).await;
    let keys = pair.app.store.list_admin_keys(tenant).await.expect("the query succeeds");
    pair.depose_primary().await;
    pair.lead_to_promoted().await;
    assert!(pair.balanced_node.verifier().holds_lease());
    let store = pair.balanced_node.store();
    let revoked = store.revoke_admin_key(tenant, keys[0].id, &Origin::cli()).await;
    revoked.expect("the admin key is revoked");
    assert!(!pair.balanced_node.verifier().holds_lease());
    pair.end().await;
}

/// There are no sessions, so the call changes nothing. It must still wait for the commit, because
/// the new primary may have sessions that the old primary does not have.
#[tokio::test(flavor = "multi_thread")]
async fn deposed_primary_does_not_acknowledge_a_change_that_has_no_effect() {
    let pair = Pair::start("nothing").await;
    let (store, tenant) = (pair.app.store.clone(), pair.app.tronagg.tenant.clone());
    let origin = Origin::cli();
    // During the first calls, Postgres itself may write data. Later calls write nothing.
    for _ in 0..3 {
        store.end_dashboard_sessions_of_tenant(&tenant, &origin).await.expect("the call succeeds");
    }
    // Postgres serializes commits that send notifications. Renewals send notifications, so the lock
    // blocks renewals.
    let mut no_renewals = pair.app.pool.begin().await.expect("the transaction begins");
    sqlx::query("LOCK TABLE nodes IN EXCLUSIVE MODE")
        .execute(&mut *no_renewals)
        .await
        .expect("Postgres grants the lock");
    pair.depose_primary().await;
    let end = async move { store.end_dashboard_sessions_of_tenant(&tenant, &origin).await };
    let end = tokio::spawn(end);
    let waits = async || {
        let waits = "SELECT count(*) > 0 FROM pg_stat_activity
                     WHERE application_name = 'tollgate' AND query = 'COMMIT'
                       AND wait_event = 'SyncRep'";
        sqlx::query_scalar::<_, bool>(waits)
            .fetch_one(&pair.app.pool)
            .await
            .expect("the query succeeds")
    };
    eventually("the commit waits for the standby", waits).await;
    assert!(!end.is_finished());
    end.abort();
    drop(no_renewals);
    pair.end().await;
}

/// The old primary is not fenced, so it would accept writes.
#[tokio::test(flavor = "multi_thread")]
async fn node_that_has_used_the_new_primary_never_returns_to_the_old_primary() {
    let pair = Pair::start("timeline").await;
    let wallet = pair.app.wallet("10").await;
    let key = pair.app.key(&pair.app.tronagg, wallet).await;
    assert_eq!(pair.ask(key.buy("1")).await, 201);
    pair.standby.catch_up(&pair.app.pool).await;
    pair.standby.promote().await;
    pair.lead_everything_to(pair.standby.socket()).await;
    eventually("the node buys on the new primary", async || pair.ask(key.buy("1")).await == 201)
        .await;
    pair.lead_everything_to(primary_socket(&pair.primary)).await;
    for _ in 0..2 {
        assert_eq!(pair.ask(key.buy("1")).await, 503);
        assert_eq!(pair.ask(Call::new("GET", "/readyz")).await, 503);
    }
    let on_old = "SELECT count(*) FROM purchases";
    let on_old = sqlx::query_scalar::<_, i64>(on_old).fetch_one(&pair.app.pool).await;
    assert_eq!(on_old.expect("the query returns a number"), 1);
    pair.lead_everything_to(pair.standby.socket()).await;
    eventually("the node buys again", async || pair.ask(key.buy("1")).await == 201).await;
    pair.end().await;
}

/// The command commits on the new primary. A node is registered there, but not on the old primary.
/// An idle connection of the command's pool is still on the old primary.
#[tokio::test(flavor = "multi_thread")]
async fn change_waits_for_the_nodes_of_the_server_on_which_it_was_committed() {
    let pair = Pair::start("nodes").await;
    let wallet = pair.app.wallet("10").await;
    let key = pair.app.key(&pair.app.tronagg, wallet).await;
    pair.standby.catch_up(&pair.app.pool).await;
    pair.standby.promote().await;
    let mut joined = PlayedNode::join(&pair.standby.pool).await;
    // The table `nodes` on the old primary is empty.
    let mut without_nodes = pair.app.pool.begin().await.expect("the transaction begins");
    for statement in [
        "CREATE FUNCTION keep_away() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN RETURN NULL; END $$",
        "CREATE TRIGGER a_keep_away BEFORE INSERT ON nodes
             FOR EACH ROW EXECUTE FUNCTION keep_away()",
        "DELETE FROM nodes",
    ] {
        sqlx::query(statement).execute(&mut *without_nodes).await.expect(statement);
    }
    without_nodes.commit().await.expect("the transaction commits");

    // A store without a node, such as the store of a command, accepts any primary.
    let settings =
        PoolSettings { max_connections: 4, ..cluster::pool_settings(&pair.balancer.url(DATABASE)) };
    let store = Arc::new(Store::connect(&settings).await.expect("the database is reachable"));
    let tenant = pair.app.tronagg.tenant.clone();
    // The first connection is on the old primary. It is busy until the second connection is open.
    let mut lock = pair.app.pool.begin().await.expect("the transaction begins");
    sqlx::query("LOCK TABLE tenants").execute(&mut *lock).await.expect("Postgres grants the lock");
    let reader = Arc::clone(&store);
    let reads = tokio::spawn(async move { reader.list_tenants().await });
    let is_waiting = async || {
        let waiting = "SELECT count(*) > 0 FROM pg_stat_activity
                       WHERE query LIKE '%tenants.list_tenants%' AND wait_event_type = 'Lock'";
        sqlx::query_scalar::<_, bool>(waiting)
            .fetch_one(&pair.app.pool)
            .await
            .expect("the query succeeds")
    };
    eventually("the first connection waits", is_waiting).await;
    pair.balancer.lead_to(pair.standby.socket());
    let acknowledgements = store.hear_acknowledgements().await.expect("the connection opens");
    let mut held = pair.standby.pool.begin().await.expect("the transaction begins");
    sqlx::query("LOCK TABLE accounts").execute(&mut *held).await.expect("Postgres grants the lock");
    let (account, key_id) = (
        ExternalId::parse(wallet, AccountFormat::Tron).expect("the account id is valid"),
        key.id.parse().expect("the account id is valid"),
    );
    let changes = Arc::clone(&store);
    let revoke = async move {
        let origin = Origin::cli();
        changes.account(&tenant, &account, &origin).revoke_api_key(key_id, None).await
    };
    let is_blocked = async || {
        let blocked = "SELECT count(*) > 0 FROM pg_stat_activity
                       WHERE application_name = 'tollgate' AND wait_event_type = 'Lock'";
        let blocked = sqlx::query_scalar::<_, bool>(blocked).fetch_one(&pair.standby.pool).await;
        blocked.expect("the query succeeds")
    };
    let revoke = tokio::spawn(revoke);
    eventually("the revocation waits on the new primary", is_blocked).await;
    drop(lock);
    reads.await.expect("the task does not panic").expect("the query succeeds");
    drop(held);
    let revoke =
        async { revoke.await.expect("the task does not panic").expect("the key is revoked") };
    joined.acknowledge_change_of("keys", &pair.app.tronagg.tenant, revoke).await;
    drop(acknowledgements);
    store.close().await;
    pair.end().await;
}

/// A command has no listener session, so its pool cannot compare the server of a connection with
/// the server of the session.
#[tokio::test(flavor = "multi_thread")]
async fn store_without_a_session_does_not_read_a_standby() {
    let pair = Pair::start("command").await;
    let settings = PoolSettings {
        acquire_timeout: Duration::from_millis(500),
        ..cluster::pool_settings(&pair.balancer.url(DATABASE))
    };
    let store = Store::connect(&settings).await.expect("the database is reachable");
    store.list_tenants().await.expect("the query succeeds");
    pair.lead_to_standby().await;
    let refused = store.list_tenants().await.err();
    assert!(matches!(refused, Some(StoreError::Unavailable(_))), "{refused:?}");
    pair.lead_to_primary();
    store.list_tenants().await.expect("the query succeeds");
    store.close().await;
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn node_that_was_routed_to_a_standby_recovers_without_a_restart() {
    let pair = Pair::start("write").await;
    let wallet = pair.app.wallet("10").await;
    let key = pair.app.key(&pair.app.tronagg, wallet).await;
    let keys = format!("/v1/accounts/{wallet}/keys");
    let create = || pair.app.tronagg.call("POST", &keys).json(json!({"name": "another"}));
    assert_eq!(pair.ask(create()).await, 201);
    pair.lead_to_standby().await;
    assert_eq!(pair.ask(create()).await, 503);
    assert_eq!(pair.ask(Call::new("GET", "/readyz")).await, 503);
    pair.lead_to_primary();
    assert_eq!(pair.ask(create()).await, 201);
    assert_eq!(pair.ask(key.buy("1")).await, 201);
    assert_eq!(pair.ask(Call::new("GET", "/readyz")).await, 200);
    pair.app.check_ledger().await;
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn service_on_a_standby_waits_for_its_promotion() {
    let pair = Pair::start("promotion").await;
    pair.app.wallet("10").await;
    pair.standby.catch_up(&pair.app.pool).await;
    let url = pair.standby.url();
    let log = cluster::directory("promotion.log");
    let mut service = tollgate(&["serve"]);
    service.env("DATABASE_URL", &url);
    let service = Process::start(service, &log);
    let waiting = "is a standby. Waiting until it is promoted";
    assert_eq!(service.log().matches(waiting).count(), 1, "{}", service.log());
    assert_eq!(service.send(Call::new("GET", "/livez")).status, 200);
    for path in ["/readyz", "/v1/me", "/dashboard"] {
        let answer = service.send(Call::new("GET", path));
        answer.expect_problem(503, "unavailable");
    }

    let run = |arguments: &[&str]| {
        let mut command = tollgate(arguments);
        let output = command.env("DATABASE_URL", &url).output().expect("the program runs");
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(text).expect("the text is UTF-8"))
    };
    for (arguments, expected) in [
        (&["tenant", "list"][..], "tronagg"),
        (&["tenant", "show", "tronagg"], "ta_"),
        (&["tenant", "limits", "tronagg"], "key limits"),
        (&["admin-key", "list", "tronagg"], "live"),
        (&["ledger", "verify"], "no fault"),
        (&["ledger", "head"], "tronagg live"),
    ] {
        let (succeeded, text) = run(arguments);
        assert!(succeeded && text.contains(expected), "{arguments:?}: {text}");
    }
    for arguments in [
        &["migrate"][..],
        &["tenant", "create", "x", "--prefix", "x_"],
        &["tenant", "limits", "tronagg", "--no-limits"],
    ] {
        let (succeeded, text) = run(arguments);
        let expected = "is a standby, which is read-only. Connect to the primary";
        assert!(!succeeded && text.contains(expected), "{arguments:?}: {text}");
    }

    let sessions = async || {
        let sessions = "SELECT sessions FROM pg_stat_database WHERE datname = current_database()";
        let sessions = sqlx::query_scalar::<_, i64>(sessions).fetch_one(&pair.standby.pool).await;
        sessions.expect("the query returns a number")
    };
    let before = sessions().await;
    eventually("the service tries again", async || sessions().await >= before + 3).await;
    let mut other = tollgate(&["serve"]);
    other.env("DATABASE_URL", &url);
    let other = Process::start(other, &cluster::directory("promotion-stopped.log"));
    eventually("the other service tries as well", async || sessions().await >= before + 9).await;
    let (_, log) = other.stop();
    assert!(log.contains("stopped by a signal before Postgres could be used"), "{log}");

    pair.standby.promote().await;
    eventually("the service is ready", async || {
        service.send(Call::new("GET", "/readyz")).status == 200
    })
    .await;
    let (status, log) = service.stop();
    assert!(status.success(), "{log}");
    pair.end().await;
}
