//! Searches for the plaintext of keys after requests to many routes, with the log level `trace`. No
//! log, table or database file contains it. Only the two responses that return a new key contain
//! it.

use std::path::Path;

use serde_json::json;

use crate::harness::{Call, WALLET, data_dir::DataDir};

/// Searches all files below `directory`. Adds every file that contains one of the needles to
/// `found`.
fn files_with(directory: &Path, needles: &[String], found: &mut Vec<String>) {
    for entry in std::fs::read_dir(directory).expect("the directory can be read") {
        let path = entry.expect("the entry can be read").path();
        if path.is_dir() {
            files_with(&path, needles, found);
        } else if let Ok(bytes) = std::fs::read(&path) {
            for needle in needles {
                if bytes.windows(needle.len()).any(|window| window == needle.as_bytes()) {
                    found.push(format!("{} contains {needle}", path.display()));
                }
            }
        }
    }
}

#[test]
fn key_plaintext_appears_only_in_the_create_and_rotate_responses() {
    let data_dir = DataDir::new("secrets");
    let service = data_dir.start(&["demo", "--log", "trace"]);
    let admin_key = service.exported("TRONAGG_ADMIN_KEY");
    let admin = |method: &str, path: &str| Call::new(method, path).bearer(&admin_key);

    let keys = format!("/v1/accounts/{WALLET}/keys");
    let created = service.send(admin("POST", &keys).json(json!({"name": "a"}))).expect(201);
    let first = created.text("/key").to_owned();
    let rotate = format!("{keys}/{}/rotate", created.text("/id"));
    let rotated =
        service.send(admin("POST", &rotate).json(json!({"grace_seconds": 60}))).expect(201);
    let second = rotated.text("/key").to_owned();
    let never_given_out = format!("ta_{}", "Hunted0".repeat(7).split_at(43).0);
    let secrets = [&first, &second, &admin_key, &never_given_out];

    let body = json!({"amount": "1", "reference": "walk"});
    let verify = |key: &str| admin("POST", "/v1/keys/verify").json(json!({"key": key}));
    let mut answers = Vec::new();
    for key in [&first, &second, &never_given_out] {
        let with = |method: &str, path: &str| Call::new(method, path).header("X-API-Key", key);
        for call in [
            with("GET", "/v1/me"),
            with("GET", "/v1/authorize/tronagg/live"),
            Call::new("GET", "/v1/me").bearer(key),
            with("POST", "/v1/purchases").json(body.clone()).idempotency_key("walk"),
            with("GET", "/v1/purchases"),
            with("GET", &format!("/v1/me?key={key}")),
            with("GET", &format!("/{key}")),
            with(&key.replace('_', "-"), "/v1/me"),
            with("GET", "/v1/me").header("X-Request-Id", key),
            verify(key),
            // A client may send a key in a wrong field by mistake.
            admin("GET", &format!("/v1/accounts/{key}")),
            admin("GET", &format!("{keys}/{key}")),
            admin("GET", &format!("/v1/accounts?cursor={key}")),
            admin("POST", &keys).body("application/json", format!("{{\"name\": {key}}}")),
        ] {
            answers.push(service.send(call));
        }
    }
    // The accounts of this tenant may have any id, so a key is a valid account id.
    let other_admin = service.exported("TRADETALLY_ADMIN_KEY");
    let account = format!("/v1/accounts/{first}");
    service.send(Call::new("GET", &account).bearer(&other_admin)).expect(404);
    for path in [keys.as_str(), "/v1/audit-events", &format!("/v1/accounts/{WALLET}/ledger")] {
        answers.push(service.send(admin("GET", path)).expect(200));
    }
    let revoke = format!("{keys}/{}/revoke", rotated.text("/id"));
    answers.push(service.send(admin("POST", &revoke)).expect(200));
    for answer in &answers {
        let shown = format!("{answer:?}");
        for secret in secrets {
            let body = &secret[secret.len() - 43..];
            assert!(!shown.contains(body), "a response contains {secret}:\n{shown}");
        }
    }

    let (status, log) = service.stop();
    assert!(status.success(), "{status}");
    assert!(log.contains("DEBUG") && log.contains("route=\"/v1/purchases\""), "{log}");
    // The test has stopped the database, so the files on disk contain all of its data: tables,
    // indexes, write-ahead log (WAL) and server log.
    let needles: Vec<String> =
        secrets.iter().map(|secret| secret[secret.len() - 43..].to_owned()).collect();
    for needle in &needles {
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(needle)).collect();
        assert_eq!(lines, Vec::<&str>::new(), "the log contains {needle}");
    }
    let mut found = Vec::new();
    files_with(&data_dir.path, &needles, &mut found);
    assert_eq!(found, Vec::<String>::new());
    // The search must find the hint, which Tollgate stores. This proves that the search works.
    let mut hints = Vec::new();
    files_with(&data_dir.path, &[created.text("/hint").to_owned()], &mut hints);
    assert!(!hints.is_empty(), "the search finds the hint in the database files");
}
