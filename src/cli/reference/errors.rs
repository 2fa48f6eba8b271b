//! The page of all problem codes.

use super::markdown::{begin, code, prose, table};
use crate::auth::ProblemCode;

const INTRODUCTION: &str = "\
The body of every error is problem details ([RFC 9457](https://www.rfc-editor.org/rfc/rfc9457)), with \
the media type `application/problem+json`:

```json
{
  \"type\": \"urn:tollgate:problem:insufficient_balance\",
  \"title\": \"Insufficient balance\",
  \"status\": 402,
  \"detail\": \"The purchase needs 99 TRX, but only 98.5 TRX is available.\",
  \"code\": \"insufficient_balance\",
  \"request_id\": \"req_01h455vb4pex5vsknk084sn02q\",
  \"documentation_url\": \"https://keys.example.com/docs/book/reference/errors/insufficient_balance.html\",
  \"required\": \"99.000000\",
  \"available\": \"98.500000\",
  \"currency\": \"TRX\"
}
```

- Decide by `code`. A code implies the status, the title and further members, and its meaning never \
changes. `title` and `detail` are for people and may change.
- A minor version may add codes. Treat a code that you do not know by its status.
- `request_id` is also in the header `X-Request-Id`. It leads to the line in the service's log.
- `documentation_url` is the page of the code in this book. It is absent if the service has \
`TOLLGATE_DOCS=off`, and in responses of the middleware in your own service.
- A 401 says nothing about why a key is refused. The log does.
- A 503 has the header `Retry-After`. A request with an `Idempotency-Key` can be sent again.

Two kinds of errors have no such body: a request that is not HTTP, or whose headers are too large, \
gets a 400 or a 431 without a body, and below `/dashboard` errors are pages.

";

pub fn page() -> String {
    let mut text = begin("errors", "Errors");
    text.push_str(INTRODUCTION);
    for codes in ProblemCode::ALL.chunk_by(|one, next| one.status() == next.status()) {
        // A chunk is never empty.
        text.push_str(&format!("## {}\n\n", codes[0].status()));
        let rows: Vec<Vec<String>> = codes.iter().copied().map(row).collect();
        text.push_str(&table(&["code", "title", "meaning"], &rows));
    }
    text.trim_end().to_owned() + "\n"
}

/// A link from the reference to the page of a code.
pub fn link(problem_code: &str) -> String {
    format!("[{}](errors/{problem_code}.md)", code(problem_code))
}

fn row(code: ProblemCode) -> Vec<String> {
    vec![link(code.as_str()), prose(code.title()), prose(code.meaning())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_below_its_status() {
        let page = page();
        let (_, not_found) = page.split_once("\n## 404 Not Found\n").expect("a heading");
        assert!(not_found.contains("| [`not_found`](errors/not_found.md) | Not found | "));
        for code in ProblemCode::ALL {
            let rows = page.matches(&format!("| {} |", link(code.as_str()))).count();
            assert_eq!(rows, 1, "{code}");
        }
    }
}
