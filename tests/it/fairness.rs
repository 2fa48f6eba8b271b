//! A tenant cannot use up the database connections that other tenants need.

use axum::body::Body;
use http_body_util::BodyExt as _;
use serde_json::json;
use sqlx::AssertSqlSafe;
use tokio::task::JoinSet;
use tower::ServiceExt as _;

use crate::{
    dashboard::visitor::{Site, Visitor},
    harness::{
        App, Call, TestTenant, WALLET, app::NewKey, data_dir::DataDir, eventually,
        listener::RawClient, within_patience,
    },
};

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_wait_for_a_lock_delay_neither_other_tenants_nor_urgent_changes() {
    let app = App::start().await;
    let wallet = app.wallet("10").await;
    let key = app.key(&app.tronagg, wallet).await;
    let path = format!("/v1/accounts/{WALLET}/keys/{}", key.id);
    let lock = app.lock_accounts().await;
    let mut waiting = JoinSet::new();
    let mut change = |body| {
        let call = app.tronagg.call("PATCH", &path).json(body);
        waiting.spawn(app.router.clone().oneshot(call.into_request()));
    };
    for number in 0..20 {
        change(json!({"name": format!("name {number}")}));
    }
    // The pool has six connections, and one of them is a reserve. A tenant gets at most four of the
    // other five.
    app.wait_until_blocked(4).await;
    let others = async {
        app.send(Call::new("GET", "/readyz")).await.expect(200);
        app.account(&app.tradetally, "user-1", "0").await;
        let other = app.key(&app.tradetally, "user-1").await;
        let revoke = format!("/v1/accounts/user-1/keys/{}/revoke", other.id);
        app.send(app.tradetally.call("POST", &revoke)).await.expect(200);
    };
    within_patience("the other tenant's requests are answered", others).await;
    // The tenant cannot use another connection, but the change that disables a key uses the
    // reserve.
    change(json!({"enabled": false}));
    app.wait_until_blocked(5).await;
    within_patience("the other tenant gets responses", async {
        app.send(app.tradetally.call("GET", "/v1/accounts/user-1")).await.expect(200);
    })
    .await;
    lock.commit().await.expect("the transaction commits");
    for answer in within_patience("all are answered", waiting.join_all()).await {
        assert_eq!(answer.expect("the router is infallible").status(), 200);
    }
}

/// The requests of a tenant that wait for a lock. They use all connections that the tenant may
/// have.
#[derive(Clone, Copy, Debug)]
enum Flood {
    /// Credits. Each one runs in its own task.
    Credits,
    /// Uses of dashboard links.
    Links,
    /// Replays of an earlier purchase, which read it again.
    Replays,
}

#[tokio::test(flavor = "multi_thread")]
async fn credits_links_and_replays_that_wait_for_a_lock_do_not_delay_other_tenants() {
    for flood in [Flood::Credits, Flood::Links, Flood::Replays] {
        let app = App::start().await;
        let wallet = app.wallet("10").await;
        let key = app.key(&app.tronagg, wallet).await;
        let buy = || key.buy("1").idempotency_key("bought");
        app.send(buy()).await.expect(201);
        app.account(&app.tradetally, "user-1", "10").await;
        let link = async |tenant: &TestTenant, account: &str| {
            let call = tenant.call("POST", "/v1/dashboard-links").json(json!({"account": account}));
            let url = app.send(call).await.expect(201).text("/url").to_owned();
            let (_, token) = url.split_once("token=").expect("the URL has a token");
            Call::new("POST", "/dashboard/enter")
                .header("Origin", "http://127.0.0.1:8080")
                .body("application/x-www-form-urlencoded", format!("token={token}"))
        };
        // The first request waits for the lock, and counts toward its tenant's share of
        // connections. If the other requests did not count, they would use up the connections of
        // all tenants.
        let mut calls = vec![match flood {
            Flood::Credits | Flood::Links => {
                app.tronagg.call("PATCH", &key.path).json(json!({"name": "a name"}))
            }
            Flood::Replays => app.tronagg.call("GET", &format!("/v1/accounts/{wallet}/purchases")),
        }];
        for number in 0..20 {
            calls.push(match flood {
                Flood::Credits => app
                    .tronagg
                    .call("POST", &format!("/v1/accounts/{wallet}/credits"))
                    .idempotency_key(&format!("credit-{number}"))
                    .json(json!({"amount": "1"})),
                Flood::Links => link(&app.tronagg, wallet).await,
                Flood::Replays => buy(),
            });
        }
        let others_link = link(&app.tradetally, "user-1").await;
        let mut lock = app.pool.begin().await.expect("the transaction begins");
        let statement = match flood {
            Flood::Credits | Flood::Links => {
                "SELECT FROM accounts WHERE external_id <> 'user-1' FOR UPDATE"
            }
            Flood::Replays => "LOCK TABLE purchases IN ACCESS EXCLUSIVE MODE",
        };
        sqlx::query(statement).execute(&mut *lock).await.expect("Postgres grants the lock");
        let mut waiting = JoinSet::new();
        for call in calls {
            waiting.spawn(app.router.clone().oneshot(call.into_request()));
        }
        // The pool has six connections, and one of them is a reserve. A tenant gets at most four of
        // the other five.
        app.wait_until_blocked(4).await;
        let others = async {
            let credit = app
                .tradetally
                .call("POST", "/v1/accounts/user-1/credits")
                .idempotency_key("another-credit")
                .json(json!({"amount": "1"}));
            app.send(credit).await.expect(201);
            app.send(others_link).await.expect(303);
            app.send(app.tradetally.call("GET", "/v1/accounts/user-1")).await.expect(200);
        };
        within_patience(&format!("the other tenant gets responses during {flood:?}"), others).await;
        app.wait_until_blocked(4).await;
        lock.commit().await.expect("the transaction commits");
        for answer in within_patience("all are answered", waiting.join_all()).await {
            let status = answer.expect("the router is infallible").status().as_u16();
            assert!(matches!(status, 200 | 201 | 303), "{status}");
        }
        app.check_ledger().await;
    }
}

/// Sends a request. Returns the body of the response without reading it.
async fn body_of(app: &App, call: Call) -> Body {
    let response = app.router.clone().oneshot(call.into_request()).await;
    let response = response.expect("the router is infallible");
    assert_eq!(response.status(), 200);
    response.into_body()
}

fn of_session(owner: &Visitor, path: &str) -> Call {
    Call::new("GET", path).header("Cookie", &format!("tollgate_session={}", owner.session()))
}

fn statement(tenant: &TestTenant, account: &str) -> Call {
    tenant.call("GET", &format!("/v1/accounts/{account}/ledger.csv"))
}

fn purchases(owner: &Visitor, key: &NewKey) -> Call {
    of_session(owner, &format!("/dashboard/keys/{}/purchases.csv", key.id))
}

#[tokio::test(flavor = "multi_thread")]
async fn exports_of_one_tenant_do_not_delay_an_export_of_another_tenant() {
    let site = Site::start().await;
    let app = &site.app;
    let (wallet, other) = (app.wallet("10").await, "user-1");
    app.account(&app.tradetally, other, "10").await;
    let key = app.key(&app.tronagg, wallet).await;
    let other_key = app.key(&app.tradetally, other).await;
    let owner = site.owner(&app.tronagg, wallet).await;
    let other_owner = site.owner(&app.tradetally, other).await;
    let statements =
        [statement(&app.tronagg, wallet), of_session(&owner, "/dashboard/balance.csv")];
    // Each lock blocks the exports of one tenant only, because a list of purchases reads no
    // credits, and a statement reads no keys.
    for (table, stopped, running) in [
        ("credits", &statements[..], purchases(&other_owner, &other_key)),
        ("api_keys", &[purchases(&owner, &key)][..], statement(&app.tradetally, other)),
    ] {
        let mut exports = Vec::new();
        for call in stopped.iter().cycle().take(10) {
            exports.push(body_of(app, call.clone()).await);
        }
        let running = body_of(app, running).await;
        let mut lock = app.pool.begin().await.expect("the transaction begins");
        let sql = format!("LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE");
        sqlx::query(AssertSqlSafe(sql))
            .execute(&mut *lock)
            .await
            .expect("Postgres grants the lock");
        let mut reading = JoinSet::new();
        for export in exports {
            reading.spawn(export.collect());
        }
        // The pool has six connections, and one of them is a reserve. A tenant gets at most four of
        // the other five.
        app.wait_until_blocked(4).await;
        let export = within_patience("the other tenant's export ends", running.collect()).await;
        export.expect("the export is complete");
        lock.commit().await.expect("the transaction commits");
        for export in within_patience("all exports end", reading.join_all()).await {
            export.expect("the export is complete");
        }
    }
}

/// Reads the resident memory of a process, in bytes.
#[cfg(target_os = "linux")]
fn resident_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))
        .expect("the process has a status file");
    let line =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the line exists");
    let kilobytes = line.trim().strip_suffix(" kB").and_then(|number| number.parse::<u64>().ok());
    kilobytes.expect("the line has a number of kilobytes") * 1024
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn memory_is_bounded_if_clients_of_one_key_do_not_read_responses() {
    const CONNECTIONS: usize = 4000;
    let data_dir = DataDir::new("memory");
    let (service, key, admin_key) = tokio::task::spawn_blocking(move || {
        let service = data_dir.start(&["demo"]);
        let admin_key = service.exported("TRONAGG_ADMIN_KEY");
        let keys = format!("/v1/accounts/{WALLET}/keys");
        let create = Call::new("POST", &keys).bearer(&admin_key).json(json!({"name": "a"}));
        let key = service.send(create).expect(201).text("/key").to_owned();
        for _ in 0..70 {
            let call = Call::new("POST", "/v1/purchases").header("X-API-Key", &key);
            let metadata = json!({"text": "a".repeat(4000)});
            let body = json!({"amount": "0.000001", "metadata": metadata});
            service.send(call.json(body)).expect(201);
        }
        ((service, data_dir), key, admin_key)
    })
    .await
    .expect("the task does not panic");
    let (service, _data_dir) = service;
    let request =
        format!("GET /v1/purchases?limit=100 HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\n\r\n");
    let mut clients = Vec::with_capacity(CONNECTIONS);
    for number in 0..CONNECTIONS {
        let from = format!("127.0.2.{}", number % 3 + 1);
        let mut client = RawClient::connect_from(&from, service.address).await;
        client.send(request.repeat(5).as_bytes()).await;
        clients.push(client);
    }
    let metrics = service.metrics;
    let all_open = async || {
        let mut client = RawClient::connect(metrics).await;
        let answer = client.get("/metrics").await.expect("the server responds");
        let open = "tollgate_connections{state=\"open\"} ";
        let open = answer.body.lines().find_map(|line| line.strip_prefix(open));
        open.and_then(|open| open.parse::<f64>().ok())
            .is_some_and(|open| open >= CONNECTIONS as f64)
    };
    eventually("all connections are open", all_open).await;
    let keys = format!("/v1/accounts/{WALLET}/keys");
    let served = async || {
        let list =
            format!("GET {keys} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {admin_key}\r\n\r\n");
        let mut client = RawClient::connect(service.address).await;
        client.send(list.as_bytes()).await;
        client.receive().await.expect("the server responds").status == 200
    };
    eventually("the tenant's backend gets responses", served).await;
    let resident = resident_bytes(service.pid());
    assert!(resident < 256 * 1024 * 1024, "the service uses {resident} bytes of memory");
    println!("the service uses {resident} bytes of memory");
}
