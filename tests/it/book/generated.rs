//! Checks the pages of the book's reference that `tollgate reference` prints.

use std::path::Path;

use serde_json::Value;

use crate::harness::process::tollgate;

const PAGES: [&str; 5] = ["settings", "commands", "errors", "metrics", "http-api"];

/// Returns the page that the program prints.
fn print(page: &str) -> String {
    let output = tollgate(&["reference", page]).output().expect("the program runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{page}: {stderr}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn committed_pages_match_the_output_of_the_program() {
    let reference = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/src/reference");
    for page in PAGES {
        let file = reference.join(format!("{page}.md"));
        let committed = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(committed == print(page), "{} is out of date. Run `make docs`", file.display());
    }
}

#[test]
fn generated_pages_do_not_depend_on_the_environment() {
    let mut command = tollgate(&["reference", "commands"]);
    command.env("DATABASE_URL", "postgres://app:hunter2@127.0.0.1/x").env("COLUMNS", "40");
    let output = command.output().expect("the program runs");
    assert_eq!(String::from_utf8(output.stdout).expect("UTF-8"), print("commands"));
}

#[test]
fn every_setting_has_a_section() {
    let page = print("settings");
    for variable in tollgate::config::known_variables() {
        let section = format!("\n### `{variable}`\n\n");
        assert_eq!(page.matches(&section).count(), 1, "{variable}");
    }
}

#[test]
fn every_operation_of_the_api_has_a_section() {
    let document = serde_json::to_value(tollgate::http::openapi_document()).expect("JSON");
    let page = print("http-api");
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            let summary = operation["summary"].as_str().expect("a summary");
            let method = method.to_uppercase();
            let section = format!("\n### {summary}\n\n```text\n{method} {path}\n```\n");
            assert_eq!(page.matches(&section).count(), 1, "{section}");
        }
    }
}

/// Returns the fragments of all links to headings within the page.
fn own_links(page: &str) -> impl Iterator<Item = &str> {
    page.split("](#").skip(1).map(|rest| rest.split(')').next().expect("the end of a link"))
}

#[test]
fn every_type_that_the_page_of_the_api_names_has_a_section() {
    let page = print("http-api");
    let document = serde_json::to_value(tollgate::http::openapi_document()).expect("JSON");
    let schemas = document["components"]["schemas"].as_object().expect("schemas");
    let with_section: Vec<String> = schemas
        .iter()
        .filter(|(name, _)| page.contains(&format!("\n### `{name}`\n")))
        .map(|(name, _)| name.to_lowercase())
        .collect();
    let operations = document["paths"].as_object().expect("paths").values();
    let operations = operations.flat_map(|item| item.as_object().expect("operations").values());
    let summaries: Vec<&str> =
        operations.map(|operation: &Value| operation["summary"].as_str().expect("text")).collect();
    let is_summary = |link: &str| {
        let letters =
            |text: &str| -> String { text.chars().filter(|c| c.is_alphanumeric()).collect() };
        summaries.iter().any(|summary| letters(summary).to_lowercase() == letters(link))
    };
    let mut links = 0;
    for link in own_links(&page) {
        assert!(with_section.iter().any(|name| name == link) || is_summary(link), "{link}");
        links += 1;
    }
    assert!(links > 100, "{links}");
}
