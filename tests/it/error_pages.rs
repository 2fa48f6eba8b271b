//! The pages of the book about problem codes. The member `documentation_url` links to them.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use serde_json::Value;
use tollgate::auth::ProblemCode;

use crate::harness::request::DOCUMENTED_MEMBERS;

/// The address of the pages in their examples.
const ADDRESS: &str = "https://keys.example.com/docs/book/reference/errors";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/src/reference/errors")
}

fn page(code: ProblemCode) -> String {
    let path = folder().join(format!("{code}.md"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn every_problem_code_has_a_page_and_every_page_is_about_a_problem_code() {
    let pages: BTreeSet<String> = std::fs::read_dir(folder())
        .expect("the folder can be read")
        .map(|entry| {
            entry.expect("the entry can be read").file_name().to_string_lossy().into_owned()
        })
        .collect();
    let expected: BTreeSet<String> =
        ProblemCode::ALL.iter().map(|code| format!("{code}.md")).collect();
    assert_eq!(pages, expected);
}

#[test]
fn error_page_says_what_happened_and_how_to_fix_it() {
    for code in ProblemCode::ALL {
        let page = page(*code);
        let headings: Vec<&str> = page.lines().filter(|line| line.starts_with('#')).collect();
        let title = format!("# {}", code.title());
        let sections = ["## What happened", "## How to fix it", "## Example"];
        assert_eq!(headings, [&[title.as_str()][..], &sections].concat(), "{code}");
        let status = format!("Status {}, code `{code}`.", code.status().as_u16());
        assert_eq!(page.lines().nth(2), Some(status.as_str()), "{code}");
        let length = page.lines().count();
        assert!((20..=50).contains(&length), "{code}: {length} lines");
    }
}

#[test]
fn example_on_an_error_page_has_the_same_members_in_the_same_order_as_the_response() {
    for code in ProblemCode::ALL {
        let page = page(*code);
        let blocks: Vec<&str> = page.split("```json\n").skip(1).collect();
        let [block] = blocks[..] else { panic!("{code} has {} examples", blocks.len()) };
        let (example, _) = block.split_once("```").expect("the block has an end");
        let example: Value =
            serde_json::from_str(example).unwrap_or_else(|error| panic!("{code}: {error}"));
        let names: Vec<&str> = example
            .as_object()
            .expect("the value is an object")
            .keys()
            .map(String::as_str)
            .collect();
        assert_eq!(names[..5], ["type", "title", "status", "detail", "code"], "{code}");
        assert_eq!(names[names.len() - 2..], ["request_id", "documentation_url"], "{code}");
        let members: BTreeSet<String> = names.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(Some(&members), DOCUMENTED_MEMBERS.get(code.as_str()), "{code}");
        assert_eq!(example["type"], format!("urn:tollgate:problem:{code}"));
        assert_eq!(example["title"], code.title());
        assert_eq!(example["status"], code.status().as_u16());
        assert_eq!(example["code"], code.as_str());
        assert_eq!(example["documentation_url"], format!("{ADDRESS}/{code}.html"));
    }
}
