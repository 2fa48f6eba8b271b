//! Checks that generated files are up to date and that `.env.example` is complete.

use std::{collections::BTreeSet, path::Path};

use super::sources;

#[test]
fn committed_openapi_document_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/openapi.json");
    let committed = std::fs::read_to_string(path).expect("docs/openapi.json can be read");
    let current = tollgate::http::openapi_document().to_pretty_json().expect("the text is JSON");
    assert!(committed.trim_end() == current, "docs/openapi.json is out of date. Run make openapi");
}

#[test]
fn every_operation_id_is_unique() {
    let document =
        serde_json::to_value(tollgate::http::openapi_document()).expect("the text is JSON");
    let mut seen = BTreeSet::new();
    for item in document["paths"].as_object().expect("the value is an object").values() {
        for operation in item.as_object().expect("the value is an object").values() {
            let id = operation["operationId"].as_str().expect("the id is a string");
            assert!(seen.insert(id.to_owned()), "two operations have the id {id}");
        }
    }
}

#[test]
fn env_example_lists_every_setting_and_no_unknown_setting() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(".env.example");
    let example = std::fs::read_to_string(path).expect(".env.example can be read");
    let sources = sources::of_this_crate();
    let settings: Vec<&str> = sources
        .iter()
        .filter(|(path, _)| path.starts_with("config"))
        .flat_map(|(_, config)| config.split("env = \"").skip(1))
        .map(|rest| rest.split('"').next().expect("a split has a first part"))
        .collect();
    assert!(settings.len() > 15, "{settings:?}");
    for setting in &settings {
        assert!(example.contains(&format!("{setting}=")), "{setting} is not in .env.example");
    }
    for line in
        example.lines().filter_map(|line| line.strip_prefix("# ").unwrap_or(line).split_once('='))
    {
        let (name, _) = line;
        let is_name = name.chars().all(|c| c.is_ascii_uppercase() || c == '_');
        assert!(
            !is_name || settings.contains(&name),
            ".env.example contains {name}, which is not a setting"
        );
    }
}
