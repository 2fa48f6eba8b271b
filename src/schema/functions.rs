//! The SQL functions, one per file in `sql/functions/`, with the triggers that execute them.

use std::borrow::Cow;

use rust_embed::Embed;
use sha2::{Digest as _, Sha256};

/// The version number of the functions. `tests/upgrade/previous-version` names the commit of the
/// previous version. Raise the number with the first change to a file in `sql/functions/` after
/// that commit, and renew `DIGEST` with every change. CONTRIBUTING.md contains the rule.
pub const FUNCTIONS_NUMBER: i32 = 2;

/// The oldest number whose binaries these functions still support. Raise it when you remove a
/// function that such a binary calls, or change the function's arguments or result.
pub const FUNCTIONS_SERVE_FROM: i32 = 1;

/// The [`functions_digest`] for [`FUNCTIONS_NUMBER`].
#[cfg(test)]
const DIGEST: &str = "002c746749c31368d55e73c5565eadfedeffcd095d1c1b464d0891dd86ed90a8";

#[derive(Embed)]
#[folder = "sql/functions"]
#[include = "*.sql"]
struct Files;

/// The contents of one file, which creates a function and its triggers.
pub(super) struct Function {
    pub name: String,
    pub sql: Cow<'static, str>,
}

/// Returns all functions, sorted by name.
pub(super) fn functions() -> Vec<Function> {
    let mut functions: Vec<Function> = Files::iter()
        .map(|path| {
            let file = Files::get(&path).expect("a listed path has a file");
            let name = path.strip_suffix(".sql").expect("only .sql files are embedded");
            Function { name: name.to_owned(), sql: text(file.data) }
        })
        .collect();
    functions.sort_by(|one, other| one.name.cmp(&other.name));
    functions
}

/// Computes the SHA-256 of the names and texts of all functions, in hexadecimal digits.
#[must_use]
pub fn functions_digest() -> String {
    let mut hasher = Sha256::new();
    for function in functions() {
        for part in [function.name.as_str(), &function.sql] {
            hasher.update(part.len().to_be_bytes());
            hasher.update(part);
        }
    }
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn text(bytes: Cow<'static, [u8]>) -> Cow<'static, str> {
    const UTF8: &str = "the files of this repository are UTF-8";
    match bytes {
        Cow::Borrowed(bytes) => Cow::Borrowed(std::str::from_utf8(bytes).expect(UTF8)),
        Cow::Owned(bytes) => Cow::Owned(String::from_utf8(bytes).expect(UTF8)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_have_the_recorded_digest() {
        assert_eq!(
            functions_digest(),
            DIGEST,
            "a file in sql/functions/ has changed. If the previous version also has the \
             number {FUNCTIONS_NUMBER}, raise FUNCTIONS_NUMBER. Check FUNCTIONS_SERVE_FROM, and \
             write the new digest into DIGEST"
        );
    }

    #[test]
    fn each_file_creates_only_the_function_of_its_name() {
        for function in functions() {
            let created: Vec<&str> = function
                .sql
                .match_indices("CREATE OR REPLACE FUNCTION ")
                .map(|(at, start)| {
                    let rest = &function.sql[at + start.len()..];
                    &rest[..rest.find('(').expect("a list of arguments")]
                })
                .collect();
            assert_eq!(created, [function.name.as_str()]);
        }
        assert!(functions().len() > 10);
    }
}
