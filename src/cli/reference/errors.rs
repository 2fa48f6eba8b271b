//! Generates the page of all problem codes.

use super::markdown::{begin, code, prose, table};
use crate::auth::ProblemCode;

const INTRODUCTION: &str = "\
The body of an error response contains problem details ([RFC \
9457](https://www.rfc-editor.org/rfc/rfc9457)), with the media type `application/problem+json`:

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

- Programs should use `code` to decide what to do. A code determines the status, the title and the \
additional members, and its meaning never changes. `title` and `detail` are for people and may \
change.
- A minor version may add codes. If your program does not know a code, use the status instead.
- `request_id` identifies the request in the service's log. The header `X-Request-Id` contains it \
too.
- `documentation_url` links to the page about the code in this book. It is absent if the service \
runs with `TOLLGATE_DOCS=off`, and in responses of the middleware in your own service.
- A 401 response does not say why the key is refused. The service's log contains the reason.
- A 503 response contains the header `Retry-After`. You can safely repeat a request that has an \
`Idempotency-Key`.

Some error responses contain no problem details. If a request is not valid HTTP, the response is a \
400 without a body. If its headers are too large, the response is a 431 without a body. Below \
`/dashboard`, an error response is an HTML page.

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

/// Returns a link from the reference to the page about a code.
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
    fn every_code_is_listed_under_its_status() {
        let page = page();
        let (_, not_found) = page.split_once("\n## 404 Not Found\n").expect("a heading");
        assert!(not_found.contains("| [`not_found`](errors/not_found.md) | Not found | "));
        for code in ProblemCode::ALL {
            let rows = page.matches(&format!("| {} |", link(code.as_str()))).count();
            assert_eq!(rows, 1, "{code}");
        }
    }
}
