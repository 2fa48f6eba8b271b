//! A database URL with two hosts: a primary, and a standby that the test promotes.

use std::cell::Cell;

use sqlx::PgPool;
use tollgate::{domain::id::PurchaseId, postgres::DATABASE};
use uuid::Uuid;

use crate::{
    failover::{Pair, authorize, primary_socket},
    harness::{
        Call,
        app::NewKey,
        cluster, eventually,
        process::{Process, tollgate},
        proxy::Proxy,
    },
};

/// A service whose URL names both servers of a pair, each behind a proxy.
struct Hosts {
    pair: Pair,
    /// The proxy in front of the primary. The test does not control the proxy of the standby.
    first: Proxy,
    service: Process,
    key: NewKey,
}

impl Hosts {
    async fn start(name: &str) -> Self {
        let pair = Pair::start(name).await;
        let wallet = pair.app.wallet("100").await;
        let key = pair.app.key(&pair.app.tronagg, wallet).await;
        pair.standby.catch_up(&pair.app.pool).await;
        let first = Proxy::start(primary_socket(&pair.primary)).await;
        let second = Proxy::start(pair.standby.socket()).await;
        let mut service = tollgate(&["serve"]);
        service.env(
            "DATABASE_URL",
            format!(
                "postgres://postgres@{},{}/{DATABASE}?target_session_attrs=read-write&\
                 sslmode=disable",
                first.address(),
                second.address()
            ),
        );
        let log = cluster::directory(&format!("{name}.log"));
        let service = Process::start(service, &log);
        Self { pair, first, service, key }
    }

    /// Tries to buy until a purchase succeeds. Returns the id of the purchase.
    async fn buys_again(&self) -> Uuid {
        let id = Cell::new(None);
        let is_bought = async || {
            let answer = self.service.send(self.key.buy("1"));
            if answer.status == 201 {
                let bought = answer.json["id"].as_str().and_then(|id| id.parse().ok());
                id.set(bought.map(PurchaseId::uuid));
            }
            answer.status == 201
        };
        eventually("a purchase succeeds", is_bought).await;
        assert_eq!(self.service.send(authorize(&self.key)).status, 200);
        id.get().expect("the purchase has an id")
    }

    async fn end(self) {
        let (status, log) = self.service.stop();
        assert!(status.success(), "{log}");
        self.pair.end().await;
    }
}

async fn purchases(pool: &PgPool) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM purchases")
        .fetch_one(pool)
        .await
        .expect("the query returns a number")
}

/// The old primary accepts connections but does not respond. Later it responds again, and would
/// accept writes, because it is not fenced.
#[tokio::test(flavor = "multi_thread")]
async fn node_switches_to_a_promoted_standby_and_never_returns_to_the_old_primary() {
    let hosts = Hosts::start("hosts").await;
    hosts.buys_again().await;
    hosts.pair.standby.catch_up(&hosts.pair.app.pool).await;
    hosts.first.set_open(false, false);
    hosts.pair.standby.promote().await;
    hosts.buys_again().await;

    hosts.first.set_open(true, true);
    let mut bought = Vec::new();
    let terminate = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                     WHERE application_name LIKE 'tollgate%'";
    for _ in 0..3 {
        sqlx::query(terminate)
            .execute(&hosts.pair.standby.pool)
            .await
            .expect("the connections are closed");
        bought.push(hosts.buys_again().await);
    }
    let made = "SELECT count(*) FROM purchases WHERE purchase_id = ANY ($1)";
    for (pool, number) in [(&hosts.pair.standby.pool, 3), (&hosts.pair.app.pool, 0)] {
        let made = sqlx::query_scalar::<_, i64>(made).bind(&bought).fetch_one(pool).await;
        assert_eq!(made.expect("the query returns a number"), number);
    }
    hosts.end().await;
}

/// The old primary is not fenced, and all connections to it stay open.
#[tokio::test(flavor = "multi_thread")]
async fn node_switches_to_a_promoted_standby_while_the_old_primary_still_responds() {
    let hosts = Hosts::start("unfenced").await;
    hosts.buys_again().await;
    hosts.pair.standby.catch_up(&hosts.pair.app.pool).await;
    hosts.pair.standby.promote().await;
    let before = purchases(&hosts.pair.standby.pool).await;
    let follows = async || {
        hosts.service.send(hosts.key.buy("0.01"));
        purchases(&hosts.pair.standby.pool).await > before
    };
    eventually("the node buys on the new primary", follows).await;
    let line = "a connection reached a server with a higher timeline";
    assert_eq!(hosts.service.log().matches(line).count(), 1, "{}", hosts.service.log());
    hosts.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_and_services_start_whichever_host_is_the_primary() {
    let pair = Pair::start("either").await;
    pair.app.wallet("1").await;
    pair.standby.catch_up(&pair.app.pool).await;
    let (primary, standby) = (primary_socket(&pair.primary), pair.standby.socket());
    let host = |socket: &std::path::Path| {
        let directory =
            socket.parent().expect("the path has a parent").to_string_lossy().into_owned();
        directory.replace('/', "%2F")
    };
    for both in [[&primary, &standby], [&standby, &primary]] {
        let [first, second] = both.map(|socket| host(socket));
        let url = format!("postgres://postgres@{first},{second}/{DATABASE}");
        let run = |arguments: &[&str]| {
            let output = tollgate(arguments).env("DATABASE_URL", &url).output();
            output.expect("the program runs")
        };
        for arguments in [&["migrate"][..], &["tenant", "list"]] {
            let output = run(arguments);
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{arguments:?}: {error}");
        }
        let mut service = tollgate(&["serve"]);
        service.env("DATABASE_URL", &url);
        let service = Process::start(service, &cluster::directory("either.log"));
        assert_eq!(service.send(Call::new("GET", "/readyz")).status, 200);
        let (status, log) = service.stop();
        assert!(status.success(), "{log}");
    }
    pair.end().await;
}
