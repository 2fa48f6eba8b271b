//! Checks that a program reads every environment variable that the documents name.

use std::collections::BTreeSet;

use tollgate::config;

use super::{
    files::{assert_none, readme_and_book},
    markdown::{Document, line_of},
};

const PREFIX: &str = "TOLLGATE_";

/// Lists the variables of all settings and of other programs.
fn known_variables() -> BTreeSet<String> {
    let mut known = config::known_variables();
    known.extend(config::variables_of_other_programs().iter().map(|name| (*name).to_owned()));
    known
}

/// Returns one sentence for each name that has the prefix, but that no program reads. A name that
/// ends with `_`, as in `TOLLGATE_MAX_…`, stands for all variables that begin with this name.
fn unknown_variables(document: &Document, known: &BTreeSet<String>) -> Vec<String> {
    let blocks = document.blocks.iter().map(|block| (block.line, block.text.as_str()));
    let mut faults = Vec::new();
    for (line, text) in blocks.chain([(1, document.prose.as_str())]) {
        for (at, _) in text.match_indices(PREFIX) {
            let is_part_of_name =
                |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
            if text[..at].ends_with(is_part_of_name) {
                continue;
            }
            let end = text[at..].find(|c: char| !is_part_of_name(c));
            let name = &text[at..end.map_or(text.len(), |length| at + length)];
            let is_known = if name.ends_with('_') {
                known.iter().any(|known| known.starts_with(name))
            } else {
                known.contains(name)
            };
            if !is_known {
                let line = line + line_of(text, at) - 1;
                faults.push(document.fault(line, &format!("no program reads `{name}`")));
            }
        }
    }
    faults
}

#[test]
fn every_variable_in_readme_and_book_exists() {
    let known = known_variables();
    assert!(known.contains("TOLLGATE_LISTEN") && known.contains("TOLLGATE_URL"), "{known:?}");
    let documents = readme_and_book().into_iter();
    let faults = documents.flat_map(|document| unknown_variables(&document, &known));
    assert_none(&faults.collect::<Vec<_>>());
}

#[test]
fn check_reports_an_unknown_variable_in_text_and_code() {
    let known: BTreeSet<String> =
        ["TOLLGATE_LISTEN".to_owned(), "TOLLGATE_MAX_HEADERS".to_owned()].into();
    let text = "`TOLLGATE_LISTEN` TOLLGATE_MAX_… TOLLGATE_\n`TOLLGATE_LISTN`\n\n```sh\n\
        export MY_TOLLGATE_X=$TOLLGATE_LISTEN\nTOLLGATE_MIN_X=1\n```\n";
    let faults = unknown_variables(&Document::parse("a.md", text), &known);
    let expected =
        ["a.md:6: no program reads `TOLLGATE_MIN_X`", "a.md:2: no program reads `TOLLGATE_LISTN`"];
    assert_eq!(faults, expected);
}
