//! Checks which top-level modules and which crates each module names.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use super::{
    items::OTHER_CRATE,
    mentions::{Mention, Place, mentions},
    modules::Crate,
    sources::{Sources, of_this_crate, sample},
};

/// The modules that each top-level module may name.
const ARROWS: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("clock", &["domain"]),
    ("entropy", &["domain"]),
    ("jobs", &[]),
    ("postgres", &[]),
    ("auth", &["domain"]),
    ("schema", &[]),
    ("store", &["domain", "entropy", "schema"]),
    ("usage", &["auth", "domain", "store"]),
    ("limits", &["auth", "domain", "store"]),
    ("node", &["auth", "clock", "domain", "entropy", "limits", "store"]),
    ("money", &["clock", "domain", "entropy", "store"]),
    ("web", &["auth", "domain"]),
    ("state", &["clock", "domain", "limits", "money", "node", "store", "usage"]),
    ("http", &["auth", "clock", "domain", "entropy", "money", "node", "state", "store", "web"]),
    ("dashboard", &["auth", "domain", "entropy", "http", "state", "store", "web"]),
    ("config", &["auth", "domain", "http", "node", "postgres", "state", "store"]),
    ("telemetry", &["config", "node"]),
    (
        "cli",
        &[
            "auth",
            "config",
            "dashboard",
            "domain",
            "entropy",
            "http",
            "jobs",
            "node",
            "postgres",
            "state",
            "store",
            "telemetry",
            "usage",
        ],
    ),
];

/// The modules that may name a restricted crate.
const CRATES: &[(&str, &[&str])] = &[
    ("sqlx", &["schema", "store"]),
    ("hyper", &["auth", "http"]),
    ("hyper_util", &["auth", "http"]),
    ("hyper_rustls", &["auth"]),
    ("rustls", &["auth"]),
    ("shuttle", &["auth"]),
    ("askama", &["dashboard", "web"]),
    ("axum", &["auth", "dashboard", "http", "telemetry", "cli", "web"]),
    ("form_urlencoded", &["web"]),
    ("ipnet", &["domain", "http", "store", "usage"]),
    ("k256", &["domain"]),
    ("rust_embed", &["dashboard", "http", "schema"]),
    ("sha3", &["domain"]),
    ("strsim", &["domain"]),
    ("clap", &["cli", "config", "main"]),
    ("anyhow", &["cli", "main"]),
    ("dotenvy", &["config"]),
    ("rand", &["entropy"]),
    ("rustix", &["cli", "clock", "config", "postgres"]),
    ("utoipa", &["domain", "http"]),
];

/// The names of modules, or of crates, that one module contains.
struct Names {
    /// The top-level module that the file belongs to; `lib` or `main` for the root of a crate.
    module: String,
    file: PathBuf,
    names: BTreeSet<String>,
}

/// Finds the top-level modules that each module names, including in tests.
fn named_modules(sources: &Sources) -> Vec<Names> {
    names_in(sources, "lib.rs", |module, mention| top_level_module(module, &mention.path))
}

/// Finds the crates that each module names, including in tests.
fn named_crates(sources: &Sources) -> Vec<Names> {
    ["lib.rs", "main.rs"]
        .into_iter()
        .filter(|root| sources.contains_key(Path::new(root)))
        .flat_map(|root| names_in(sources, root, |_, mention| first_name(mention)))
        .collect()
}

fn names_in(
    sources: &Sources,
    root: &str,
    name: impl Fn(&[String], &Mention) -> Option<String>,
) -> Vec<Names> {
    let krate = Crate::read(sources, root);
    let root_name = root.trim_end_matches(".rs").to_owned();
    krate
        .modules
        .iter()
        .map(|module| Names {
            module: module.path.first().unwrap_or(&root_name).clone(),
            file: module.file.clone(),
            names: mentions(module).iter().filter_map(|found| name(&module.path, found)).collect(),
        })
        .collect()
}

/// Finds the top-level module of a path in `module`. It is `store` for `crate::store`, and for
/// `super::super::store` in a module two levels down.
fn top_level_module(module: &[String], path: &[String]) -> Option<String> {
    let mut absolute: Vec<&String> = match path.first()?.as_str() {
        "crate" => Vec::new(),
        "self" | "super" => module.iter().collect(),
        _ => return None,
    };
    for name in path {
        match name.as_str() {
            "crate" | "self" => {}
            "super" => {
                absolute.pop();
            }
            _ => absolute.push(name),
        }
    }
    absolute.first().map(|name| (*name).clone())
}

/// Returns the first name of a path if it can be the name of a crate. In code, a path of a single
/// name does not refer to a crate.
fn first_name(mention: &Mention) -> Option<String> {
    let is_path = mention.place == Place::Import || mention.path.len() > 1;
    let first = mention.path.iter().find(|name| *name != OTHER_CRATE)?;
    is_path.then(|| first.clone())
}

/// Returns one sentence for each module that names another module without an entry in `ARROWS`.
fn forbidden_arrows(sources: &Sources, arrows: &[(&str, &[&str])]) -> Vec<String> {
    let known: BTreeSet<&str> = arrows.iter().map(|(module, _)| *module).collect();
    let mut violations = Vec::new();
    for Names { module, file, names } in named_modules(sources) {
        if module == "lib" {
            continue;
        }
        let Some((_, allowed)) = arrows.iter().find(|(name, _)| *name == module) else {
            violations.push(format!("src/{}: {module} has no line in ARROWS", file.display()));
            continue;
        };
        for name in names {
            let is_allowed = name == module || allowed.contains(&name.as_str());
            if known.contains(name.as_str()) && !is_allowed {
                violations.push(format!("src/{} names {name}", file.display()));
            }
        }
    }
    violations
}

/// Returns one sentence for each module that names a restricted crate without an entry in `CRATES`.
fn forbidden_crates(sources: &Sources, crates: &[(&str, &[&str])]) -> Vec<String> {
    let mut violations = Vec::new();
    for Names { module, file, names } in named_crates(sources) {
        for (krate, allowed) in crates {
            if names.contains(*krate) && !allowed.contains(&module.as_str()) {
                violations.push(format!("src/{} names {krate}", file.display()));
            }
        }
    }
    violations
}

#[test]
fn modules_depend_on_each_other_only_in_the_allowed_direction() {
    let violations = forbidden_arrows(&of_this_crate(), ARROWS);
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[test]
fn restricted_crates_are_used_only_in_the_allowed_modules() {
    let violations = forbidden_crates(&of_this_crate(), CRATES);
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[test]
fn check_reports_a_forbidden_module_dependency_in_every_kind_of_path() {
    let library = "mod auth; mod clock; mod http; mod node; mod store; mod usage;";
    let clock = r#"
        //! `crate::usage` in a comment is not a dependency.
        use crate::{auth::{A, B}, node};
        fn now() -> super::http::Time {
            log!("crate::usage", [&crate::store::Store::new()]);
        }
    "#;
    let empty = "";
    let files = [
        ("lib.rs", library),
        ("clock.rs", clock),
        ("auth.rs", empty),
        ("http.rs", empty),
        ("node.rs", empty),
        ("store.rs", empty),
        ("usage.rs", empty),
    ];
    let modules = ["auth", "http", "node", "store", "usage"];
    let none: &[&str] = &[];
    let mut arrows: Vec<(&str, &[&str])> = modules.map(|module| (module, none)).to_vec();
    arrows.push(("clock", &["auth"]));
    assert_eq!(
        forbidden_arrows(&sample(&files), &arrows),
        ["src/clock.rs names http", "src/clock.rs names node", "src/clock.rs names store"]
    );
}

#[test]
fn check_reports_a_forbidden_crate_dependency_in_every_kind_of_path() {
    let library = "mod clock; mod domain; mod http; mod store; mod usage;";
    let files = [
        ("lib.rs", library),
        ("clock.rs", "use ::sqlx as database;"),
        ("domain.rs", "/// [`sqlx::PgPool`]\nstruct Pool { sqlx: &'static str }"),
        ("http.rs", "#[derive(sqlx::FromRow)] struct Row;"),
        ("store.rs", "use sqlx::PgPool;"),
        ("usage.rs", "#[cfg(test)] mod tests { fn row() { assert!(sqlx::query().is_ok()); } }"),
        ("main.rs", "fn main() { sqlx::run(); }"),
    ];
    assert_eq!(
        forbidden_crates(&sample(&files), &[("sqlx", &["store"])]),
        [
            "src/clock.rs names sqlx",
            "src/http.rs names sqlx",
            "src/usage.rs names sqlx",
            "src/main.rs names sqlx"
        ]
    );
}
