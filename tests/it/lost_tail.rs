//! A failover to a standby that lacks the newest commits of the old primary. The node and `tollgate
//! ledger verify --since` report the lost entries.

use serde_json::json;
use tollgate::postgres::DATABASE;

use crate::{
    failover::{Pair, authorize},
    harness::{
        app::NewKey,
        cluster, eventually,
        process::{Process, tollgate},
    },
    ledger_verify::{head_at, head_file, verify_at},
    telemetry::scrape,
};

/// The message that the node logs at the end of a check.
const CHECKED: &str = "checked for lost commits";

/// Starts a service behind the pair's load balancer, which routes to the primary.
fn serve(pair: &Pair, name: &str) -> Process {
    let mut service = tollgate(&["serve", "--log", "debug"]);
    service.env("DATABASE_URL", pair.balancer.url(DATABASE));
    Process::start(service, &cluster::directory(&format!("{name}.log")))
}

/// Creates three keys of an account. The test buys with the first key, revokes the second, and
/// rotates the third without a grace period.
async fn three_keys(pair: &Pair) -> (NewKey, [NewKey; 2]) {
    let wallet = pair.app.wallet("10").await;
    let buyer = pair.app.key(&pair.app.tronagg, wallet).await;
    let revoked = pair.app.key(&pair.app.tronagg, wallet).await;
    (buyer, [revoked, pair.app.key(&pair.app.tronagg, wallet).await])
}

/// Makes three purchases, revokes a key, and rotates a key. The service acknowledges all five
/// operations.
fn buy_and_revoke(service: &Process, pair: &Pair, buyer: &NewKey, dead: &[NewKey; 2]) {
    let [revoked, rotated] = dead;
    for _ in 0..3 {
        service.send(buyer.buy("1")).expect(201);
    }
    let revoke = pair.app.tronagg.call("POST", &format!("{}/revoke", revoked.path));
    service.send(revoke.json(json!({"reason": "leaked"}))).expect(200);
    let rotate = pair.app.tronagg.call("POST", &format!("{}/rotate", rotated.path));
    service.send(rotate.json(json!({"grace_seconds": 0}))).expect(201);
    expect_dead(service, dead);
}

fn expect_dead(service: &Process, dead: &[NewKey; 2]) {
    for key in dead {
        service.send(authorize(key)).expect(401);
    }
}

/// Promotes the standby, and routes all nodes to it except the pair's first node.
async fn fail_over(pair: &Pair) {
    pair.standby.promote().await;
    pair.balancer.lead_to(pair.standby.socket());
    pair.balancer_of_session.lead_to(pair.standby.socket());
    let terminate = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                     WHERE application_name LIKE 'tollgate%'";
    sqlx::query(terminate).execute(&pair.app.pool).await.expect("the connections are closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn node_reports_entries_that_a_failover_lost_and_repeats_lost_revocations() {
    let pair = Pair::start("lost-tail").await;
    let (buyer, dead) = three_keys(&pair).await;
    let service = serve(&pair, "lost-tail");
    service.send(buyer.buy("1")).expect(201);
    pair.standby.catch_up(&pair.app.pool).await;
    let earlier = head_file("lost-tail-earlier", &head_at(&pair.standby.url()));
    pair.standby.stop_receiving(&pair.app.pool).await;
    buy_and_revoke(&service, &pair, &buyer, &dead);
    let newest = head_file("lost-tail-newest", &head_at(&pair.app.url));

    fail_over(&pair).await;
    let is_checked = async || service.log().contains(CHECKED);
    eventually("the node has checked what it acknowledged", is_checked).await;
    let (metrics, log) = (scrape(service.metrics), service.log());
    for counter in ["tollgate_lost_entries_total 3\n", "tollgate_lost_revokes_total 2\n"] {
        assert!(metrics.contains(counter), "{counter} is not in\n{metrics}");
    }
    for line in [
        "the database lost 3 acknowledged ledger entries from the last minute. The first is entry 3 ",
        "the database lost 2 acknowledged revocations from the last minute. This node repeats them",
    ] {
        assert_eq!(log.matches(line).count(), 1, "{line}:\n{log}");
    }
    expect_dead(&service, &dead);
    let events = service.send(pair.app.tronagg.call("GET", "/v1/audit-events")).expect(200);
    let by_backend = json!("admin_key");
    for (event, reason) in events.data().iter().zip(["rotated", "leaked"]) {
        assert_eq!((&event["action"], &event["actor"]), (&json!("api_key.revoke"), &by_backend));
        assert_eq!(event["detail"]["reason"], reason);
        assert_eq!(
            event["detail"]["repeated_because"],
            "a failover of the database lost the revocation"
        );
    }

    let url = pair.standby.url();
    let (succeeded, output) = verify_at(&url, &["--since", &earlier]);
    assert!(succeeded && output.contains("no fault"), "{output}");
    let (succeeded, output) = verify_at(&url, &["--since", &newest]);
    let missing = "is missing. The newest entry of the account is 2\n";
    assert!(!succeeded && output.contains(missing), "{output}");

    service.send(buyer.buy("1")).expect(201);
    let (status, log) = service.stop();
    assert!(status.success(), "{log}");
    for file in [earlier, newest] {
        std::fs::remove_file(file).expect("the test owns the file");
    }
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn node_reports_nothing_if_a_failover_lost_nothing() {
    let pair = Pair::start("kept-tail").await;
    let (buyer, dead) = three_keys(&pair).await;
    let service = serve(&pair, "kept-tail");
    buy_and_revoke(&service, &pair, &buyer, &dead);
    assert!(!service.log().contains(CHECKED), "the node checks nothing in its first session");
    let newest = head_file("kept-tail", &head_at(&pair.app.url));
    pair.standby.catch_up(&pair.app.pool).await;

    fail_over(&pair).await;
    // A purchase that the new server acknowledges before the check is not reported as lost.
    let buy = || service.send(buyer.buy("0.01")).status == 201;
    eventually("the node buys on the new server", async || buy()).await;
    let is_checked = async || {
        buy();
        service.log().contains(CHECKED)
    };
    eventually("the node has checked what it acknowledged", is_checked).await;
    let (metrics, log) = (scrape(service.metrics), service.log());
    for counter in ["tollgate_lost_entries_total 0\n", "tollgate_lost_revokes_total 0\n"] {
        assert!(metrics.contains(counter), "{counter} is not in\n{metrics}");
    }
    assert!(!log.contains("the database lost"), "{log}");
    expect_dead(&service, &dead);
    let (succeeded, output) = verify_at(&pair.standby.url(), &["--since", &newest]);
    assert!(succeeded && output.contains("no fault"), "{output}");
    let (status, log) = service.stop();
    assert!(status.success(), "{log}");
    std::fs::remove_file(newest).expect("the test owns the file");
    pair.end().await;
}
