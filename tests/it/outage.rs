//! While the database is unreachable, requests that need it get 503. They never get 401, and the
//! node never accepts a key without a lookup. The node recovers without a restart.

use serde_json::json;
use sqlx::{Connection as _, Executor as _};
use tollgate::{
    domain::{
        account::{AccountFormat, ExternalId},
        audit::Origin,
    },
    node::{Node, NodeSettings},
    postgres::PrivatePostgres,
    state::Limits,
    store::{ConnectError, PoolSettings, Store, StoreError},
};

use crate::harness::{
    App, Call, OTHER_WALLET, WALLET,
    app::{service, state_of},
    cluster, eventually,
    process::{Process, send, tollgate},
    proxy::Proxy,
};

#[tokio::test]
async fn requests_get_503_during_a_database_outage_and_the_node_recovers_without_a_restart() {
    let options = cluster::options("outage");
    let start = {
        let options = options.clone();
        move || PrivatePostgres::start(&options).expect("Postgres starts")
    };
    let postgres =
        tokio::task::spawn_blocking(start.clone()).await.expect("the task does not panic");
    let url = postgres.url(tollgate::postgres::DATABASE);
    let settings = PoolSettings {
        acquire_timeout: std::time::Duration::from_millis(300),
        ..cluster::pool_settings(&url)
    };
    let store = Store::connect(&settings).await.expect("the database is reachable");
    store.migrate().await.expect("the migrations apply");
    let mut app = App::on(&url).await;
    let wallet = app.wallet("10").await;
    let key = app.key(&app.tronagg, wallet).await;
    // A node without a cache looks up every key in the database.
    let settings = NodeSettings { cache_entries: 0, ..NodeSettings::default() };
    let node = Node::new(std::sync::Arc::new(store), settings);
    tokio::spawn(node.clone().keep_lease(std::future::pending()));
    let has_lease = async || node.verifier().holds_lease();
    eventually("the node holds its lease", has_lease).await;
    app.router = service(state_of(node.clone(), Limits::default()));
    app.send(key.call("GET", "/v1/me")).await.expect(200);

    tokio::task::spawn_blocking(|| postgres.stop().expect("Postgres stops"))
        .await
        .expect("the task does not panic");
    let admin = app.tronagg.call("GET", "/v1/accounts");
    for call in [
        key.call("GET", "/v1/me"),
        key.call("GET", "/v1/authorize/tronagg/live"),
        key.buy("1").idempotency_key("k"),
        admin,
        app.tronagg.call("POST", "/v1/keys/verify").json(json!({"key": key.text})),
        Call::new("GET", "/readyz"),
    ] {
        app.send(call).await.expect_problem(503, "unavailable");
    }
    app.send(Call::new("GET", "/livez")).await.expect(200);
    // If the last search for new tenants is recent, a request with an unknown key prefix gets 401.
    // Later it gets 503, because the prefix could belong to a new tenant. Concurrent requests share
    // one search, so they do not time out one after another.
    let unknown_prefix =
        || Call::new("GET", "/v1/me").header("X-API-Key", &format!("zz_{}", "A".repeat(43)));
    eventually("the node searches for new tenants", async || {
        app.send(unknown_prefix()).await.status != 401
    })
    .await;
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let request = unknown_prefix().into_request();
        requests.spawn(tower::ServiceExt::oneshot(app.router.clone(), request));
    }
    for answer in requests.join_all().await {
        assert_eq!(answer.expect("the router is infallible").status(), 503);
    }

    let restarted = tokio::task::spawn_blocking(start).await.expect("the task does not panic");
    let is_ready = async || app.send(Call::new("GET", "/readyz")).await.status == 200;
    eventually("the node is ready again", is_ready).await;
    app.send(key.call("GET", "/v1/me")).await.expect(200);
    let bought = app.send(key.buy("1").idempotency_key("k")).await.expect(201);
    assert_eq!(bought.header("idempotent-replayed"), None);
    app.check_ledger().await;
    app.store.close().await;
    tokio::task::spawn_blocking(|| restarted.stop().expect("Postgres stops"))
        .await
        .expect("the task does not panic");
    std::fs::remove_dir_all(options.data_dir).expect("the test owns the directory");
}

#[tokio::test]
async fn terminated_database_connections_fail_no_request() {
    let app = App::start().await;
    let wallet = app.wallet("10").await;
    let key = app.key(&app.tronagg, wallet).await;
    // Concurrent requests fill the pool, so that the service can lose several connections.
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let request = key.call("GET", "/v1/me").into_request();
        tasks.spawn(tower::ServiceExt::oneshot(app.router.clone(), request));
    }
    tasks.join_all().await;
    let terminate = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                     WHERE datname = current_database() AND pid <> pg_backend_pid()
                       AND application_name = 'tollgate'";
    let terminated = sqlx::query_scalar::<_, i64>(terminate).fetch_one(&app.pool).await;
    assert!(terminated.expect("the query returns a number") >= 1);
    app.send(key.call("GET", "/v1/me")).await.expect(200);
    sqlx::query(terminate).execute(&app.pool).await.expect("the connections are terminated");
    app.send(key.buy("1")).await.expect(201);
    app.check_ledger().await;
}

#[tokio::test]
async fn request_gets_503_if_the_database_refuses_connections() {
    let url = cluster::fresh_database().await;
    let app = App::on(&url).await;
    let wallet = app.wallet("0").await;
    let key = app.key(&app.tronagg, wallet).await;
    app.pool.close().await;
    let database = cluster::database_in(&url);
    let mut admin =
        sqlx::PgConnection::connect(&cluster::url("postgres")).await.expect("the connection opens");
    for statement in [
        format!("ALTER DATABASE {database} ALLOW_CONNECTIONS false"),
        format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'"
        ),
    ] {
        admin.execute(sqlx::AssertSqlSafe(statement)).await.expect("the statement runs");
    }
    app.send(key.call("GET", "/v1/me")).await.expect_problem(503, "unavailable");
    let path = format!("/v1/accounts/{WALLET}");
    app.send(app.tronagg.call("GET", &path)).await.expect_problem(503, "unavailable");
}

#[tokio::test]
async fn unreachable_database_error_does_not_show_the_password() {
    let settings = PoolSettings {
        acquire_timeout: std::time::Duration::from_secs(5),
        ..cluster::pool_settings("postgres://root:hunter2@127.0.0.1:1/db")
    };
    let error = Store::connect(&settings).await.err().expect("nothing listens on the port");
    assert!(matches!(error, ConnectError::Unreachable { .. }));
    let text = error.to_string();
    assert!(text.starts_with("cannot reach Postgres at 127.0.0.1:1, database db: "), "{text}");
    assert!(text.contains("refused") && !text.contains("hunter2"), "{text}");
}

/// A server may become a standby while connections to it are open, for example through a pooler.
#[tokio::test]
async fn connection_is_closed_after_the_server_has_refused_a_write_on_it() {
    let app = App::start().await;
    let pids = "SELECT pid FROM pg_stat_activity
                WHERE application_name = 'tollgate' AND datname = current_database()";
    let others: Vec<i32> =
        sqlx::query_scalar(pids).fetch_all(&app.pool).await.expect("the query succeeds");
    let settings = PoolSettings { max_connections: 1, ..cluster::pool_settings(&app.url) };
    let store = Store::connect(&settings).await.expect("the database is reachable");
    let (tenant, origin) = (&app.tronagg.tenant, Origin::cli());
    let [first, second] = [WALLET, OTHER_WALLET].map(|wallet| {
        ExternalId::parse(wallet, AccountFormat::Tron).expect("the account id is valid")
    });
    store.account(tenant, &first, &origin).ensure().await.expect("the account is created");
    for statement in [
        "CREATE TABLE read_only (pid integer)",
        "CREATE FUNCTION refuse_write() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             IF pg_backend_pid() IN (SELECT pid FROM read_only) THEN
                 RAISE SQLSTATE '25006' USING MESSAGE = 'cannot execute INSERT in a read-only transaction';
             END IF;
             RETURN NEW;
         END $$",
        "CREATE TRIGGER refuse_write BEFORE INSERT ON accounts
             FOR EACH ROW EXECUTE FUNCTION refuse_write()",
    ] {
        sqlx::query(statement).execute(&app.pool).await.expect(statement);
    }
    sqlx::query(
        "INSERT INTO read_only SELECT pid FROM pg_stat_activity
         WHERE application_name = 'tollgate' AND datname = current_database()
           AND pid <> ALL ($1)",
    )
    .bind(&others)
    .execute(&app.pool)
    .await
    .expect("the connection of the store refuses writes");
    let account = store.account(tenant, &second, &origin);
    let refused = account.ensure().await.err();
    assert!(matches!(refused, Some(StoreError::Unavailable(_))), "{refused:?}");
    account.ensure().await.expect("the store uses another connection");
}

/// The number of log lines does not depend on the number of failed requests. There is one line for
/// each change of state, and at most ten lines for each kind of failure.
#[tokio::test(flavor = "multi_thread")]
async fn log_of_an_outage_contains_one_line_for_each_change_of_state() {
    let app = App::start().await;
    let wallet = app.wallet("10").await;
    let key = app.key(&app.tronagg, wallet).await;
    let proxy = Proxy::start(cluster::socket()).await;
    let mut service = tollgate(&["serve"]);
    service.env("DATABASE_URL", proxy.url(cluster::database_in(&app.url)));
    let service = Process::start(service, &cluster::directory("outage-log.log"));
    service.send(key.call("GET", "/v1/me")).expect(200);

    proxy.set_open(false, false);
    eventually("the lease is lost", async || service.log().contains("cannot be renewed")).await;
    std::thread::scope(|scope| {
        for _ in 0..25 {
            for call in [key.call("GET", "/v1/me"), app.tronagg.call("GET", "/v1/accounts")] {
                let address = service.address;
                scope.spawn(move || assert_eq!(send(address, call).status, 503));
            }
        }
    });
    proxy.set_open(true, true);
    let is_ready = async || service.send(Call::new("GET", "/readyz")).status == 200;
    eventually("the node is ready again", is_ready).await;
    service.send(key.call("GET", "/v1/me")).expect(200);
    let (status, log) = service.stop();
    assert!(status.success(), "{log}");
    for line in ["the lease cannot be renewed", "the lease is renewed again"] {
        assert_eq!(log.matches(line).count(), 1, "{line}: {log}");
    }
    assert!(log.matches("key lookups fail").count() <= 1, "{log}");
    assert_eq!(log.matches("could not answer").count(), 10, "{log}");
    assert!(log.matches(" WARN ").count() <= 20, "{log}");
}

/// Clients disconnect during their statements while the server is frozen. sqlx pings a connection
/// that returns to its pool, and waits for the reply without a time limit.
#[tokio::test(flavor = "multi_thread")]
async fn request_of_a_disconnected_client_holds_no_connection_to_a_frozen_server() {
    let app = App::start().await;
    let proxy = Proxy::start(cluster::socket()).await;
    let settings = PoolSettings {
        max_connections: 2,
        answer_timeout: std::time::Duration::from_millis(300),
        ..cluster::pool_settings(&proxy.url(cluster::database_in(&app.url)))
    };
    let store =
        std::sync::Arc::new(Store::connect(&settings).await.expect("the database is reachable"));
    store.list_tenants().await.expect("the query succeeds");
    proxy.set_open(false, false);
    let mut reads = tokio::task::JoinSet::new();
    let reader = std::sync::Arc::clone(&store);
    reads.spawn(async move { reader.list_tenants().await.map(drop) });
    eventually("a connection waits", async || store.pool_state().used == 1).await;
    reads.shutdown().await;
    eventually("no connection is in use", async || store.pool_state().used == 0).await;
    proxy.set_open(true, true);
    store.list_tenants().await.expect("the query succeeds");
    store.close().await;
}
