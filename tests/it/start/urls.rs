//! The syntax of `DATABASE_URL`, including several hosts, and error messages for malformed URLs.

use super::run::{fails, succeeds};
use crate::harness::{cluster, process::tollgate};

#[tokio::test]
async fn url_can_list_several_hosts_in_every_form_that_libpq_accepts() {
    let url = cluster::fresh_database().await;
    let database = cluster::database_in(&url);
    let socket = cluster::socket();
    let directory =
        socket.parent().expect("the path has a parent").to_str().expect("the path is UTF-8");
    let encoded = directory.replace('/', "%2F");
    let in_authority = format!(
        "postgres://postgres@{encoded}:5432,127.0.0.1:1/{database}?target_session_attrs=read-write"
    );
    let in_parameters = format!(
        "postgres:///?user=postgres&dbname={database}&host={directory},127.0.0.1&port=5432,1"
    );
    for url in [in_authority, in_parameters] {
        let mut command = tollgate(&["tenant", "list"]);
        command.env("DATABASE_URL", &url).env("TOLLGATE_LISTEN_DATABASE_URL", &url);
        let log = succeeds(command);
        assert!(!log.contains("WARN"), "{log}");
    }
    let mut command = tollgate(&["tenant", "list"]);
    command.env("DATABASE_URL", format!("postgres://postgres@/{database}?port=5432,1"));
    command.env("PGHOST", format!("{directory},127.0.0.1"));
    succeeds(command);
}

#[test]
fn error_about_a_malformed_url_names_the_setting_and_shows_no_value() {
    for (url, expected) in [
        ("postgres://u:hunter2@h/x?sslmod=require", "parameter sslmod. sslmode is similar"),
        ("postgres://u:hunter2@h/x?connect_timeout=5", "not support libpq's parameter"),
        ("postgres://u:hunter2@h/x?target_session_attrs=any", "uses only the primary"),
        ("postgres://u:hunter2@h/x?pass=hunter2", "the unknown parameter pass"),
        ("postgres://u:hun/ter2@h/x", "write / as %2F"),
        ("postgres://u:hun#ter2@h/x", "# as %23"),
        ("postgres://u:hunter2@h:hunter2/x", "a port is not a number"),
        ("postgres://u:hunter2@h1,h2,h3/x?port=1,2", "one port for all hosts, or one for each"),
        ("postgres://u:hunter2@h?password=hunter2", "it contains password twice"),
        ("postgres://u:hunter2@h?dbname=", "its dbname is empty"),
    ] {
        let error_of = |setting: &str, other: Option<(&str, &str)>| {
            let mut command = tollgate(&["migrate"]);
            command.env(setting, url).envs(other);
            fails(command)
        };
        let own = ("DATABASE_URL", "postgres://u@127.0.0.1:1/x");
        for (setting, error) in [
            ("DATABASE_URL", error_of("DATABASE_URL", None)),
            ("TOLLGATE_LISTEN_DATABASE_URL", error_of("TOLLGATE_LISTEN_DATABASE_URL", Some(own))),
        ] {
            let start = format!("error: {setting} cannot be used: ");
            assert!(error.starts_with(&start) && error.contains(expected), "{url}: {error}");
            assert!(error.contains("The form is postgres://user:password@host1:5432"), "{error}");
            assert!(!error.contains("hun") && !error.contains("ter2"), "{url}: {error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }
}
