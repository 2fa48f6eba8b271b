//! Metrics and log lines.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
};

use serde_json::{Value, json};
use tollgate::telemetry::{METRICS, MetricKind};

use crate::harness::{Call, WALLET, data_dir::DataDir, listener::RawClient, process::Process};

/// Fetches the metrics as Prometheus does.
pub fn scrape(address: SocketAddr) -> String {
    fetch(address, "/metrics")
}

fn fetch(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("the connection opens");
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("the request is sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the response can be read");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    answer
}

/// Makes a purchase and a purchase that is declined. Also sends requests without a key, with an
/// invalid key, with an unknown method, and to an unknown path.
fn send_requests(service: &Process) {
    let admin_key = service.exported("TRONAGG_ADMIN_KEY");
    let keys = format!("/v1/accounts/{WALLET}/keys");
    let create = Call::new("POST", &keys).bearer(&admin_key).json(json!({"name": "a"}));
    let key = service.send(create).expect(201).text("/key").to_owned();
    let buy = |amount: &str| {
        let call = Call::new("POST", "/v1/purchases").header("X-API-Key", &key);
        call.json(json!({"amount": amount}))
    };
    service.send(buy("1")).expect(201);
    service.send(buy("1000")).expect(402);
    service.send(Call::new("GET", "/v1/me")).expect(401);
    service.send(Call::new("GET", "/v1/me").header("X-API-Key", "nonsense")).expect(401);
    service.send(Call::new("GET", &keys).bearer("tg_admin_short")).expect(401);
    let unknown = format!("tg_admin_{}", "A".repeat(43));
    service.send(Call::new("GET", &keys).bearer(&unknown)).expect(401);
    service.send(Call::new("MADEUP", "/v1/me").header("X-API-Key", &key)).expect(405);
    service.send(Call::new("GET", "/made/up")).expect(404);
}

#[test]
fn metrics_count_requests_verifications_and_operations() {
    let data_dir = DataDir::new("metrics");
    let service = data_dir.start(&["demo"]);
    send_requests(&service);
    let metrics = scrape(service.metrics);
    for line in [
        "tollgate_http_requests_total{route=\"/v1/purchases\",method=\"POST\",status=\"201\"} 1",
        "tollgate_http_requests_total{route=\"/v1/purchases\",method=\"POST\",status=\"402\"} 1",
        "tollgate_http_requests_total{route=\"/v1/me\",method=\"other\",status=\"405\"} 1",
        "tollgate_http_requests_total{route=\"unmatched\",method=\"GET\",status=\"404\"} 1",
        "tollgate_verifications_total{tenant=\"tronagg\",environment=\"live\",outcome=\"valid\"} 2",
        "tollgate_verifications_total{tenant=\"\",environment=\"\",outcome=\"missing\"} 1",
        "tollgate_verifications_total{tenant=\"\",environment=\"\",outcome=\"malformed\"} 1",
        "tollgate_operations_total{tenant=\"tronagg\",environment=\"live\",kind=\"purchase\",outcome=\"done\"} 1",
        "tollgate_operations_total{tenant=\"tronagg\",environment=\"live\",kind=\"purchase\",outcome=\"declined\"} 1",
        "tollgate_database_connections{state=\"idle\"} ",
        "tollgate_database_connections_max ",
        "tollgate_usage_dropped_total 0",
        "tollgate_lease_held 1",
        "tollgate_lost_entries_total 0",
        "tollgate_lost_revokes_total 0",
        "tollgate_connections{state=\"open\"} ",
        "tollgate_connections{state=\"idle\"} ",
        "tollgate_cache_keys 1",
        "tollgate_cache_lookups_total{result=\"hit\"} ",
        "tollgate_cache_lookups_total{result=\"miss\"} ",
        "tollgate_cache_lookups_total{result=\"no_lease\"} ",
        "tollgate_gathered_keys_total ",
        "tollgate_gathered_statements_total ",
        "tollgate_database_seconds_count{operation=\"apply\"} 2",
        "tollgate_http_request_seconds_bucket{route=\"/v1/purchases\"",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    for name in metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let name = name.split(' ').next().expect("the line has a name");
        assert!(metrics.contains(&format!("# HELP {name} ")), "{name} has no help");
    }
    for (path, status) in [("/livez", "live"), ("/readyz", "ready")] {
        let health = fetch(service.metrics, path);
        assert!(health.contains(status), "{health}");
    }
    assert!(!metrics.contains("MADEUP") && !metrics.contains("/made/up"));
    let (status, log) = service.stop();
    assert!(status.success(), "{status}: {log}");
}

/// The metrics page of the book is generated from these declarations.
#[test]
fn exposed_metrics_match_the_declared_names_types_and_labels() {
    let data_dir = DataDir::new("declared-metrics");
    let service = data_dir.start(&["demo"]);
    send_requests(&service);
    let metrics = scrape(service.metrics);
    let types = metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let declared = METRICS.iter().map(|metric| {
        let kind = match metric.kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        };
        (metric.name, kind)
    });
    assert_eq!(types.collect::<BTreeMap<_, _>>(), declared.collect::<BTreeMap<_, _>>());
    let mut checked = 0;
    for line in metrics.lines().filter(|line| line.starts_with("tollgate_")) {
        let (name, labels) = match line.split_once('{') {
            Some((name, rest)) => (name, rest.rsplit_once('}').expect("the labels have an end").0),
            None => (line.split_once(' ').expect("the line has a value").0, ""),
        };
        let metric = METRICS.iter().find(|metric| {
            let parts = ["", "_bucket", "_sum", "_count"];
            parts.iter().any(|part| name.strip_suffix(part) == Some(metric.name))
        });
        let metric = metric.unwrap_or_else(|| panic!("no declared metric has the line {line}"));
        let labels: BTreeMap<&str, &str> = labels
            .split(',')
            .filter_map(|label| label.split_once('='))
            .filter(|(label, _)| *label != "le")
            .collect();
        let declared: BTreeSet<&str> = metric.labels.iter().map(|label| label.name).collect();
        assert_eq!(labels.keys().copied().collect::<BTreeSet<_>>(), declared, "{line}");
        for label in metric.labels.iter().filter(|label| !label.values.is_empty()) {
            let value = labels[label.name].trim_matches('"');
            assert!(label.values.contains(&value), "{line}");
            checked += 1;
        }
    }
    assert!(checked > 20, "{checked}");
    let (status, log) = service.stop();
    assert!(status.success(), "{status}: {log}");
}

#[test]
fn log_shows_wrong_tenant_for_a_key_of_another_tenant_and_metrics_do_not_count_it() {
    let data_dir = DataDir::new("wrong-tenant");
    let service = data_dir.start(&["demo", "--log", "info,json"]);
    let admin_key = service.exported("TRADETALLY_ADMIN_KEY");
    let create = Call::new("POST", "/v1/accounts/user-1/keys").bearer(&admin_key);
    let create = create.json(json!({"name": "a", "scopes": ["write"]}));
    let key = service.send(create).expect(201).text("/key").to_owned();
    let authorize = |tenant: &str| {
        let path = format!("/v1/authorize/{tenant}/live");
        service.send(Call::new("GET", &path).header("X-API-Key", &key))
    };
    // The node gets the first verdict from the database, and the second verdict from the cache.
    for _ in 0..2 {
        authorize("tronagg").expect_problem(401, "invalid_api_key");
    }
    let metrics = scrape(service.metrics);
    let verifications = metrics
        .lines()
        .filter(|line| line.starts_with("tollgate_verifications_total{") && !line.ends_with(" 0"));
    assert_eq!(verifications.collect::<Vec<_>>(), Vec::<&str>::new());
    authorize("tradetally").expect(200);
    let valid = "tollgate_verifications_total{tenant=\"tradetally\",environment=\"live\",outcome=\"valid\"} 1";
    let metrics = scrape(service.metrics);
    assert!(metrics.contains(valid), "{valid} is not in\n{metrics}");

    let (status, log) = service.stop();
    assert!(status.success(), "{status}: {log}");
    let lines =
        log.lines().map(|line| serde_json::from_str::<Value>(line).expect("the text is JSON"));
    let refused: Vec<Value> = lines.filter(|line| line["message"] == "request refused").collect();
    assert_eq!(refused.len(), 2, "{log}");
    for line in refused {
        assert_eq!(line["reason"], "wrong_tenant");
        assert_eq!(line["code"], "invalid_api_key");
        assert_eq!(line["route"], "/v1/authorize/{tenant}/{environment}");
        // The log line must not show the owner of the key to the gateway's tenant.
        assert_eq!((&line["tenant"], &line["key_id"]), (&Value::Null, &Value::Null));
    }
}

#[test]
fn log_lines_are_json_objects_if_the_log_setting_contains_json() {
    let data_dir = DataDir::new("json");
    let service = data_dir.start(&["demo", "--log", "info,json"]);
    send_requests(&service);
    let (status, log) = service.stop();
    assert!(status.success(), "{status}: {log}");
    let lines: Vec<Value> =
        log.lines().map(|line| serde_json::from_str(line).expect("the text is JSON")).collect();
    let refused: Vec<_> =
        lines.iter().filter(|line| line["message"] == "request refused").collect();
    let declined = refused.iter().find(|line| line["status"] == 402).expect("the line exists");
    assert_eq!(declined["code"], "insufficient_balance");
    assert_eq!(declined["tenant"], "tronagg");
    assert_eq!(declined["route"], "/v1/purchases");
    assert!(declined["request_id"].as_str().expect("the id is a string").starts_with("req_"));
    // Tollgate logs successful requests at the level `debug` only.
    assert!(lines.iter().all(|line| line["status"] != 201), "{log}");
    let unknown =
        refused.iter().find(|line| line["reason"] == "malformed").expect("the line exists");
    assert_eq!(unknown["code"], "invalid_api_key");
    let admin_keys = refused.iter().filter(|line| line["code"] == "invalid_admin_key");
    let reasons: Vec<_> = admin_keys.map(|line| &line["reason"]).collect();
    assert_eq!(reasons, ["malformed_admin_key", "not_found"]);
}

#[test]
fn log_summarizes_refusals_after_the_tenth_in_one_line() {
    let data_dir = DataDir::new("refusals");
    let service = data_dir.start(&["demo", "--log", "info,json"]);
    for _ in 0..30 {
        service.send(Call::new("GET", "/v1/me").header("X-API-Key", "nonsense")).expect(401);
    }
    service.send(Call::new("GET", "/made/up")).expect(404);
    let (status, log) = service.stop();
    assert!(status.success(), "{status}: {log}");
    let lines: Vec<Value> =
        log.lines().map(|line| serde_json::from_str(line).expect("the text is JSON")).collect();
    let count = |message: &str, reason: Value| {
        let matching = lines.iter().filter(|line| line["message"] == message);
        let matching = matching.filter(|line| line["reason"] == reason);
        matching.inspect(|line| assert_eq!(line["address"], "127.0.0.1", "{line}")).count()
    };
    assert_eq!(count("request refused", json!("malformed")), 10, "{log}");
    // A refusal for another reason still gets its own line.
    assert_eq!(count("request refused", Value::Null), 1, "{log}");
    assert_eq!(count("requests summarized", json!("malformed")), 1, "{log}");
    let sum = lines
        .iter()
        .find(|line| line["message"] == "requests summarized")
        .expect("the line exists");
    assert_eq!(sum["count"], 20, "{sum}");
}

#[tokio::test(flavor = "multi_thread")]
async fn log_summarizes_503_responses_after_the_tenth_in_one_line() {
    let data_dir = DataDir::new("no-room");
    let service =
        data_dir.start(&["demo", "--log", "info,json", "--max-connections-per-address", "1"]);
    let mut holder = RawClient::connect(service.address).await;
    assert_eq!(holder.get("/livez").await.expect("the server responds").status, 200);
    for _ in 0..30 {
        let mut client = RawClient::connect(service.address).await;
        assert_eq!(client.get("/v1/me").await.expect("the server responds").status, 503);
    }
    drop(holder);
    let (status, log) = service.stop();
    assert!(status.success(), "{status}: {log}");
    let lines: Vec<Value> =
        log.lines().map(|line| serde_json::from_str(line).expect("the text is JSON")).collect();
    let with = |message: &str| -> Vec<&Value> {
        lines.iter().filter(|line| line["message"] == message).collect()
    };
    let answers = with("could not answer the request");
    assert_eq!(answers.len(), 10, "{log}");
    assert!(answers.iter().all(|line| line["reason"] == "too many connections"), "{log}");
    let sums = with("requests summarized");
    assert_eq!(sums.len(), 1, "{log}");
    assert_eq!((&sums[0]["reason"], &sums[0]["count"]), (&json!("unavailable"), &json!(20)));
}
