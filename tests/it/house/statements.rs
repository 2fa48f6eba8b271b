//! Every SQL statement of the program contains a comment with its name after the first word. The
//! name identifies the statement in `pg_stat_statements`. Since Postgres 18, this view drops a
//! comment before the first word.

use std::collections::BTreeMap;

use super::sources::{Sources, of_this_crate, sample};

/// The calls that contain a statement, such as `sqlx::query!(` and `sqlx::raw_sql(`.
const CALLS: [&str; 2] = ["sqlx::query", "sqlx::raw_sql"];

/// Macros of this crate that build a statement. Their first argument is the statement's name.
const MACROS: [&str; 4] =
    ["select_accounts!(", "select_holds!(", "select_keys!(", "select_purchases!("];

/// Returns one sentence for each statement without a name, and for each name that is not unique.
fn unnamed_or_duplicate(sources: &Sources) -> Vec<String> {
    let mut faults = Vec::new();
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    for (path, text) in sources {
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for (at, _) in CALLS.iter().flat_map(|call| code.match_indices(call)) {
            let rest = &code[at..];
            // The first string literal of the call is the statement. Some statements are built by a
            // macro of this crate, which inserts the name.
            let Some((_, literal)) = rest.split_once('"') else { continue };
            let comment = literal.split_once(" /* ").filter(|(word, _)| is_keyword(word));
            match comment.and_then(|(_, name)| name.split_once(" */")) {
                Some((name, _)) if name.contains('.') => {
                    *names.entry(name.to_owned()).or_default() += 1;
                }
                _ if literal.starts_with("SELECT /* \" + $name") => {}
                _ => {
                    let start: String = literal.chars().take(40).collect();
                    faults.push(format!("{}: {start}", path.display()));
                }
            }
        }
        for (at, call) in MACROS.iter().flat_map(|call| code.match_indices(call)) {
            let name = code[at + call.len()..].trim_start().trim_start_matches('"');
            let name = name.split('"').next().unwrap_or_default();
            *names.entry(name.to_owned()).or_default() += 1;
        }
    }
    let duplicates = names.into_iter().filter(|(_, times)| *times > 1);
    faults.extend(
        duplicates.map(|(name, times)| format!("{name} is the name of {times} statements")),
    );
    faults
}

/// Whether `word` consists of capital letters, such as `SELECT`.
fn is_keyword(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_uppercase())
}

#[test]
fn every_sql_statement_has_a_unique_name_after_its_first_word() {
    let faults = unnamed_or_duplicate(&of_this_crate());
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn check_reports_missing_misplaced_and_duplicate_sql_statement_names() {
    let named = "sqlx::query!(\"SELECT /* a.one */ 1\");";
    let unnamed = "sqlx::query_as!(Row, r#\"SELECT 1\"#);";
    assert!(unnamed_or_duplicate(&sample(&[("a.rs", named)])).is_empty());
    let before = "sqlx::query!(\"/* a.one */ SELECT 1\");";
    assert_eq!(unnamed_or_duplicate(&sample(&[("a.rs", unnamed)])).len(), 1);
    assert_eq!(unnamed_or_duplicate(&sample(&[("a.rs", before)])).len(), 1);
    assert_eq!(unnamed_or_duplicate(&sample(&[("a.rs", named), ("b.rs", named)])).len(), 1);
}
