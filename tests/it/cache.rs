//! A node with a lease answers requests with cached keys without the database. The tests check when
//! a node queries the database, and when it responds with 503.

use std::{sync::Arc, time::Duration};

use axum::{body::Body, http::Request};
use serde_json::json;
use tokio::task::JoinSet;
use tollgate::{
    domain::api_key::KeyText,
    node::{Node, NodeSettings},
    postgres::{DATABASE, PrivatePostgres},
    state::Limits,
    store::{KeyRead, PoolSettings, Store},
};
use tower::ServiceExt as _;

use crate::harness::{
    App, Call, WALLET,
    app::{NewKey, service, state_of},
    cluster, eventually,
    proxy::Proxy,
};

/// Settings with short timeouts, for tests in which the database becomes unreachable.
fn impatient(settings: PoolSettings) -> PoolSettings {
    PoolSettings { acquire_timeout: Duration::from_millis(300), ..settings }
}

/// Starts a node and waits for its lease.
async fn node_on(settings: PoolSettings, node: NodeSettings) -> Node {
    let store = Store::connect(&settings).await.expect("the database is reachable");
    store.migrate().await.expect("the migrations apply");
    let node = Node::new(Arc::new(store), node);
    tokio::spawn(node.clone().keep_lease(std::future::pending()));
    eventually("the node has its lease", async || node.verifier().state().holds_lease).await;
    node
}

/// Starts a proxy in front of a database server. Returns the proxy and the name of the database.
async fn proxy_for(url: &str) -> (Proxy, String) {
    (Proxy::start(cluster::socket()).await, cluster::database_in(url).to_owned())
}

fn router_of(node: &Node) -> axum::Router {
    service(state_of(node.clone(), Limits::default()))
}

/// Builds a request whose handler does not use the database.
fn authorize(key: &NewKey) -> Call {
    let tenant = if key.text.starts_with("ta_") { "tronagg" } else { "tradetally" };
    key.call("GET", &format!("/v1/authorize/{tenant}/live"))
}

/// Builds a request with a well-formed key that does not exist.
fn with_unknown_key(number: u64) -> Call {
    Call::new("GET", "/v1/authorize/tronagg/live").header("X-API-Key", &format!("ta_{number:043}"))
}

#[tokio::test]
async fn cached_key_is_looked_up_in_the_database_once() {
    let app = App::start().await;
    let wallet = app.wallet("0").await;
    let key = app.key(&app.tronagg, wallet).await;
    let (before, _) = app.store.lookup_counts();
    for _ in 0..20 {
        app.send(authorize(&key)).await.expect(200);
    }
    let (after, _) = app.store.lookup_counts();
    assert_eq!(after - before, 1);
    let state = app.node.verifier().state();
    assert_eq!((state.hits, state.misses, state.keys), (19, 1, 1));
}

#[tokio::test]
async fn cached_key_expires_without_a_notification() {
    let app = App::start().await;
    let wallet = app.wallet("0").await;
    let body = json!({"name": "short", "expires_in": 1});
    let key = app.key_with(&app.tronagg, wallet, body).await;
    app.send(authorize(&key)).await.expect(200);
    eventually("the key is refused", async || app.send(authorize(&key)).await.status == 401).await;
    let expired = "SELECT expires_at <= clock_timestamp() FROM api_keys";
    let expired: bool =
        sqlx::query_scalar(expired).fetch_one(&app.pool).await.expect("the query succeeds");
    assert!(expired, "the key was refused before its expiry");
    app.send(authorize(&key)).await.expect_problem(401, "invalid_api_key");
}

#[tokio::test]
async fn concurrent_key_lookups_share_statements() {
    let app = App::start().await;
    let wallet = app.wallet("0").await;
    let mut keys = Vec::new();
    for _ in 0..5 {
        keys.push(app.key(&app.tronagg, wallet).await);
    }
    let (keys_before, statements_before) = app.store.lookup_counts();
    let mut requests = JoinSet::new();
    for number in 0..300 {
        let call = match keys.get(number % 10) {
            Some(key) => authorize(key),
            None => with_unknown_key(number as u64),
        };
        requests.spawn(app.router.clone().oneshot(call.into_request()));
    }
    let answers = requests.join_all().await;
    let passed = answers
        .iter()
        .filter(|answer| answer.as_ref().expect("the router is infallible").status() == 200);
    assert_eq!(passed.count(), 150);
    let (keys, statements) = app.store.lookup_counts();
    let (keys, statements) = (keys - keys_before, statements - statements_before);
    // The node looks up 150 unknown keys, and each of the five keys at least once. A request that
    // arrives during the lookup of its key can cause a second lookup.
    assert!((155..=165).contains(&keys), "{keys} keys");
    assert!(statements <= 10, "{statements} statements");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_keys_do_not_evict_cached_keys() {
    let app = App::start().await;
    let settings = NodeSettings { cache_entries: 400, ..NodeSettings::default() };
    let node = node_on(cluster::pool_settings(&app.url), settings).await;
    let router = router_of(&node);
    let ask = |call: Call| router.clone().oneshot(call.into_request());
    let mut keys = Vec::new();
    for number in 0..4 {
        let account = format!("user-{number}");
        app.account(&app.tradetally, &account, "0").await;
        for _ in 0..5 {
            keys.push(app.key(&app.tradetally, &account).await);
        }
    }
    for key in &keys {
        assert_eq!(ask(authorize(key)).await.expect("the router is infallible").status(), 200);
    }
    let before = node.verifier().state();
    let mut attackers = JoinSet::new();
    for attacker in 0..8 {
        let router = router.clone();
        attackers.spawn(async move {
            for number in 0..500 {
                let key = format!("tt_live_{:043}", attacker * 1000 + number);
                let request = Request::get("/v1/authorize/tradetally/live");
                let request = request.header("X-API-Key", key);
                let request = request.body(Body::empty()).expect("the request is valid");
                let answer =
                    router.clone().oneshot(request).await.expect("the router is infallible");
                assert_eq!(answer.status(), 401);
            }
        });
    }
    while attackers.try_join_next().is_none() {
        for key in &keys {
            assert_eq!(ask(authorize(key)).await.expect("the router is infallible").status(), 200);
        }
    }
    attackers.join_all().await;
    let after = node.verifier().state();
    assert_eq!((before.keys, after.keys), (keys.len(), keys.len()));
    // Only requests with unknown keys missed the cache.
    assert_eq!(after.misses - before.misses, 8 * 500);
    assert!(after.hits > before.hits);
}

#[tokio::test]
async fn cached_key_is_accepted_during_a_database_outage_until_the_lease_ends() {
    let options = cluster::options("cache-outage");
    let start = {
        let options = options.clone();
        move || PrivatePostgres::start(&options).expect("Postgres starts")
    };
    let postgres =
        tokio::task::spawn_blocking(start.clone()).await.expect("the task does not panic");
    let url = postgres.url(DATABASE);
    let settings = impatient(cluster::pool_settings(&url));
    let node = node_on(settings, NodeSettings::default()).await;
    let mut app = App::on(&url).await;
    let wallet = app.wallet("0").await;
    let [cached, uncached] =
        [app.key(&app.tronagg, wallet).await, app.key(&app.tronagg, wallet).await];
    app.router = router_of(&node);
    app.send(authorize(&cached)).await.expect(200);

    tokio::task::spawn_blocking(|| postgres.stop().expect("Postgres stops"))
        .await
        .expect("the task does not panic");
    app.send(authorize(&cached)).await.expect(200);
    app.send(authorize(&uncached)).await.expect_problem(503, "unavailable");
    eventually("the lease has ended", async || {
        let holds_lease = node.verifier().state().holds_lease;
        let answer = app.send(authorize(&cached)).await;
        // The lease may end between these two lines, but the node cannot get a new one.
        assert!(answer.status == 503 || answer.status == 200 && holds_lease, "{answer:?}");
        answer.status == 503
    })
    .await;
    for _ in 0..3 {
        app.send(authorize(&cached)).await.expect_problem(503, "unavailable");
    }

    let restarted = tokio::task::spawn_blocking(start).await.expect("the task does not panic");
    eventually("the node holds its lease again", async || node.verifier().state().holds_lease)
        .await;
    app.send(authorize(&cached)).await.expect(200);
    app.send(authorize(&uncached)).await.expect(200);
    app.store.close().await;
    node.store().close().await;
    tokio::task::spawn_blocking(|| restarted.stop().expect("Postgres stops"))
        .await
        .expect("the task does not panic");
    std::fs::remove_dir_all(options.data_dir).expect("the test owns the directory");
}

/// Queries go through a pooler, which fails. The session of the listener does not use the pooler.
#[tokio::test]
async fn lease_is_renewed_through_the_listen_url_while_the_pooler_is_down() {
    let app = App::start().await;
    let wallet = app.wallet("0").await;
    let key = app.key(&app.tronagg, wallet).await;
    let (pooler, database) = proxy_for(&app.url).await;
    let settings = PoolSettings {
        listen_url: Some(app.url.clone()),
        ..cluster::pool_settings(&pooler.url(&database))
    };
    let node = node_on(impatient(settings), NodeSettings::default()).await;
    let router = router_of(&node);
    let ask = async || {
        let answer = router.clone().oneshot(authorize(&key).into_request()).await;
        answer.expect("the router is infallible").status().as_u16()
    };
    assert_eq!(ask().await, 200);

    pooler.set_open(false, false);
    let renewals = async || {
        let renewals = "SELECT sum(renewal)::bigint FROM nodes";
        sqlx::query_scalar::<_, i64>(renewals)
            .fetch_one(&app.pool)
            .await
            .expect("the query returns a number")
    };
    let first = renewals().await;
    eventually("the lease is renewed more than 16 times", async || {
        assert_eq!(ask().await, 200);
        renewals().await > first + 16
    })
    .await;
    // Another node revokes the key, and this node receives the notification.
    let revoke = app.tronagg.call("POST", &format!("{}/revoke", key.path)).json(json!({}));
    app.send(revoke).await.expect(200);
    assert_eq!(ask().await, 503, "the node cannot look up the key");
    pooler.set_open(true, true);
    eventually("the node can look up the key again", async || ask().await == 401).await;
}

/// The node reads the row under an earlier lease. The row arrives after a new session has granted a
/// lease and another node has changed the row.
#[tokio::test]
async fn outdated_key_row_that_arrives_in_a_new_session_does_not_stay_in_the_cache() {
    let app = App::start().await;
    let wallet = app.wallet("0").await;
    let key = app.key(&app.tronagg, wallet).await;
    let (pooler, database) = proxy_for(&app.url).await;
    let settings = PoolSettings {
        listen_url: Some(app.url.clone()),
        ..cluster::pool_settings(&pooler.url(&database))
    };
    let node = node_on(settings, NodeSettings::default()).await;
    let router = router_of(&node);
    let ask = |key: &NewKey| router.clone().oneshot(authorize(key).into_request());
    // This request puts a key into the cache, so that the test can see when the node clears it.
    let another = app.key(&app.tronagg, wallet).await;
    assert_eq!(ask(&another).await.expect("the router is infallible").status(), 200);

    let hash = KeyText::parse(&key.text).expect("the key is well formed").hash();
    pooler.hold_reply_to(hash.as_bytes());
    let early = tokio::spawn(ask(&key));
    pooler.wait_until_holding().await;
    let terminate = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                     WHERE datname = current_database() AND application_name = 'tollgate listener'";
    sqlx::query(terminate).execute(&app.pool).await.expect("the sessions are terminated");
    eventually("a new session has cleared the cache and granted a lease", async || {
        let state = node.verifier().state();
        state.keys == 0 && state.holds_lease
    })
    .await;
    let revoke = app.tronagg.call("POST", &format!("{}/revoke", key.path)).json(json!({}));
    app.send(revoke).await.expect(200);
    pooler.release();
    // This request began before the revocation.
    assert_eq!(
        early.await.expect("the task does not panic").expect("the router is infallible").status(),
        200
    );
    assert_eq!(ask(&key).await.expect("the router is infallible").status(), 401);
}

#[tokio::test]
async fn manual_sql_changes_of_keys_and_accounts_update_the_cache() {
    let app = App::start().await;
    let wallet = app.wallet("0").await;
    let [key, other] = [app.key(&app.tronagg, wallet).await, app.key(&app.tronagg, wallet).await];
    for (change, status) in [
        ("UPDATE api_keys SET enabled = false WHERE key_id = $1", 401),
        ("UPDATE api_keys SET enabled = true WHERE key_id = $1", 200),
        ("UPDATE accounts SET status = 'suspended' WHERE $1::uuid IS NOT NULL", 403),
        ("UPDATE accounts SET status = 'active' WHERE $1::uuid IS NOT NULL", 200),
        ("UPDATE api_keys SET revoked_at = clock_timestamp() WHERE key_id = $1", 401),
    ] {
        // This request puts the key into the cache.
        app.send(authorize(&key)).await;
        let id = key.id.parse::<tollgate::domain::id::KeyId>().expect("the id is valid");
        sqlx::query(change)
            .bind(id.uuid())
            .execute(&app.pool)
            .await
            .expect("the change is applied");
        eventually(change, async || app.send(authorize(&key)).await.status == status).await;
    }
    app.send(authorize(&other)).await.expect(200);
}

/// A session on another database would not receive the notifications of this database.
#[tokio::test]
async fn node_that_listens_on_another_database_gets_no_lease() {
    let app = App::start().await;
    let other = cluster::fresh_database().await;
    let settings =
        PoolSettings { listen_url: Some(other.clone()), ..cluster::pool_settings(&app.url) };
    let store = Store::connect(&settings).await.expect("the database is reachable");
    let node = Node::new(Arc::new(store), NodeSettings::default());
    tokio::spawn(node.clone().keep_lease(std::future::pending()));
    let pool = sqlx::PgPool::connect_lazy(&other).expect("the URL is valid");
    eventually("the node has tried to renew its lease three times", async || {
        assert!(!node.verifier().state().holds_lease);
        let renewal = "SELECT max(renewal) FROM nodes";
        let renewal = sqlx::query_scalar::<_, Option<i64>>(renewal).fetch_one(&pool).await;
        renewal.expect("the query succeeds") >= Some(3)
    })
    .await;
}

#[tokio::test]
async fn graceful_stop_removes_the_node_and_ends_its_lease() {
    let app = App::start().await;
    let settings = NodeSettings { lease: Duration::from_secs(10), ..NodeSettings::default() };
    let store =
        Store::connect(&cluster::pool_settings(&app.url)).await.expect("the database is reachable");
    let node = Node::new(Arc::new(store), settings);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let lease_task = tokio::spawn(node.clone().keep_lease(async { drop(stopped.await) }));
    eventually("the node has its lease", async || node.verifier().state().holds_lease).await;
    let nodes = async || {
        let nodes = "SELECT count(*) FROM nodes";
        sqlx::query_scalar::<_, i64>(nodes)
            .fetch_one(&app.pool)
            .await
            .expect("the query returns a number")
    };
    assert_eq!(nodes().await, 2);
    drop(stop);
    lease_task.await.expect("the task does not panic");
    assert_eq!((nodes().await, node.verifier().state().holds_lease), (1, false));
}

#[tokio::test]
async fn key_lookups_that_were_planned_on_empty_tables_use_indexes_on_large_tables() {
    let app = App::start().await;
    app.account(&app.tronagg, WALLET, "0").await;
    let store =
        Store::connect(&cluster::pool_settings(&app.url)).await.expect("the database is reachable");
    let key = |number: u32| KeyText::parse(&format!("ta_{number:043}")).expect("the key is valid");
    let tenant = store
        .tenant_of_key(&key(0))
        .await
        .expect("the lookup succeeds")
        .expect("the key belongs to TronAgg");
    let server = store.server().await.expect("Postgres responds");
    // Postgres plans the statement while the database has one account and no key.
    for number in 0..10 {
        let found = store.verify_api_key(&tenant, &key(number).hash(), server).await;
        assert!(matches!(found, Ok(KeyRead::NotFound)), "{found:?}");
    }
    let many_rows =
        "INSERT INTO accounts (account_id, tenant_id, external_id, status, balance, last_seq,
                                      created_at)
                SELECT gen_random_uuid(), tenant_id, 'many-' || n, 'active', 0, 0, now()
                FROM accounts, generate_series(1, 5000) n;
                INSERT INTO api_keys (account_id, key_id, tenant_id, key_hash, hint, name, scopes,
                                      metadata, enabled, created_at)
                SELECT account_id, gen_random_uuid(), tenant_id,
                       sha256(('ta_' || lpad(n::text, 43, '0'))::bytea), 'h', 'n', '{read}', '{}',
                       true, now()
                FROM (SELECT *, row_number() OVER () * 4 AS last FROM accounts) a,
                     LATERAL generate_series(last - 3, last) n;
                ANALYZE";
    sqlx::raw_sql(many_rows).execute(&app.pool).await.expect("the query succeeds");
    let scans = async || {
        let scans = "SELECT sum(seq_scan)::bigint, sum(idx_scan)::bigint FROM pg_stat_user_tables
                     WHERE relname IN ('api_keys', 'accounts')";
        sqlx::query_as::<_, (i64, i64)>(scans)
            .fetch_one(&app.pool)
            .await
            .expect("the query succeeds")
    };
    // The INSERT scanned the accounts twice. Its session may report these scans late.
    eventually("Postgres has counted the scans of the INSERT", async || scans().await.0 >= 2).await;
    let (seq_before, _) = scans().await;
    let store = Arc::new(store);
    let mut lookups = JoinSet::new();
    for number in 1..=1000 {
        let (store, tenant) = (Arc::clone(&store), Arc::clone(&tenant));
        lookups.spawn(async move {
            let found = store.verify_api_key(&tenant, &key(number).hash(), server).await;
            assert!(matches!(found, Ok(KeyRead::Found(_))), "{number}: {found:?}");
        });
    }
    lookups.join_all().await;
    // A session reports all its counts when it ends.
    store.close().await;
    eventually("index scans found each key and each account", async || {
        let (seq, idx) = scans().await;
        assert_eq!(seq, seq_before, "a lookup scanned a table sequentially");
        idx >= 2 * 1000
    })
    .await;
}
