//! Tests of the real program's command line with the private Postgres.

use serde_json::json;

use crate::harness::{
    Call, OTHER_WALLET, WALLET,
    data_dir::DataDir,
    process::{Process, tollgate},
};

#[test]
fn cli_commands_work_with_and_without_a_running_service() {
    let data_dir = DataDir::new("beside");
    let service = data_dir.start(&["serve"]);
    let created = data_dir.json(&[
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
    let admin_key = created["admin_key"].as_str().expect("the key is a string");
    assert!(admin_key.starts_with("tg_admin_"));
    let put = Call::new("PUT", &format!("/v1/accounts/{WALLET}")).bearer(admin_key);
    service.send(put).expect(201);

    // A tenant can have a second environment with its own prefix. The command refuses a prefix that
    // overlaps another prefix, and a tenant that already exists.
    let test_environment = data_dir.stdout(&[
        "tenant",
        "create",
        "tronagg",
        "--prefix",
        "tx_",
        "--environment",
        "test",
    ]);
    assert!(
        test_environment.contains("environment     test") && test_environment.contains("tg_admin_"),
        "{test_environment}"
    );
    let overlapping_prefix = data_dir.error(&["tenant", "create", "other", "--prefix", "ta_x_"]);
    assert!(overlapping_prefix.contains("prefix"), "{overlapping_prefix}");
    let existing_tenant = data_dir.error(&["tenant", "create", "tronagg", "--prefix", "tz_"]);
    assert!(existing_tenant.contains("already"), "{existing_tenant}");
    let list = data_dir.json(&["tenant", "list", "--json"]);
    assert_eq!(list.as_array().map(Vec::len), Some(2));
    let shown = data_dir.json(&["tenant", "show", "tronagg", "--json"]);
    assert_eq!(shown["status"], "active");
    let plan = data_dir.json(&["plan", "show", "tronagg", "default", "--json"]);
    assert_eq!(plan["max_keys"], 3);
    assert_eq!(shown.get("admin_key"), None);

    let full = data_dir.json(&["admin-key", "create", "tronagg", "--json"]);
    let all = ["accounts", "keys", "verify", "credits", "audit", "dashboard", "policy"];
    assert_eq!(full["permissions"], json!(all));

    // A command revokes an admin key while the service runs.
    let auditor = data_dir.json(&[
        "admin-key",
        "create",
        "tronagg",
        "--permissions",
        "audit",
        "--name",
        "auditor",
        "--json",
    ]);
    let auditor_key = auditor["admin_key"].as_str().expect("the key is a string");
    let events = || Call::new("GET", "/v1/audit-events").bearer(auditor_key);
    let listed = service.send(events()).expect(200);
    assert_eq!(listed.data()[0]["action"], "admin_key.create");
    assert_eq!(listed.data()[0]["actor"], "cli");
    let not_permitted = Call::new("GET", "/v1/accounts").bearer(auditor_key);
    service.send(not_permitted).expect_problem(403, "insufficient_permission");
    let id = auditor["id"].as_str().expect("the id is a string");
    let revoked = data_dir.stdout(&["admin-key", "revoke", "tronagg", id]);
    assert!(revoked.contains("revoked"), "{revoked}");
    service.send(events()).expect_problem(401, "invalid_admin_key");
    let keys = data_dir.json(&["admin-key", "list", "tronagg", "--json"]);
    assert_eq!(keys[0]["name"], "auditor");
    assert!(keys[0]["revoked_at"].is_string());
    assert!(data_dir.stdout(&["admin-key", "list", "tronagg"]).contains("revoked"));
    let unknown_key =
        data_dir.error(&["admin-key", "revoke", "tronagg", "adm_01h455vb4pex5vsknk084sn02q"]);
    assert!(unknown_key.contains("no admin key"), "{unknown_key}");
    let unknown_tenant = data_dir.error(&["admin-key", "list", "nobody"]);
    assert!(unknown_tenant.contains("no tenant nobody in environment live"), "{unknown_tenant}");

    open_dashboard_by_command(&data_dir, &service, admin_key);
    end_dashboard_sessions(&data_dir, &service, admin_key);

    let (status, log) = service.stop();
    assert!(status.success(), "{status}: {log}");
    assert!(log.contains("stopped"), "{log}");
    assert_eq!(data_dir.postmaster_pid(), None, "the private Postgres is stopped");
    // If no service is running, a command starts the private Postgres and stops it when it exits.
    assert!(data_dir.stdout(&["tenant", "list"]).contains("tronagg"));
    assert!(data_dir.stdout(&["migrate"]).contains("up to date"));
    assert_eq!(data_dir.postmaster_pid(), None);
}

/// Opens a session with a link that the command prints, and ends the session.
fn open_dashboard_by_command(data_dir: &DataDir, service: &Process, admin_key: &str) {
    let public_url = format!("http://{}", service.address);
    let link = |more: &[&'static str]| {
        let mut arguments = vec!["dashboard", "link", "tronagg", WALLET, "--public-url"];
        arguments.push(&public_url);
        arguments.extend(more);
        data_dir.stdout(&arguments)
    };
    let printed = link(&[]);
    let path = printed.strip_suffix('\n').and_then(|line| line.strip_prefix(&public_url));
    let path = path.unwrap_or_else(|| panic!("the output has no link at {public_url}: {printed}"));
    let token = path.strip_prefix("/dashboard/enter?token=").expect("the link has a token");
    assert_eq!(token.len(), 43, "the command prints only the link: {printed}");
    let form = format!("token={token}");
    let confirm = Call::new("POST", "/dashboard/enter")
        .header("Origin", &public_url)
        .body("application/x-www-form-urlencoded", form);
    service.send(confirm).expect(200);
    let events = || {
        let call = Call::new("GET", "/v1/audit-events?limit=2").bearer(admin_key);
        let listed = service.send(call).expect(200);
        let shown = |event: &serde_json::Value| {
            let text = |member: &str| event[member].as_str().unwrap_or_default().to_owned();
            (text("action"), text("actor"))
        };
        listed.data().iter().map(shown).collect::<Vec<_>>()
    };
    let event = |action: &str, actor: &str| (action.to_owned(), actor.to_owned());
    let opened = event("session.open", "account_owner");
    assert_eq!(events(), [opened, event("dashboard_link.create", "cli")]);
    let end = ["dashboard", "end-sessions", "tronagg", WALLET];
    assert_eq!(data_dir.stdout(&end), "Sessions ended: 1\n");

    link(&["--expires-in", "86400"]);
    let create = event("dashboard_link.create", "cli");
    assert_eq!(events()[0], create);
    let settings = Call::new("PATCH", "/v1/dashboard-settings").bearer(admin_key);
    let origins = json!({"return_origins": ["https://app.example.com"]});
    service.send(settings.json(origins)).expect(200);
    link(&["--return-url", "https://app.example.com/keys"]);
    assert_eq!(events()[0], create);
    assert_eq!(data_dir.stdout(&end), "Sessions ended: 0\n");

    let refused: [(&[&str], &str); 9] = [
        (&["tronagg", OTHER_WALLET], "tenant tronagg has no account"),
        (&["tronagg", "nobody", "--environment", "test"], "tenant tronagg has no account nobody"),
        (&["nobody", WALLET], "no tenant nobody in environment live"),
        (&["tronagg", WALLET, "--expires-in", "0"], "must be from 1 to 86400"),
        (&["tronagg", WALLET, "--expires-in", "86401"], "must be from 1 to 86400"),
        (&["tronagg", WALLET, "--expires-in", "soon"], "must be a whole number"),
        (&["tronagg", WALLET, "--return-url", "https://evil.example/"], "not in return_origins"),
        (&["tronagg", WALLET, "--public-url", "http://keys.example.com"], "TOLLGATE_PUBLIC_URL is"),
        (&["tronagg", WALLET, "--listen", "127.0.0.1:0"], "TOLLGATE_LISTEN contains port 0"),
    ];
    for (arguments, expected) in refused {
        let error = data_dir.error(&[&["dashboard", "link"][..], arguments].concat());
        assert!(error.contains(expected), "{expected} is not in: {error}");
    }
}

/// Opens a session with a dashboard link. Then ends the session and an unused link with the
/// command.
fn end_dashboard_sessions(data_dir: &DataDir, service: &Process, admin_key: &str) {
    let origins = json!({"return_origins": ["https://app.example.com"]});
    let settings = Call::new("PATCH", "/v1/dashboard-settings").bearer(admin_key);
    service.send(settings.json(origins)).expect(200);
    let link = || {
        let call = Call::new("POST", "/v1/dashboard-links").bearer(admin_key);
        let made = service.send(call.json(json!({"account": WALLET}))).expect(201);
        let (_, path) = made.text("/url").split_once("/dashboard/").expect("the URL has a token");
        format!("/dashboard/{path}")
    };
    let open = || {
        let call = Call::new("GET", &link()).header("Referer", "https://app.example.com/");
        service.send(call).expect(200);
    };
    open();
    link();
    let of_account = ["dashboard", "end-sessions", "tronagg", WALLET];
    assert_eq!(data_dir.stdout(&of_account), "Sessions ended: 1\n");
    assert_eq!(data_dir.stdout(&of_account), "Sessions ended: 0\n");
    open();
    open();
    let of_test = ["dashboard", "end-sessions", "tronagg", "--environment", "test"];
    assert_eq!(data_dir.stdout(&of_test), "Sessions ended: 0\n");
    assert_eq!(data_dir.stdout(&of_account[..3]), "Sessions ended: 2\n");
    let events = Call::new("GET", "/v1/audit-events?limit=1").bearer(admin_key);
    let newest = service.send(events).expect(200).data()[0].clone();
    assert_eq!((&newest["action"], &newest["actor"]), (&json!("session.close_all"), &json!("cli")));
    let unknown = data_dir.error(&["dashboard", "end-sessions", "tronagg", OTHER_WALLET]);
    assert!(unknown.contains("tenant tronagg has no account"), "{unknown}");
}

#[test]
fn demo_restart_keeps_its_data_and_replaces_the_admin_keys() {
    let data_dir = DataDir::new("demo");
    let first = data_dir.start(&["demo"]);
    let url = first.printed_after("Tollgate is ready: ");
    assert_eq!(url, format!("http://{}", first.address));
    first.printed_after("curl -sS ");
    // The output ends with a valid dashboard link, and with the command that prints a new link.
    let link = first.printed_after("Open the dashboard: ");
    let path = link.strip_prefix(&url).expect("the link points to this service");
    let asked = first.send(Call::new("GET", path)).expect(200);
    assert!(String::from_utf8_lossy(&asked.body).contains(WALLET), "{asked:?}");
    let program = env!("CARGO_BIN_EXE_tollgate");
    let options = first.printed_after(&format!("{program} dashboard link tronagg {WALLET} "));
    let data = format!("--data-dir {} --public-url {url}", data_dir.path.display());
    assert_eq!(options, data);
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

    let second = data_dir.start(&["demo"]);
    let new_key = second.exported("TRONAGG_ADMIN_KEY");
    let account = second.send(read(&new_key)).expect(200);
    assert_eq!(account.text("/balance/amount"), "100.000000", "the second start credits nothing");
    second.send(read(&old_key)).expect_problem(401, "invalid_admin_key");
    let (status, log) = second.stop();
    assert!(status.success(), "{status}: {log}");
}

#[test]
fn killed_service_replays_its_purchase_after_a_restart() {
    let data_dir = DataDir::new("killed");
    let service = data_dir.start(&["demo"]);
    let admin_key = service.exported("TRONAGG_ADMIN_KEY");
    let create = Call::new("POST", &format!("/v1/accounts/{WALLET}/keys")).bearer(&admin_key);
    let key = service.send(create.json(json!({"name": "a"}))).expect(201).text("/key").to_owned();
    let purchase = || {
        let call = Call::new("POST", "/v1/purchases").header("X-API-Key", &key);
        call.idempotency_key("once").json(json!({"amount": "1"}))
    };
    let first = service.send(purchase()).expect(201);
    assert!(data_dir.postmaster_pid().is_some());
    service.signal(rustix::process::Signal::KILL);
    service.wait();

    let restarted = data_dir.start(&["serve"]);
    let replayed = restarted.send(purchase()).expect(201);
    assert_eq!(replayed.body, first.body, "the replay equals the first response byte for byte");
    assert_eq!(replayed.header("idempotent-replayed"), Some("true"));
    let (status, log) = restarted.stop();
    assert!(status.success(), "{status}: {log}");
}

#[test]
fn running_service_restarts_its_private_postgres_after_a_crash() {
    let data_dir = DataDir::new("postmaster");
    let service = data_dir.start(&["demo"]);
    let admin_key = service.exported("TRONAGG_ADMIN_KEY");
    let postmaster = data_dir.postmaster_pid().expect("Postgres runs");
    let pid = rustix::process::Pid::from_raw(
        i32::try_from(postmaster).expect("the process id fits into an i32"),
    );
    let kill = rustix::process::Signal::KILL;
    rustix::process::kill_process(pid.expect("the process id is not zero"), kill)
        .expect("the postmaster is killed");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let call = Call::new("GET", &format!("/v1/accounts/{WALLET}")).bearer(&admin_key);
        let answer = service.send(call);
        match answer.status {
            // Connections to the killed server may stay open for a moment.
            200 if data_dir.postmaster_pid() != Some(postmaster) => break,
            200 | 503 => {}
            _ => panic!("{answer:?}"),
        }
        assert!(std::time::Instant::now() < deadline, "the service did not restart Postgres");
    }
    let (status, log) = service.stop();
    assert!(status.success(), "{status}: {log}");
}

#[test]
fn all_invalid_settings_are_reported_together() {
    let data_dir = DataDir::new("settings");
    let mut command = tollgate(&["serve", "--request-timeout", "soon"]);
    let output = command
        .env("TOLLGATE_LISTEN", "nowhere")
        .env("TOLLGATE_DATABASE_CONNECTIONS", "many")
        .env("TOLLGATE_DATA_DIR", &data_dir.path)
        .output()
        .expect("the program runs");
    assert!(!output.status.success());
    let error = String::from_utf8(output.stderr).expect("the text is UTF-8");
    for name in ["TOLLGATE_LISTEN", "TOLLGATE_DATABASE_CONNECTIONS", "TOLLGATE_REQUEST_TIMEOUT"] {
        assert!(error.contains(&format!("{name} is ")), "{error}");
    }
    assert!(!data_dir.path.exists(), "a command with invalid settings creates no data directory");
}

#[test]
fn flags_override_environment_variables_which_override_the_env_file() {
    let data_dir = DataDir::new("dotenv");
    std::fs::create_dir_all(&data_dir.path).expect("the directory can be created");
    let file =
        "TOLLGATE_LISTEN=from-file\nTOLLGATE_SLOW_REQUEST=from-file\nTOLLGATE_LOG=from-file\n";
    std::fs::write(data_dir.path.join(".env"), file).expect("the file can be written");
    let mut command = tollgate(&["serve", "--log", "from-flag"]);
    command.current_dir(&data_dir.path).env("TOLLGATE_SLOW_REQUEST", "from-environment");
    command.env("DATABASE_URL", "postgres://127.0.0.1:1/x");
    let output = command.output().expect("the program runs");
    let error = String::from_utf8(output.stderr).expect("the text is UTF-8");
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
    let data_dir = DataDir::new("secret-dotenv");
    std::fs::create_dir_all(&data_dir.path).expect("the directory can be created");
    let file = "# settings\nDATABASE_URL=postgres://app:my hunter2@h/db\n";
    std::fs::write(data_dir.path.join(".env"), file).expect("the file can be written");
    let output =
        tollgate(&["serve"]).current_dir(&data_dir.path).output().expect("the program runs");
    let error = String::from_utf8(output.stderr).expect("the text is UTF-8");
    assert!(!output.status.success());
    assert!(error.contains(".env cannot be read") && error.contains("(line 2)"), "{error}");
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn command_reports_an_unreachable_database_without_its_password() {
    let data_dir = DataDir::new("unreachable");
    let mut command = tollgate(&["tenant", "list"]);
    command.env("DATABASE_URL", "postgres://app:hunter2@127.0.0.1:1/ledger");
    let output = command.output().expect("the program runs");
    let error = String::from_utf8(output.stderr).expect("the text is UTF-8");
    assert!(!output.status.success());
    assert!(error.contains("cannot reach Postgres at 127.0.0.1:1, database ledger"), "{error}");
    assert!(error.contains("refused") && !error.contains("hunter2"), "{error}");
    drop(data_dir);
}

/// Returns the commands that a help text lists, except `help`.
fn subcommands(help: &str) -> Vec<&str> {
    help.lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| line.starts_with(' '))
        .filter(|line| indent(line) == 2)
        .filter_map(|line| line.split_whitespace().next())
        .filter(|command| *command != "help")
        .collect()
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// Asserts that the help describes every command, argument and option that it lists. The
/// description is on the same line or below it.
fn check_help_texts(help: &str) {
    let mut lines = help.lines().peekable();
    while let Some(line) = lines.next() {
        let item = line.trim_start();
        let is_item = indent(line) == 2 || item.starts_with("--");
        if is_item && item.split("  ").count() < 2 {
            let next = lines.peek().copied().unwrap_or_default();
            assert!(
                indent(next) > indent(line) && !next.trim_start().starts_with('-'),
                "{line} has no help text:\n{help}"
            );
        }
    }
}

#[test]
fn every_command_and_option_has_help_text() {
    let data_dir = DataDir::new("help");
    let mut pending = vec![vec!["tollgate".to_owned()]];
    let mut walked = Vec::new();
    while let Some(command) = pending.pop() {
        let mut arguments: Vec<&str> = command.iter().skip(1).map(String::as_str).collect();
        arguments.push("--help");
        let help = data_dir.stdout(&arguments);
        let name = command.join(" ");
        assert!(help.contains(&format!("Usage: {name}")), "{help}");
        check_help_texts(&help);
        for subcommand in subcommands(&help) {
            let mut command = command.clone();
            command.push(subcommand.to_owned());
            pending.push(command);
        }
        walked.push(name);
    }
    // The loop must also find nested commands.
    for command in [
        "tollgate openapi",
        "tollgate admin-key revoke",
        "tollgate dashboard end-sessions",
        "tollgate dashboard link",
        "tollgate ledger verify",
    ] {
        assert!(walked.iter().any(|name| name == command), "{command} is not in {walked:?}");
    }
    let invalid_slug = data_dir.error(&["tenant", "create", "Tron", "--prefix", "ta"]);
    assert!(invalid_slug.contains("a slug has"), "{invalid_slug}");
    let invalid_prefix = data_dir.error(&["tenant", "create", "tron", "--prefix", "ta"]);
    assert!(invalid_prefix.contains("a prefix has"), "{invalid_prefix}");
    let document = data_dir.json(&["openapi"]);
    assert_eq!(document["info"]["title"], "Tollgate");
    assert!(!data_dir.path.exists(), "a command that needs no database creates no data directory");
}
