//! Generates the page of the HTTP API from the OpenAPI document.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    markdown::{begin, table},
    operation::{Credential, Operation, headers, is_success, paragraph},
    schema::Document,
};

const INTRODUCTION: &str = "\
This page describes the API for people. The [OpenAPI](https://www.openapis.org) document describes \
it for programs. A service serves the document at `/openapi.json`, and an interactive version at \
`/docs`. [Errors](errors.md) lists all problem codes.

- Request and response bodies are JSON. Tollgate refuses a request body that contains an unknown \
or a repeated member.
- Times are RFC 3339 in UTC. Amounts are decimal strings. Ids are \
[TypeIDs](https://github.com/jetify-com/typeid), such as `key_01h455vb4pex5vsknk084sn02q`.
- `{account}` is your own id for an account. Percent-encode it in the path.
- In a PATCH request, an absent member keeps its value, and `null` clears it.
- Lists are paginated. To get the next page, repeat the request with `cursor` set to \
`next_cursor`, until `next_cursor` is `null`. A page is at most 256 KiB long, so it may contain \
fewer items than `limit` even if more follow.
- [Money](money.md) describes how `Idempotency-Key` works. [Keys and scopes](keys-and-scopes.md) \
describes which scopes imply others.

";

/// The methods, in the order of the operations of one path.
const METHODS: [&str; 7] = ["get", "put", "post", "patch", "delete", "head", "options"];

/// The credentials, in the order of the page.
const CREDENTIALS: [Credential; 3] = [
    Credential {
        scheme: Some("api_key"),
        heading: "Operations with an API key",
        role: "scope",
        name: "API key",
    },
    Credential {
        scheme: Some("admin_key"),
        heading: "Operations with an admin key",
        role: "permission",
        name: "Admin key",
    },
    Credential { scheme: None, heading: "Operations without a credential", role: "", name: "None" },
];

/// Generates the page. `document` is the OpenAPI document.
pub fn page(document: &Value) -> String {
    let operations = operations(document);
    let mut page = begin("http-api", "HTTP API");
    page.push_str(&paragraph(&document["info"]));
    page.push_str(INTRODUCTION);
    for credential in &CREDENTIALS {
        let own = |operation: &&Operation| credential.scheme == operation.scheme();
        let own: Vec<&Operation> = operations.iter().filter(own).collect();
        if own.is_empty() {
            continue;
        }
        page.push_str(&format!("## {}\n\n", credential.heading));
        if let Some(scheme) = credential.scheme {
            page.push_str(&paragraph(&document["components"]["securitySchemes"][scheme]));
        }
        page.push_str(&contents(document, &own));
        for operation in own {
            page.push_str(&operation.section(Document(document), credential));
        }
    }
    page.push_str("## Types\n\n");
    for (name, schema) in types(document, &operations) {
        page.push_str(&Document(document).section(name, schema));
    }
    page.trim_end().to_owned() + "\n"
}

/// Returns all operations, sorted by tag, path and method.
fn operations(document: &Value) -> Vec<Operation<'_>> {
    let mut operations = Vec::new();
    for tag in tags(document) {
        for (path, item) in document["paths"].as_object().into_iter().flatten() {
            for method in METHODS {
                let Some(value) = item.get(method) else { continue };
                if value["tags"][0] == tag["name"] {
                    operations.push(Operation { method, path, value });
                }
            }
        }
    }
    operations
}

fn tags(document: &Value) -> impl Iterator<Item = &Value> {
    document["tags"].as_array().into_iter().flatten()
}

/// Returns a table of contents, which lists the operations of each tag.
fn contents(document: &Value, operations: &[&Operation]) -> String {
    let mut contents = String::new();
    for tag in tags(document) {
        let of_tag = |operation: &&&Operation| operation.value["tags"][0] == tag["name"];
        let rows: Vec<Vec<String>> = operations.iter().filter(of_tag).map(|it| it.row()).collect();
        if !rows.is_empty() {
            contents.push_str(&paragraph(tag));
            contents.push_str(&table(&["operation", "method and path"], &rows));
        }
    }
    contents
}

/// Returns the named types in parameters, bodies and responses, except for problems and for request
/// bodies, whose members the section of the operation lists.
fn types<'a>(document: &'a Value, operations: &[Operation<'a>]) -> BTreeMap<&'a str, &'a Value> {
    let (document, mut types) = (Document(document), BTreeMap::new());
    for operation in operations {
        document.collect_types(&operation.value["parameters"], &mut types);
        if let Some((_, body)) = operation.request_body() {
            document.collect_types(document.resolve(&body["schema"]), &mut types);
        }
        for (status, response) in operation.responses(document) {
            for (_, header) in headers(response) {
                document.collect_types(document.resolve(header), &mut types);
            }
            if is_success(status) {
                document.collect_types(&response["content"], &mut types);
            }
        }
    }
    types
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn document() -> Value {
        let schema = |name: &str| json!({"$ref": format!("#/components/schemas/{name}")});
        let problem = |name: &str, code: &str| {
            json!({"type": "object", "description": name,
                "properties": {"code": {"type": "string", "enum": [code]}}})
        };
        json!({
            "info": {"description": "Keys."},
            "tags": [{"name": "holds", "description": "Holds."}, {"name": "service"}],
            "paths": {
                "/v1/holds": {"post": {
                    "tags": ["holds"],
                    "summary": "Place a hold",
                    "description": "Reserves <a part>.",
                    "parameters": [{"name": "Idempotency-Key", "in": "header", "required": false,
                        "description": "A key.", "schema": {"type": "string", "maxLength": 130}}],
                    "requestBody": {"required": false, "content": {"application/json": {
                        "schema": schema("CreateHold"), "example": {"amount": "1"}}}},
                    "responses": {
                        "201": {"description": "The hold.",
                            "headers": {"X-Request-Id": {"schema": {"type": "string"}},
                                "Replayed": {"schema": {"type": "string"}, "description": "Again."}},
                            "content": {"application/json": {"schema": schema("Hold")}}},
                        "402": {"description": "Declined.", "content": {
                            "application/problem+json": {"schema": {"oneOf": [
                                schema("BalanceProblem"), schema("LimitProblem")]}}}},
                    },
                    "security": [{"api_key": ["purchases:write"]}],
                }},
                "/livez": {"get": {"tags": ["service"], "summary": "Check it", "security": [],
                    "responses": {"200": {"description": "It answers."}}}},
            },
            "components": {
                "securitySchemes": {"api_key": {"description": "An account's API key."}},
                "schemas": {
                    "Amount": {"type": "string", "description": "An amount."},
                    "CreateHold": {"type": "object", "required": ["amount"],
                        "properties": {"amount": schema("Amount")}},
                    "Hold": {"type": "object", "description": "A hold.",
                        "properties": {"amount": schema("Amount")}},
                    "BalanceProblem": problem("Balance", "insufficient_balance"),
                    "LimitProblem": problem("Limit", "spend_limit_exceeded"),
                },
            },
        })
    }

    #[test]
    fn section_of_an_operation_lists_its_parameters_bodies_and_errors() {
        let page = page(&document());
        let (_, section) = page.split_once("### Place a hold\n\n").expect("a section");
        let expected = "\
```text
POST /v1/holds
```

Reserves &lt;a part&gt;.

Credential: API key with the scope `purchases:write`.

**Parameters**

| name | in | type | required | description |
| --- | --- | --- | --- | --- |
| `Idempotency-Key` | header | string | no | A key. At most 130 characters. |

**Request body**: `application/json` (optional).

| member | type | required | description |
| --- | --- | --- | --- |
| `amount` | [Amount](#amount) | yes | An amount. |

```json
{
  \"amount\": \"1\"
}
```

**Response 201**: The hold. Body: [Hold](#hold).

| header | type | description |
| --- | --- | --- |
| `Replayed` | string | Again. |

**Errors**

| status | codes | when |
| --- | --- | --- |
| 402 | [`insufficient_balance`](errors/insufficient_balance.md), \
[`spend_limit_exceeded`](errors/spend_limit_exceeded.md) | Declined. |

";
        assert!(section.starts_with(expected), "{section}");
    }

    #[test]
    fn page_lists_operations_by_credential_and_the_types_of_responses() {
        let page = page(&document());
        for part in [
            "## Operations with an API key\n\nAn account's API key.\n\nHolds.\n\n",
            "| [Place a hold](#place-a-hold) | `POST /v1/holds` |\n",
            "## Operations without a credential\n\n",
            "### Check it\n\n```text\nGET /livez\n```\n\nCredential: None.\n\n",
            "## Types\n\n### `Amount`\n\n",
            "### `Hold`\n\nA hold.\n\n",
        ] {
            assert!(page.contains(part), "{part} is not in:\n{page}");
        }
        for part in ["with an admin key", "### `CreateHold`", "### `BalanceProblem`"] {
            assert!(!page.contains(part), "{part} is in:\n{page}");
        }
    }
}
