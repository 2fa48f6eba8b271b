//! Checks that each problem code has a page in the reference.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use serde_json::{Value, json};
use tollgate::auth::ProblemCode;

use super::{
    files::{BOOK_SOURCES, assert_none, files_below, read, root},
    markdown::{Block, Document},
};

/// Returns one sentence for each required part that is missing on the page of a code.
fn faults_of_page(page: &Document, code: ProblemCode) -> Vec<String> {
    let mut faults = Vec::new();
    let title = page.prose.lines().next().unwrap_or_default();
    if title != format!("# {}", code.title()) {
        faults.push(page.fault(1, &format!("the first line is not `# {}`", code.title())));
    }
    let status = code.status().as_u16();
    if !page.prose.contains(&status.to_string()) {
        faults.push(page.fault(1, &format!("the text does not name the status {status}")));
    }
    let mut has_example = false;
    for block in &page.blocks {
        match example(block) {
            Some(Err(error)) => {
                let error = format!("the example is not JSON: {error}");
                faults.push(page.fault(block.line, &error));
            }
            Some(Ok(problem)) if problem.get("code").is_some() => {
                has_example |= problem["code"] == code.as_str();
                faults.extend(wrong_members(page, block, code, &problem));
            }
            _ => {}
        }
    }
    if !has_example {
        faults.push(page.fault(1, &format!("no example has the code `{code}`")));
    }
    faults
}

/// Extracts the JSON from a block `json`, or from the body of a block `http`. Returns `None` if the
/// block contains no JSON.
fn example(block: &Block) -> Option<serde_json::Result<Value>> {
    let text = match block.language.as_str() {
        "json" => block.text.as_str(),
        "http" => block.text.split_once("\n\n")?.1,
        _ => return None,
    };
    (!text.trim().is_empty()).then(|| serde_json::from_str(text))
}

fn wrong_members(
    page: &Document,
    block: &Block,
    code: ProblemCode,
    problem: &Value,
) -> Vec<String> {
    let expected = json!({
        "type": format!("urn:tollgate:problem:{code}"),
        "title": code.title(),
        "status": code.status().as_u16(),
        "code": code.as_str(),
    });
    let members = expected.as_object().expect("an object").iter();
    let wrong = members.filter(|(name, value)| problem.get(name.as_str()) != Some(*value));
    let fault = |(name, value): (&String, &Value)| {
        page.fault(block.line, &format!("the example's `{name}` is not {value}"))
    };
    wrong.map(fault).collect()
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
fn check_reports_a_page_with_a_wrong_title_status_or_example() {
    let code = ProblemCode::NotFound;
    let page = |text: &str| Document::parse("a.md", text);
    let right = "# Not found\n\nStatus 404.\n\n```json\n\
        {\"type\": \"urn:tollgate:problem:not_found\", \"title\": \"Not found\", \"status\": 404, \
        \"code\": \"not_found\", \"detail\": \"…\"}\n```\n";
    assert_eq!(faults_of_page(&page(right), code), Vec::<String>::new());
    let faults = |from: &str, to: &str| faults_of_page(&page(&right.replace(from, to)), code);
    assert_eq!(faults("# Not", "# not"), ["a.md:1: the first line is not `# Not found`"]);
    assert_eq!(faults("Status 404", "Status 4"), ["a.md:1: the text does not name the status 404"]);
    assert_eq!(faults(": 404,", ": 400,"), ["a.md:6: the example's `status` is not 404"]);
    assert_eq!(faults("```json", "```http"), ["a.md:1: no example has the code `not_found`"]);
    let unparsed = faults("\"…\"}", "\"…\"");
    assert!(unparsed[0].starts_with("a.md:6: the example is not JSON"), "{unparsed:?}");
}
