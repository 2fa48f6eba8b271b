//! The command line, as the real program, with the private Postgres under it.

use serde_json::json;

use crate::harness::{Call, WALLET, place::Place, process::tollgate};

#[test]
fn cli_commands_work_with_and_without_a_running_service() {
    let place = Place::new("beside");
    let service = place.start(&["serve"]);
    let created = place.json(&[
        "tenant",
        "create",
        "tronagg",
        "--prefix",
        "ta_",
        "--max-keys",
        "3",
        "--currency",
        "TRX",
        "--decimals",
        "6",
        "--account-format",
        "tron",
        "--default-scopes",
        "write",
        "--json",
    ]);
    assert_eq!(created["tenant"], "tronagg");
    assert_eq!(created["environment"], "live");
    assert_eq!(created["prefix"], "ta_");
    let admin_key = created["admin_key"].as_str().expect("a key");
    assert!(admin_key.starts_with("tg_admin_"));
    let put = Call::new("PUT", &format!("/v1/accounts/{WALLET}")).bearer(admin_key);
    service.send(put).expect(201);

    // A second environment, and what collides.
    let test =
        place.stdout(&["tenant", "create", "tronagg", "--prefix", "tx_", "--environment", "test"]);
    assert!(test.contains("environment     test") && test.contains("tg_admin_"), "{test}");
    let taken = place.error(&["tenant", "create", "other", "--prefix", "ta_x_"]);
    assert!(taken.contains("prefix"), "{taken}");
    let exists = place.error(&["tenant", "create", "tronagg", "--prefix", "tz_"]);
    assert!(exists.contains("already"), "{exists}");
    let list = place.json(&["tenant", "list", "--json"]);
    assert_eq!(list.as_array().map(Vec::len), Some(2));
    let shown = place.json(&["tenant", "show", "tronagg", "--json"]);
    assert_eq!(shown["max_keys"], 3);
    assert_eq!(shown.get("admin_key"), None);

    // An admin key with one permission, revoked while the service runs.
    let audit = place.json(&[
        "admin-key",
        "create",
        "tronagg",
        "--permissions",
        "audit",
        "--name",
        "auditor",
        "--json",
    ]);
    let text = audit["admin_key"].as_str().expect("a key");
    let events = || Call::new("GET", "/v1/audit-events").bearer(text);
    let seen = service.send(events()).expect(200);
    assert_eq!(seen.data()[0]["action"], "admin_key.create");
    assert_eq!(seen.data()[0]["actor"], "cli");
    let refused = Call::new("GET", "/v1/accounts").bearer(text);
    service.send(refused).expect_problem(403, "insufficient_permission");
    let id = audit["id"].as_str().expect("an id");
    let revoked = place.stdout(&["admin-key", "revoke", "tronagg", id]);
    assert!(revoked.contains("revoked"), "{revoked}");
    service.send(events()).expect_problem(401, "invalid_admin_key");
    let keys = place.json(&["admin-key", "list", "tronagg", "--json"]);
    assert_eq!(keys[0]["name"], "auditor");
    assert!(keys[0]["revoked_at"].is_string());
    assert!(place.stdout(&["admin-key", "list", "tronagg"]).contains("revoked"));
    let absent = place.error(&["admin-key", "revoke", "tronagg", "adm_01h455vb4pex5vsknk084sn02q"]);
    assert!(absent.contains("no admin key"), "{absent}");
    let foreign = place.error(&["admin-key", "list", "nobody"]);
    assert!(foreign.contains("there is no tenant nobody in live"), "{foreign}");

    let (status, log) = service.stop();
    assert!(status.success(), "{status}: {log}");
    assert!(log.contains("stopped"), "{log}");
    assert_eq!(place.postmaster(), None, "the private Postgres is stopped");
    // Alone too: it starts the private Postgres for the time being.
    assert!(place.stdout(&["tenant", "list"]).contains("tronagg"));
    assert!(place.stdout(&["migrate"]).contains("up to date"));
    assert_eq!(place.postmaster(), None);
}

#[test]
fn demo_restart_keeps_its_data_and_replaces_the_admin_keys() {
    let place = Place::new("demo");
    let first = place.start(&["demo"]);
    let url = first.printed("Tollgate is ready: ");
    assert!(url.starts_with(&format!("http://{} ", first.address)), "{url}");
    first.printed("curl -sS ");
    let old_key = first.exported("TRONAGG_ADMIN_KEY");
    let read = |key: &str| Call::new("GET", &format!("/v1/accounts/{WALLET}")).bearer(key);
    let account = first.send(read(&old_key)).expect(200);
    assert_eq!(account.text("/balance/amount"), "100.000000");
    for (name, prefix, scope) in [
        ("TRADETALLY_ADMIN_KEY", "tt_live_", "read"),
        ("TRADETALLY_TEST_ADMIN_KEY", "tt_test_", "read"),
    ] {
        let create = Call::new("POST", "/v1/accounts/user-1/keys").bearer(&first.exported(name));
        let created = first.send(create.json(json!({"name": "a"}))).expect(201);
        assert!(created.text("/key").starts_with(prefix));
        assert_eq!(created.json["scopes"], json!([scope]));
    }
    let (status, log) = first.stop();
    assert!(status.success(), "{status}: {log}");

    let second = place.start(&["demo"]);
    let new_key = second.exported("TRONAGG_ADMIN_KEY");
    let account = second.send(read(&new_key)).expect(200);
    assert_eq!(account.text("/balance/amount"), "100.000000", "credited once");
    second.send(read(&old_key)).expect_problem(401, "invalid_admin_key");
    let (status, log) = second.stop();
    assert!(status.success(), "{status}: {log}");
}

#[test]
fn killed_service_replays_its_purchase_after_a_restart() {
    let place = Place::new("killed");
    let service = place.start(&["demo"]);
    let admin_key = service.exported("TRONAGG_ADMIN_KEY");
    let create = Call::new("POST", &format!("/v1/accounts/{WALLET}/keys")).bearer(&admin_key);
    let key = service.send(create.json(json!({"name": "a"}))).expect(201).text("/key").to_owned();
    let buy = || {
        let call = Call::new("POST", "/v1/purchases").header("X-API-Key", &key);
        call.idempotency_key("once").json(json!({"amount": "1"}))
    };
    let bought = service.send(buy()).expect(201);
    assert!(place.postmaster().is_some());
    service.signal(rustix::process::Signal::KILL);
    service.wait();

    let again = place.start(&["serve"]);
    let replayed = again.send(buy()).expect(201);
    assert_eq!(replayed.body, bought.body, "byte for byte, after a crash and a restart");
    assert_eq!(replayed.header("idempotent-replayed"), Some("true"));
    let (status, log) = again.stop();
    assert!(status.success(), "{status}: {log}");
}

#[test]
fn killed_private_postgres_is_restarted_under_a_running_service() {
    let place = Place::new("postmaster");
    let service = place.start(&["demo"]);
    let admin_key = service.exported("TRONAGG_ADMIN_KEY");
    let postmaster = place.postmaster().expect("it runs");
    let pid = rustix::process::Pid::from_raw(i32::try_from(postmaster).expect("a process id"));
    let kill = rustix::process::Signal::KILL;
    rustix::process::kill_process(pid.expect("not zero"), kill).expect("it is killed");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let call = Call::new("GET", &format!("/v1/accounts/{WALLET}")).bearer(&admin_key);
        let answer = service.send(call);
        match answer.status {
            // Until the new one runs; the old one's connections may live on for a moment.
            200 if place.postmaster() != Some(postmaster) => break,
            200 | 503 => {}
            _ => panic!("{answer:?}"),
        }
        assert!(std::time::Instant::now() < deadline, "it does not come back");
    }
    let (status, log) = service.stop();
    assert!(status.success(), "{status}: {log}");
}

#[test]
fn all_invalid_settings_are_reported_together() {
    let place = Place::new("settings");
    let mut command = tollgate(&["serve", "--request-timeout", "soon"]);
    let output = command
        .env("TOLLGATE_LISTEN", "nowhere")
        .env("TOLLGATE_DATABASE_CONNECTIONS", "many")
        .env("TOLLGATE_DATA_DIR", &place.directory)
        .output()
        .expect("the program runs");
    assert!(!output.status.success());
    let error = String::from_utf8(output.stderr).expect("text");
    for name in ["TOLLGATE_LISTEN", "TOLLGATE_DATABASE_CONNECTIONS", "TOLLGATE_REQUEST_TIMEOUT"] {
        assert!(error.contains(&format!("{name} is ")), "{error}");
    }
    assert!(!place.directory.exists(), "nothing was started");
}

#[test]
fn flags_override_environment_variables_which_override_the_env_file() {
    let place = Place::new("dotenv");
    std::fs::create_dir_all(&place.directory).expect("a directory");
    let file =
        "TOLLGATE_LISTEN=from-file\nTOLLGATE_SLOW_REQUEST=from-file\nTOLLGATE_LOG=from-file\n";
    std::fs::write(place.directory.join(".env"), file).expect("a file");
    let mut command = tollgate(&["serve", "--log", "from-flag"]);
    command.current_dir(&place.directory).env("TOLLGATE_SLOW_REQUEST", "from-environment");
    command.env("DATABASE_URL", "postgres://127.0.0.1:1/x");
    let output = command.output().expect("the program runs");
    let error = String::from_utf8(output.stderr).expect("text");
    for line in [
        "TOLLGATE_LISTEN is \"from-file\"",
        "TOLLGATE_SLOW_REQUEST is \"from-environment\"",
        "TOLLGATE_LOG is \"from-flag\"",
    ] {
        assert!(error.contains(line), "{line} is not in:\n{error}");
    }
}

#[test]
fn invalid_env_file_error_names_the_line_but_shows_no_content() {
    let place = Place::new("secret-dotenv");
    std::fs::create_dir_all(&place.directory).expect("a directory");
    let file = "# settings\nDATABASE_URL=postgres://app:my hunter2@h/db\n";
    std::fs::write(place.directory.join(".env"), file).expect("a file");
    let output = tollgate(&["serve"]).current_dir(&place.directory).output().expect("it runs");
    let error = String::from_utf8(output.stderr).expect("text");
    assert!(!output.status.success());
    assert!(error.contains(".env cannot be read") && error.contains("(line 2)"), "{error}");
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn command_reports_an_unreachable_database_without_its_password() {
    let place = Place::new("unreachable");
    let mut command = tollgate(&["tenant", "list"]);
    command.env("DATABASE_URL", "postgres://app:hunter2@127.0.0.1:1/ledger");
    let output = command.output().expect("the program runs");
    let error = String::from_utf8(output.stderr).expect("text");
    assert!(!output.status.success());
    assert!(error.contains("cannot reach Postgres at 127.0.0.1:1, database ledger"), "{error}");
    assert!(error.contains("refused") && !error.contains("hunter2"), "{error}");
    drop(place);
}

#[test]
fn every_command_and_option_has_help_text() {
    let place = Place::new("help");
    for arguments in [
        &["--help"][..],
        &["serve", "--help"],
        &["demo", "--help"],
        &["migrate", "--help"],
        &["tenant", "--help"],
        &["tenant", "create", "--help"],
        &["tenant", "list", "--help"],
        &["tenant", "show", "--help"],
        &["admin-key", "--help"],
        &["admin-key", "create", "--help"],
        &["admin-key", "list", "--help"],
        &["admin-key", "revoke", "--help"],
        &["openapi", "--help"],
    ] {
        let help = place.stdout(arguments);
        assert!(help.contains("Usage: tollgate"), "{help}");
        // Every argument and option has a text of its own.
        let mut lines = help.lines().peekable();
        while let Some(line) = lines.next() {
            let option = line.trim_start();
            let is_option = option.starts_with("--") || option.starts_with("-h,");
            if is_option && option.split("  ").count() < 2 {
                let next = lines.peek().map_or("", |next| next.trim());
                assert!(!next.is_empty() && !next.starts_with('-'), "{line} says nothing:\n{help}");
            }
        }
    }
    let wrong = place.error(&["tenant", "create", "Tron", "--prefix", "ta"]);
    assert!(wrong.contains("a slug has"), "{wrong}");
    let wrong = place.error(&["tenant", "create", "tron", "--prefix", "ta"]);
    assert!(wrong.contains("a prefix has"), "{wrong}");
    let document = place.json(&["openapi"]);
    assert_eq!(document["info"]["title"], "Tollgate");
    assert!(!place.directory.exists(), "none of these needs a database");
}
