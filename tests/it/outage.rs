//! A database that cannot be asked: 503, never a 401 and never a pass; and back without a restart.

use serde_json::json;
use sqlx::{Connection as _, Executor as _};
use tollgate::{
    node::{Node, NodeSettings},
    postgres::PrivatePostgres,
    state::Limits,
    store::{ConnectError, PoolSettings, Store},
};

use crate::harness::{
    App, Call, WALLET,
    app::{service, state_of},
    cluster, eventually,
};

#[tokio::test]
async fn database_outage_returns_503_and_the_node_recovers_without_a_restart() {
    let options = cluster::options("outage");
    let start = {
        let options = options.clone();
        move || PrivatePostgres::start(&options).expect("Postgres starts")
    };
    let postgres = tokio::task::spawn_blocking(start.clone()).await.expect("no panic");
    let url = postgres.url(tollgate::postgres::DATABASE);
    let settings = PoolSettings {
        acquire_timeout: std::time::Duration::from_millis(300),
        ..cluster::pool_settings(&url)
    };
    let store = Store::connect(&settings).await.expect("it can be reached");
    store.migrate().await.expect("the migrations apply");
    let mut app = App::on(&url).await;
    let wallet = app.wallet("10").await;
    let key = app.key(&app.tronagg, wallet).await;
    // A node without a lease: it asks the database about every key.
    let node = Node::new(std::sync::Arc::new(store), NodeSettings::default());
    app.router = service(state_of(node, Limits::default()));
    app.send(key.call("GET", "/v1/me")).await.expect(200);

    tokio::task::spawn_blocking(|| postgres.stop().expect("it stops")).await.expect("no panic");
    let admin = app.tronagg.call("GET", "/v1/accounts");
    for call in [
        key.call("GET", "/v1/me"),
        key.call("GET", "/v1/authorize"),
        key.buy("1").idempotency_key("k"),
        admin,
        app.tronagg.call("POST", "/v1/keys/verify").json(json!({"key": key.text})),
        Call::new("GET", "/readyz"),
    ] {
        app.send(call).await.expect_problem(503, "unavailable");
    }
    app.send(Call::new("GET", "/livez")).await.expect(200);
    // A key with a strange prefix is refused while the node knows that there is no such tenant.
    // Then the tenant could be new: 503, and no queue of one time-out after the other.
    let stranger =
        || Call::new("GET", "/v1/me").header("X-API-Key", &format!("zz_{}", "A".repeat(43)));
    eventually("it could be", async || app.send(stranger()).await.status != 401).await;
    let mut strangers = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let request = stranger().into_request();
        strangers.spawn(tower::ServiceExt::oneshot(app.router.clone(), request));
    }
    for answer in strangers.join_all().await {
        assert_eq!(answer.expect("it never fails").status(), 503);
    }

    let again = tokio::task::spawn_blocking(start).await.expect("no panic");
    app.send(Call::new("GET", "/readyz")).await.expect(200);
    app.send(key.call("GET", "/v1/me")).await.expect(200);
    let bought = app.send(key.buy("1").idempotency_key("k")).await.expect(201);
    assert_eq!(bought.header("idempotent-replayed"), None);
    app.check_ledger().await;
    app.store.close().await;
    tokio::task::spawn_blocking(|| again.stop().expect("it stops")).await.expect("no panic");
    std::fs::remove_dir_all(options.data_dir).expect("it is ours");
}

#[tokio::test]
async fn terminated_database_connections_fail_no_request() {
    let app = App::start().await;
    let wallet = app.wallet("10").await;
    let key = app.key(&app.tronagg, wallet).await;
    // Fill the pool, so that there is more than one connection to lose.
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let request = key.call("GET", "/v1/me").into_request();
        tasks.spawn(tower::ServiceExt::oneshot(app.router.clone(), request));
    }
    tasks.join_all().await;
    let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
               WHERE datname = current_database() AND pid <> pg_backend_pid()
                 AND application_name = 'tollgate'";
    let lost: i64 = sqlx::query_scalar(cut).fetch_one(&app.pool).await.expect("they are cut");
    assert!(lost >= 1);
    app.send(key.call("GET", "/v1/me")).await.expect(200);
    sqlx::query(cut).execute(&app.pool).await.expect("they are cut");
    app.send(key.buy("1")).await.expect(201);
    app.check_ledger().await;
}

#[tokio::test]
async fn database_that_refuses_connections_returns_503() {
    let url = cluster::fresh_database().await;
    let app = App::on(&url).await;
    let wallet = app.wallet("0").await;
    let key = app.key(&app.tronagg, wallet).await;
    app.pool.close().await;
    let database = cluster::database_in(&url);
    let mut other = sqlx::PgConnection::connect(&cluster::url("postgres")).await.expect("it");
    for statement in [
        format!("ALTER DATABASE {database} ALLOW_CONNECTIONS false"),
        format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'"
        ),
    ] {
        other.execute(sqlx::AssertSqlSafe(statement)).await.expect("it is cut off");
    }
    app.send(key.call("GET", "/v1/me")).await.expect_problem(503, "unavailable");
    let path = format!("/v1/accounts/{WALLET}");
    app.send(app.tronagg.call("GET", &path)).await.expect_problem(503, "unavailable");
}

#[tokio::test]
async fn unreachable_database_error_does_not_show_the_password() {
    let refused = PoolSettings {
        acquire_timeout: std::time::Duration::from_secs(5),
        ..cluster::pool_settings("postgres://root:hunter2@127.0.0.1:1/db")
    };
    let error = Store::connect(&refused).await.err().expect("nobody listens there");
    assert!(matches!(error, ConnectError::Unreachable { .. }));
    let text = error.to_string();
    assert!(text.starts_with("cannot reach Postgres at 127.0.0.1:1, database db: "), "{text}");
    assert!(text.contains("refused") && !text.contains("hunter2"), "{text}");
}
