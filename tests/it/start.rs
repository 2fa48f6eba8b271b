//! What the program does with its settings and its database before it serves: start, or refuse with
//! a message that says what to do.

use std::{os::unix::fs::PermissionsExt as _, process::Command};

use crate::harness::{cluster, place::Place, process::tollgate};

/// What a command that succeeds prints on stderr.
#[track_caller]
fn succeeds(mut command: Command) -> String {
    let output = command.output().expect("the program runs");
    let stderr = String::from_utf8(output.stderr).expect("text");
    assert!(output.status.success(), "{command:?}: {stderr}");
    stderr
}

/// What a command that fails prints on stderr.
#[track_caller]
fn fails(mut command: Command) -> String {
    let output = command.output().expect("the program runs");
    let stderr = String::from_utf8(output.stderr).expect("text");
    assert!(!output.status.success(), "{command:?} succeeded");
    stderr
}

#[test]
fn every_setting_that_is_set_but_empty_is_an_error() {
    let place = Place::new("empty");
    let example = include_str!("../../.env.example");
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
            command.env("TOLLGATE_DATA_DIR", &place.directory).env(setting, blank);
            let error = fails(command);
            let expected = format!("{setting} is set but empty");
            assert!(error.contains(&expected), "{error}");
        }
    }
    // All of them at once, and those of flags as well.
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
    assert!(!place.directory.exists(), "nothing was made");
}

#[test]
fn an_empty_database_url_makes_no_private_postgres() {
    let place = Place::new("empty-url");
    let create = || {
        let mut command = tollgate(&["tenant", "create", "tronagg", "--prefix", "ta_"]);
        command.env("TOLLGATE_DATA_DIR", &place.directory);
        command
    };
    let mut command = create();
    command.env("DATABASE_URL", "");
    assert!(fails(command).contains("DATABASE_URL is set but empty"));

    // It does not hide the right line in .env, and an empty line in .env is no better.
    let home = cluster::directory("empty-url-home");
    std::fs::create_dir_all(&home).expect("a directory");
    for (file, environment) in
        [("DATABASE_URL=postgres://127.0.0.1:1/x\n", Some("")), ("DATABASE_URL=\n", None)]
    {
        std::fs::write(home.join(".env"), file).expect("a file");
        let mut command = create();
        command.current_dir(&home).envs(environment.map(|value| ("DATABASE_URL", value)));
        assert!(fails(command).contains("DATABASE_URL is set but empty"));
    }
    assert!(!place.directory.exists(), "nothing was made");
    std::fs::remove_dir_all(home).expect("it is ours");
}

/// libpq's variables, as a shell has them that works with another server.
const FOREIGN_SERVER: [(&str, &str); 12] = [
    ("PGHOST", "db.invalid"),
    ("PGHOSTADDR", "192.0.2.1"),
    ("PGPORT", "5433"),
    ("PGUSER", "somebody"),
    ("PGPASSWORD", "hunter2"),
    ("PGDATABASE", "elsewhere"),
    ("PGSSLMODE", "verify-full"),
    ("PGSSLROOTCERT", "/nonexistent/root.crt"),
    ("PGOPTIONS", "-c no_such_parameter=1"),
    ("PGSERVICE", "elsewhere"),
    ("PGAPPNAME", "psql"),
    ("PGDATA", "/nonexistent"),
];

#[test]
fn the_private_postgres_does_not_depend_on_libpq_variables() {
    let place = Place::new("libpq");
    let home = cluster::directory("libpq-home");
    std::fs::create_dir_all(&home).expect("a directory");
    // Reading it would log a warning: others may read it.
    let passwords = home.join(".pgpass");
    std::fs::write(&passwords, "not a line of such a file\n").expect("a file");
    std::fs::set_permissions(&passwords, std::fs::Permissions::from_mode(0o644)).expect("a mode");
    for arguments in [&["migrate"][..], &["tenant", "list"]] {
        let mut command = tollgate(arguments);
        command.envs(FOREIGN_SERVER).env("HOME", &home).env("PGPASSFILE", &passwords);
        command.env("TOLLGATE_DATA_DIR", &place.directory);
        let stderr = succeeds(command);
        assert!(!stderr.contains("WARN") && !stderr.contains("pgpass"), "{stderr}");
    }
    std::fs::remove_dir_all(home).expect("it is ours");
}

#[tokio::test]
async fn libpq_variables_fill_in_what_the_url_leaves_out() {
    let url = cluster::fresh_database().await;
    let socket = cluster::socket();
    let directory = socket.parent().expect("a directory").to_str().expect("text");
    let mut command = tollgate(&["tenant", "list"]);
    command.env("DATABASE_URL", format!("postgres:///?host={directory}"));
    command.env("PGUSER", "postgres").env("PGDATABASE", cluster::database_in(&url));
    succeeds(command);
}
