//! Tests of settings: empty values, invalid values, unknown variables, and the setting that turns
//! off the documentation.

use super::{
    own_database::OwnDatabase,
    run::{fails, succeeds},
};
use crate::harness::{
    Call, cluster,
    data_dir::DataDir,
    process::{Process, tollgate},
};

#[test]
fn every_setting_that_is_set_but_empty_causes_an_error() {
    let data_dir = DataDir::new("empty");
    let example = include_str!("../../../.env.example");
    let settings: Vec<&str> = example
        .lines()
        .filter_map(|line| line.strip_prefix("# ").unwrap_or(line).split_once('='))
        .map(|(name, _)| name)
        .filter(|name| name.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
        .collect();
    assert!(settings.len() > 20, "{settings:?}");
    for setting in &settings {
        for blank in ["", "  "] {
            let mut command = tollgate(&["serve"]);
            command.env("TOLLGATE_DATA_DIR", &data_dir.path).env(setting, blank);
            let error = fails(command);
            let expected = format!("{setting} is set but empty");
            assert!(error.contains(&expected), "{error}");
        }
    }
    // The program reports all empty flags and variables together.
    let mut command = tollgate(&["serve", "--listen", "", "--data-dir="]);
    command.env("TOLLGATE_LOG", "").env("TOLLGATE_LEASE", "");
    let error = fails(command);
    for line in [
        "--listen (TOLLGATE_LISTEN) is given but empty",
        "--data-dir (TOLLGATE_DATA_DIR) is given but empty",
        "TOLLGATE_LOG is set but empty",
        "TOLLGATE_LEASE is set but empty",
    ] {
        assert!(error.contains(line), "{line} is not in:\n{error}");
    }
    assert!(!data_dir.path.exists(), "the command creates no data directory");
}

#[test]
fn empty_database_url_causes_an_error_and_starts_no_private_postgres() {
    let data_dir = DataDir::new("empty-url");
    let create = || {
        let mut command = tollgate(&["tenant", "create", "tronagg", "--prefix", "ta_"]);
        command.env("TOLLGATE_DATA_DIR", &data_dir.path);
        command
    };
    let mut command = create();
    command.env("DATABASE_URL", "");
    assert!(fails(command).contains("DATABASE_URL is set but empty"));

    // An empty variable is an error even if .env contains a URL. An empty value in .env is also an
    // error.
    let home = cluster::directory("empty-url-home");
    std::fs::create_dir_all(&home).expect("the directory can be created");
    for (file, environment) in
        [("DATABASE_URL=postgres://127.0.0.1:1/x\n", Some("")), ("DATABASE_URL=\n", None)]
    {
        std::fs::write(home.join(".env"), file).expect("the file can be written");
        let mut command = create();
        command.current_dir(&home).envs(environment.map(|value| ("DATABASE_URL", value)));
        assert!(fails(command).contains("DATABASE_URL is set but empty"));
    }
    assert!(!data_dir.path.exists(), "the command creates no data directory");
    std::fs::remove_dir_all(home).expect("the test owns the directory");
}

#[tokio::test]
async fn warning_about_an_unknown_variable_appears_once_and_suggests_a_setting() {
    let url = cluster::fresh_database().await;
    let home = cluster::directory("unknown-variables");
    std::fs::create_dir_all(&home).expect("the directory can be created");
    std::fs::write(home.join(".env"), "TOLLGATE_LISTN=hunter2\n").expect("the file can be written");
    let prepare = |arguments: &[&str]| {
        let mut command = tollgate(arguments);
        command.env("DATABASE_URL", &url).env("TOLLGATE_POOL_SIZE", "hunter2").current_dir(&home);
        // These cause no warning: a setting, a variable for clients, and the variables that
        // Kubernetes sets for a service named tollgate.
        command.env("TOLLGATE_LOG", "info").env("TOLLGATE_URL", "http://127.0.0.1:8080");
        command.env("TOLLGATE_PORT", "tcp://10.0.0.7:80").env("TOLLGATE_SERVICE_HOST", "10.0.0.7");
        command
    };
    let log = home.join("serve.log");
    let (status, served) = Process::start(prepare(&["serve"]), &log).stop();
    assert!(status.success(), "{status}: {served}");
    for log in [served, succeeds(prepare(&["migrate"])), succeeds(prepare(&["tenant", "list"]))] {
        let is_about_a_variable = |line: &&str| line.contains("belongs to no setting");
        let warnings: Vec<&str> = log.lines().filter(is_about_a_variable).collect();
        let [misspelled, other] = warnings[..] else {
            panic!("expected two warnings, got {warnings:?}")
        };
        for (warning, parts) in [
            (misspelled, ["\"TOLLGATE_LISTN\"", "Did you mean TOLLGATE_LISTEN?"]),
            (other, ["\"TOLLGATE_POOL_SIZE\"", "tollgate serve --help lists all settings"]),
        ] {
            for part in ["WARN"].into_iter().chain(parts) {
                assert!(warning.contains(part), "{part} is not in: {warning}");
            }
        }
        assert!(!log.contains("hunter2"), "{log}");
    }
    // A command that reads no settings logs no warning.
    assert_eq!(succeeds(prepare(&["openapi"])), "");
    std::fs::remove_dir_all(home).expect("the test owns the directory");
}

#[test]
fn invalid_number_of_worker_threads_causes_an_error() {
    let command = |value: &str| {
        let mut command = tollgate(&["openapi"]);
        command.env("TOKIO_WORKER_THREADS", value);
        command
    };
    for value in ["0", "x", "-1", "1001"] {
        let error = fails(command(value));
        let expected = format!(
            "error: TOKIO_WORKER_THREADS is {value:?}: it must be a whole number from 1 to 1000\n"
        );
        assert_eq!(error, expected);
    }
    assert!(fails(command("")).starts_with("error: TOKIO_WORKER_THREADS is set but empty"));
    succeeds(command("2"));
}

#[test]
fn service_refuses_a_lease_that_is_not_shorter_than_the_request_timeout() {
    for (lease, timeout) in [("3s", "3s"), ("10s", "900ms")] {
        let mut command = tollgate(&["serve"]);
        command.env("DATABASE_URL", "postgres://app@127.0.0.1:1/x");
        command.env("TOLLGATE_LEASE", lease).env("TOLLGATE_REQUEST_TIMEOUT", timeout);
        let error = fails(command);
        let expected =
            format!("TOLLGATE_LEASE is {lease} and TOLLGATE_REQUEST_TIMEOUT is {timeout}. ");
        assert!(error.contains(&expected), "{expected} is not in: {error}");
    }
}

#[tokio::test]
async fn docs_setting_turns_off_the_documentation_and_the_links_to_it() {
    let database = OwnDatabase::of_role("").await;
    let log = cluster::directory("docs.log");
    for (setting, status) in [("on", 200), ("off", 404)] {
        let mut command = database.command(&["serve"]);
        command.env("TOLLGATE_DOCS", setting);
        let service = Process::start(command, &log);
        for path in [
            "/docs",
            "/docs/",
            "/docs/swagger-ui.css",
            "/openapi.json",
            "/docs/book",
            "/docs/book/",
            "/docs/book/index.html",
        ] {
            service.send(Call::new("GET", path)).expect(status);
        }
        let root = service.send(Call::new("GET", "/")).expect(200);
        assert_eq!(root.json["documentation_url"].is_string(), setting == "on", "{root:?}");
        service.send(Call::new("GET", "/livez")).expect(200);
        let problem = service.send(Call::new("GET", "/v1/me")).expect(401);
        let linked = problem.json.get("documentation_url").is_some();
        assert_eq!(linked, setting == "on", "{problem:?}");
        let (status, log) = service.stop();
        assert!(status.success(), "{status}: {log}");
    }
    let _ = std::fs::remove_file(log);
}
