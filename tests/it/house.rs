//! The house rules that a reader relies on: which module names which, and what is generated.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

/// Which modules each module of the crate may name.
const ARROWS: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("clock", &["domain"]),
    ("entropy", &["domain"]),
    ("postgres", &[]),
    ("auth", &["domain"]),
    ("store", &["domain", "entropy"]),
    ("usage", &["auth", "domain", "store"]),
    ("node", &["auth", "clock", "domain", "store"]),
    ("money", &["clock", "domain", "entropy", "store"]),
    ("web", &["auth", "domain"]),
    ("state", &["clock", "domain", "money", "node", "store", "usage"]),
    ("http", &["auth", "clock", "domain", "entropy", "money", "node", "state", "store", "web"]),
    ("dashboard", &["auth", "domain", "entropy", "http", "state", "store", "web"]),
    ("config", &["auth", "domain", "http", "node", "postgres", "state", "store"]),
    ("telemetry", &["config", "node"]),
    (
        "cli",
        &[
            "config",
            "dashboard",
            "domain",
            "entropy",
            "http",
            "node",
            "postgres",
            "state",
            "store",
            "telemetry",
        ],
    ),
];

/// Which modules may name a crate that is not everybody's.
const CRATES: &[(&str, &[&str])] = &[
    ("sqlx", &["store"]),
    ("hyper", &["auth", "http"]),
    ("hyper_util", &["auth", "http"]),
    ("hyper_rustls", &["auth"]),
    ("rustls", &["auth"]),
    ("shuttle", &["auth"]),
    ("askama", &["dashboard", "web"]),
    ("axum", &["auth", "dashboard", "http", "telemetry", "cli", "web"]),
    ("form_urlencoded", &["web"]),
    ("ipnet", &["http"]),
    ("k256", &["domain"]),
    ("rust_embed", &["dashboard"]),
    ("sha3", &["domain"]),
    ("clap", &["cli", "config", "main"]),
    ("anyhow", &["cli", "main"]),
    ("dotenvy", &["config"]),
    ("rand", &["entropy"]),
    ("rustix", &["cli", "clock", "config", "postgres"]),
    ("utoipa", &["http"]),
];

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The first segment below `src` without its ending, and the code without comments.
fn modules() -> Vec<(String, PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    files
        .into_iter()
        .map(|path| {
            let relative = path.strip_prefix(&root).expect("below src");
            let first = relative.components().next().expect("a name");
            let module = Path::new(first.as_os_str()).file_stem().expect("a name");
            let module = module.to_string_lossy().into_owned();
            let text = std::fs::read_to_string(&path).expect("a source file");
            let code: Vec<&str> =
                text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
            (module, path, code.join("\n"))
        })
        .collect()
}

/// The names that follow `prefix` in the code: `crate::store::…`, `crate::{auth::…, store}`.
fn named_after(code: &str, prefix: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (position, _) in code.match_indices(prefix) {
        let rest = &code[position + prefix.len()..];
        let group = match rest.strip_prefix('{') {
            Some(inner) => top_level_names(inner),
            None => vec![rest],
        };
        for item in group {
            let end = item.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(item.len());
            names.insert(item[..end].to_owned());
        }
    }
    names
}

/// The items of a `{…}` group, split at the commas of its own level.
fn top_level_names(inner: &str) -> Vec<&str> {
    let (mut depth, mut start, mut items) = (0, 0, Vec::new());
    for (index, character) in inner.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => {
                items.push(inner[start..index].trim());
                return items;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                items.push(inner[start..index].trim());
                start = index + 1;
            }
            _ => {}
        }
    }
    items
}

#[test]
fn arrows_point_one_way() {
    let known: BTreeSet<&str> = ARROWS.iter().map(|(module, _)| *module).collect();
    for (module, path, code) in modules() {
        if matches!(module.as_str(), "lib" | "main") {
            continue;
        }
        let (_, allowed) = ARROWS
            .iter()
            .find(|(name, _)| *name == module)
            .unwrap_or_else(|| panic!("{module} has no line in ARROWS"));
        for name in named_after(&code, "crate::") {
            if name != module && known.contains(name.as_str()) {
                assert!(allowed.contains(&name.as_str()), "{} names {name}", path.display());
            }
        }
    }
}

#[test]
fn crates_are_named_where_they_belong() {
    for (module, path, code) in modules() {
        for (krate, allowed) in CRATES {
            let used = ["use ", "", "#["].iter().any(|before| {
                code.match_indices(&format!("{before}{krate}::")).any(|(position, _)| {
                    let previous = code[..position].chars().next_back();
                    !previous.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
                })
            });
            let allowed = allowed.contains(&module.as_str());
            assert!(!used || allowed, "{} names {krate}", path.display());
        }
    }
}

#[test]
fn the_check_of_arrows_can_fail() {
    let names = named_after("use crate::{auth::{A, B}, store};\ncrate::http::x()", "crate::");
    assert_eq!(names.into_iter().collect::<Vec<_>>(), ["auth", "http", "store"]);
}

#[test]
fn the_committed_openapi_document_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/openapi.json");
    let committed = std::fs::read_to_string(path).expect("docs/openapi.json");
    let current = tollgate::http::openapi_document().to_pretty_json().expect("JSON");
    assert!(committed.trim_end() == current, "docs/openapi.json is old: run make openapi");
}

#[test]
fn every_operation_has_an_id_of_its_own() {
    let document = serde_json::to_value(tollgate::http::openapi_document()).expect("JSON");
    let mut seen = BTreeSet::new();
    for item in document["paths"].as_object().expect("paths").values() {
        for operation in item.as_object().expect("operations").values() {
            let id = operation["operationId"].as_str().expect("an id");
            assert!(seen.insert(id.to_owned()), "{id} is there twice");
        }
    }
}

#[test]
fn every_setting_is_in_the_example() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| std::fs::read_to_string(root.join(path)).expect(path);
    let (config, example) = (read("src/config/mod.rs"), read(".env.example"));
    let settings: Vec<&str> = config
        .split("env = \"")
        .skip(1)
        .map(|rest| rest.split('"').next().expect("the end of a string"))
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
        assert!(!is_name || settings.contains(&name), "{name} is no setting");
    }
}
