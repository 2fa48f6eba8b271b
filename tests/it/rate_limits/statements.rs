//! Rate limits cost no statement for each call.

use serde_json::{Value, json};

use super::calls::{AUTHORIZE, limit};
use crate::{
    harness::{Call, WALLET, data_dir::DataDir, process::Process},
    telemetry::scrape,
};

/// Further calls after the first ones.
const CALLS: u64 = 1000;

/// Maximum number of statements that all further calls together may cost.
const MAX_STATEMENTS: u64 = 5;

/// Starts a service and creates a key with this limit. Returns a call with the key.
fn start(data_dir: &DataDir, limit: Value) -> (Process, Call) {
    let service = data_dir.start(&["demo"]);
    let admin_key = service.exported("TRONAGG_ADMIN_KEY");
    let create = Call::new("POST", &format!("/v1/accounts/{WALLET}/keys")).bearer(&admin_key);
    let body = json!({"name": "a key", "rate_limits": [limit]});
    let key = service.send(create.json(body)).expect(201).text("/key").to_owned();
    (service, Call::new("GET", AUTHORIZE).header("X-API-Key", &key))
}

/// Returns the value of a metric, or 0 if it has no value yet.
fn metric(service: &Process, name: &str) -> u64 {
    let metrics = scrape(service.metrics);
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.map_or(0, |value| value.parse().expect("the value is a number"))
}

/// Returns how many statements have requested, reported or returned calls of limits.
fn statements(service: &Process) -> u64 {
    metric(service, "tollgate_database_seconds_count{operation=\"share_rate_limits\"}")
}

fn stop(service: Process) {
    let (status, log) = service.stop();
    assert!(status.success(), "{status}: {log}");
}

#[test]
fn calls_over_a_limit_cost_no_statements_and_are_counted_as_an_outcome_of_their_own() {
    let data_dir = DataDir::new("rate-limits-refused");
    let (service, call) = start(&data_dir, limit("default", 3));
    for _ in 0..3 {
        service.send(call.clone()).expect(200);
    }
    service.send(call.clone()).expect_problem(429, "rate_limited");
    let before = statements(&service);
    assert!((1..=4).contains(&before), "{before} statements for four calls");
    for _ in 0..CALLS {
        service.send(call.clone()).expect_problem(429, "rate_limited");
    }
    let cost = statements(&service) - before;
    assert!(cost <= MAX_STATEMENTS, "{CALLS} refused calls cost {cost} statements");

    let outcome = "tollgate_verifications_total{tenant=\"tronagg\",environment=\"live\",outcome=";
    assert_eq!(metric(&service, &format!("{outcome}\"rate_limited\"}}")), CALLS + 1);
    assert_eq!(metric(&service, &format!("{outcome}\"valid\"}}")), 3);
    stop(service);
}

#[test]
fn calls_within_a_share_cost_no_statements() {
    let data_dir = DataDir::new("rate-limits-passed");
    // A share has at least a 64th of the limit.
    let (service, call) = start(&data_dir, limit("default", 10_000_000));
    service.send(call.clone()).expect(200);
    let before = statements(&service);
    assert!(before > 0, "the first call requests a share");
    for _ in 0..CALLS {
        service.send(call.clone()).expect(200);
    }
    let cost = statements(&service) - before;
    assert!(cost <= MAX_STATEMENTS, "{CALLS} calls cost {cost} statements");
    stop(service);
}
