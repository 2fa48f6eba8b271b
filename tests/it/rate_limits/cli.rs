//! `tollgate tenant limits` with the real program, beside a running service.

use serde_json::{Value, json};

use crate::harness::{Call, WALLET, data_dir::DataDir, process::Process};

const AUTHORIZE: &str = "/v1/authorize/tronagg/live";

/// A running service with the tenant `tronagg`.
struct Service {
    process: Process,
    data_dir: DataDir,
    admin_key: String,
}

impl Service {
    fn start(name: &str) -> Self {
        let data_dir = DataDir::new(name);
        let process = data_dir.start(&["serve"]);
        let create = ["tenant", "create", "tronagg", "--prefix", "ta_", "--json"];
        let created = data_dir.json(&create);
        let admin_key = created["admin_key"].as_str().expect("the key is a string").to_owned();
        Self { process, data_dir, admin_key }
    }

    /// Runs `tollgate tenant limits tronagg --json` with these arguments.
    fn limits(&self, arguments: &[&str]) -> Value {
        let command = ["tenant", "limits", "tronagg", "--json"];
        self.data_dir.json(&[&command[..], arguments].concat())
    }

    /// Creates an account with a key. Returns the key.
    fn key(&self) -> String {
        let account = format!("/v1/accounts/{WALLET}");
        self.process.send(Call::new("PUT", &account).bearer(&self.admin_key)).expect(201);
        let create = Call::new("POST", &format!("{account}/keys")).bearer(&self.admin_key);
        let created = self.process.send(create.json(json!({"name": "a key"})));
        created.expect(201).text("/key").to_owned()
    }

    fn newest_event(&self) -> Value {
        let events = Call::new("GET", "/v1/audit-events?limit=1").bearer(&self.admin_key);
        self.process.send(events).expect(200).data()[0].clone()
    }

    fn stop(self) {
        let (status, log) = self.process.stop();
        assert!(status.success(), "{status}: {log}");
    }
}

fn limit(name: &str, calls: u32, seconds: u32) -> Value {
    json!({"name": name, "limit": calls, "window_seconds": seconds, "scope": null})
}

#[test]
fn command_prints_sets_replaces_and_clears_the_three_lists() {
    let service = Service::start("tenant-limits");
    let none = json!({
        "tenant": "tronagg", "environment": "live",
        "rate_limits": [], "key_rate_limits": [], "account_rate_limits": [],
    });
    assert_eq!(service.limits(&[]), none);
    let before = service.newest_event();

    let set = [
        "--limit=default=100000/1m",
        "--key-limit=default=1000/60",
        "--key-limit=orders=10/1s@orders:write",
        "--account-limit=daily=50000/1d",
    ];
    let changed = service.limits(&set);
    assert_eq!(changed["rate_limits"], json!([limit("default", 100_000, 60)]));
    let orders =
        json!({"name": "orders", "limit": 10, "window_seconds": 1, "scope": "orders:write"});
    assert_eq!(changed["key_rate_limits"], json!([limit("default", 1000, 60), orders]));
    assert_eq!(changed["account_rate_limits"], json!([limit("daily", 50_000, 86_400)]));
    let event = service.newest_event();
    assert_ne!(event["id"], before["id"]);
    assert_eq!(
        (&event["action"], &event["actor"]),
        (&json!("tenant.limits_change"), &json!("cli"))
    );
    assert_eq!(event["detail"]["rate_limits"]["to"], changed["rate_limits"]);
    let lists = Call::new("GET", "/v1/limits").bearer(&service.admin_key);
    let lists = service.process.send(lists).expect(200).json;
    for list in ["rate_limits", "key_rate_limits", "account_rate_limits"] {
        assert_eq!(lists[list], changed[list], "{list}");
    }
    assert_eq!(
        service.data_dir.stdout(&["tenant", "limits", "tronagg"]),
        "tenant          tronagg\n\
         environment     live\n\
         limits          default=100000/60s\n\
         key limits      default=1000/60s, orders=10/1s@orders:write\n\
         account limits  daily=50000/86400s\n"
    );

    // A given list replaces the earlier list of its kind, and the other lists stay unchanged.
    let replaced = service.limits(&["--key-limit", "burst=5/1s", "--no-account-limits"]);
    assert_eq!(replaced["key_rate_limits"], json!([limit("burst", 5, 1)]));
    assert_eq!(replaced["account_rate_limits"], json!([]));
    assert_eq!(replaced["rate_limits"], changed["rate_limits"]);
    assert_eq!(service.limits(&[]), replaced, "a command without changes only prints");
    let event = service.newest_event();
    assert_eq!(event["detail"].as_object().map(serde_json::Map::len), Some(2), "{event}");
    assert_eq!(service.limits(&["--no-limits", "--no-key-limits"]), none);
    let cleared = service.data_dir.stdout(&["tenant", "limits", "tronagg"]);
    assert!(cleared.contains("limits          none\nkey limits      none\n"), "{cleared}");

    // The other environment of the platform has its own limits.
    let create = ["tenant", "create", "tronagg", "--prefix", "tx_", "--environment", "test"];
    service.data_dir.stdout(&create);
    let test = service.limits(&["--environment", "test", "--limit", "default=1/1s"]);
    assert_eq!(
        (&test["environment"], &test["rate_limits"][0]["limit"]),
        (&json!("test"), &json!(1))
    );
    assert_eq!(service.limits(&[]), none);
    service.stop();
}

#[test]
fn invalid_rate_limits_are_refused_and_the_error_names_the_option_and_the_rule() {
    let data_dir = DataDir::new("tenant-limits-invalid");
    let many: Vec<String> = (0..9).map(|n| format!("--limit=a{n}=1/1s")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let cases: [(&[&str], [&str; 2]); 10] = [
        (&["--limit=1000/60s"], ["--limit", "a rate limit is NAME=CALLS/WINDOW"]),
        (&["--limit=default=1000"], ["--limit", "a rate limit is NAME=CALLS/WINDOW"]),
        (&["--key-limit=Default=1/60s"], ["--key-limit", "a name has 1 to 32 characters"]),
        (&["--key-limit=default=0/60s"], ["--key-limit", "must be from 1 to 10000000"]),
        (&["--account-limit=default=1/32d"], ["--account-limit", "must be from 1 to 2678400"]),
        (&["--account-limit=a=1/1w"], ["--account-limit", "followed by s, m, h or d"]),
        (&["--limit=a=1/1s@Orders"], ["--limit", "a scope is"]),
        (&["--limit=a=1/1s", "--limit=a=2/1s"], ["--limit", "two rate limits have the name a"]),
        (&many[..], ["--limit", "a list has at most 8 rate limits"]),
        (&["--key-limit=a=1/1s", "--no-key-limits"], ["--key-limit", "--no-key-limits"]),
    ];
    for (arguments, expected) in cases {
        let error = data_dir.error(&[&["tenant", "limits", "tronagg"][..], arguments].concat());
        for text in expected {
            assert!(error.contains(text), "{arguments:?}: {text} is not in: {error}");
        }
    }
    assert!(!data_dir.path.exists(), "an invalid command creates no data directory");
}

#[test]
fn limits_of_an_unknown_tenant_are_refused() {
    let service = Service::start("tenant-limits-unknown");
    for change in [&[][..], &["--limit", "default=1/1s"]] {
        let command = ["tenant", "limits", "nobody"];
        let error = service.data_dir.error(&[&command[..], change].concat());
        assert!(error.contains("no tenant nobody in environment live"), "{error}");
    }
    service.stop();
}

#[test]
fn running_node_applies_a_lower_limit_as_soon_as_the_command_has_returned() {
    let service = Service::start("tenant-limits-lower");
    let key = service.key();
    let call = || service.process.send(Call::new("GET", AUTHORIZE).header("X-API-Key", &key));
    for (option, name) in [
        ("--key-limit", "default"),
        ("--account-limit", "account:default"),
        ("--limit", "tenant:default"),
    ] {
        service.limits(&["--no-limits", "--no-key-limits", "--no-account-limits"]);
        service.limits(&[option, "default=1000/1h"]);
        call().expect(200);
        service.limits(&[option, "default=1/1h"]);
        let refused = call().expect_problem(429, "rate_limited");
        assert_eq!(refused.json["limit"], name);
    }
    service.stop();
}

#[test]
fn command_without_changes_needs_no_service() {
    let data_dir = DataDir::new("tenant-limits-alone");
    data_dir.stdout(&["tenant", "create", "tronagg", "--prefix", "ta_"]);
    let set = ["tenant", "limits", "tronagg", "--limit", "default=5/1m", "--json"];
    assert_eq!(data_dir.json(&set)["rate_limits"], json!([limit("default", 5, 60)]));
    assert_eq!(data_dir.json(&["tenant", "limits", "tronagg", "--json"]), data_dir.json(&set));
    assert_eq!(data_dir.postmaster_pid(), None, "the command stopped its private Postgres");
}
