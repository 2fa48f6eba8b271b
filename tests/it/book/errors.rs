//! Checks that each problem code has a page in the reference.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
    path::Path,
};

use tollgate::auth::ProblemCode;

use super::{
    files::{BOOK_SOURCES, assert_none, files_below, read, root},
    markdown::Document,
};

/// The permitted length of a page, in lines.
const LINES: RangeInclusive<usize> = 20..=50;

/// Returns one sentence for each part of a code's page that is missing or wrong. The test in
/// `error_examples.rs` checks the example.
fn faults_of_page(page: &Document, code: ProblemCode) -> Vec<String> {
    let mut faults = Vec::new();
    let title = format!("# {}", code.title());
    let expected = [title.as_str(), "## What happened", "## How to fix it", "## Example"];
    let headings: Vec<&str> = page.prose.lines().filter(|line| line.starts_with('#')).collect();
    if headings != expected {
        faults.push(page.fault(1, &format!("the headings are not {expected:?}")));
    }
    let status = format!("Status {}, code `{code}`.", code.status().as_u16());
    if page.prose.lines().nth(2) != Some(status.as_str()) {
        faults.push(page.fault(3, &format!("the line is not {status:?}")));
    }
    let lines = page.prose.lines().count();
    if !LINES.contains(&lines) {
        faults.push(page.fault(1, &format!("{lines} lines, but {LINES:?} are allowed")));
    }
    faults
}

#[test]
fn every_problem_code_has_a_page_and_every_page_describes_a_code() {
    let folder = Path::new(BOOK_SOURCES).join("reference/errors");
    let codes: BTreeMap<String, ProblemCode> =
        ProblemCode::ALL.iter().map(|code| (format!("{code}.md"), *code)).collect();
    let mut faults = Vec::new();
    for (name, code) in &codes {
        let path = folder.join(name);
        if root().join(&path).exists() {
            faults.extend(faults_of_page(&read(path), *code));
        } else {
            faults.push(format!("{}:1: the code `{code}` has no page", path.display()));
        }
    }
    let expected: BTreeSet<_> = codes.keys().map(|name| folder.join(name)).collect();
    for page in files_below(&folder, "md") {
        if !expected.contains(&page) {
            faults.push(format!("{}:1: no problem has this code", page.display()));
        }
    }
    assert_none(&faults);
}

#[test]
fn check_reports_a_page_with_wrong_headings_a_wrong_status_or_too_many_lines() {
    let code = ProblemCode::NotFound;
    let right = format!(
        "# Not found\n\nStatus 404, code `not_found`.\n\n## What happened\n\n{}\
         ## How to fix it\n\n## Example\n",
        "A cause.\n".repeat(12)
    );
    let faults = |from: &str, to: &str| {
        faults_of_page(&Document::parse("a.md", &right.replace(from, to)), code)
    };
    assert_eq!(faults("", ""), Vec::<String>::new());
    let headings = "a.md:1: the headings are not [\"# Not found\", \"## What happened\", \
                    \"## How to fix it\", \"## Example\"]";
    for (from, to) in [("# Not", "# not"), ("## Example", "Example"), ("## How", "## Why")] {
        assert_eq!(faults(from, to), [headings]);
    }
    let status = "a.md:3: the line is not \"Status 404, code `not_found`.\"";
    assert_eq!(faults("404", "400"), [status]);
    assert_eq!(faults("A cause.\n", ""), ["a.md:1: 9 lines, but 20..=50 are allowed"]);
    assert_eq!(faults("A cause.", "A\ncause.\n\n"), ["a.md:1: 57 lines, but 20..=50 are allowed"]);
}
