//! Rules for the whole OpenAPI document. Client generators depend on them.

use serde_json::{Value, json};

use crate::harness::{App, Call};

fn document() -> Value {
    serde_json::to_value(tollgate::http::openapi_document()).expect("the text is JSON")
}

/// Lists every operation of the document with its name.
fn operations(document: &Value) -> impl Iterator<Item = (String, &Value)> {
    let paths = document["paths"].as_object().expect("the value is an object");
    paths.iter().flat_map(|(path, item)| {
        let operations = item.as_object().expect("the value is an object");
        operations.iter().map(move |(method, operation)| (format!("{method} {path}"), operation))
    })
}

/// Calls `check` with the target of every `$ref` in the value.
fn for_each_reference(value: &Value, check: &mut impl FnMut(&str)) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                match value {
                    Value::String(reference) if name == "$ref" => check(reference),
                    value => for_each_reference(value, check),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| for_each_reference(item, check)),
        _ => {}
    }
}

/// Returns the value to which a reference such as `#/components/schemas/Problem` points.
fn resolve<'a>(document: &'a Value, reference: &str) -> &'a Value {
    let pointer = reference.strip_prefix('#').expect("the reference is within the document");
    document.pointer(pointer).unwrap_or_else(|| panic!("{reference} is not in the document"))
}

#[tokio::test]
async fn served_openapi_document_matches_the_generated_document() {
    let app = App::start().await;
    let served = app.send(Call::new("GET", "/openapi.json")).await.expect(200);
    assert_eq!(served.json, document());
}

#[tokio::test]
async fn problem_links_to_the_page_about_its_code() {
    let app = App::start().await;
    for (call, code) in [
        (Call::new("GET", "/v1/me"), "missing_api_key"),
        (Call::new("GET", "/v1/accounts"), "missing_admin_key"),
        (Call::new("POST", "/livez"), "method_not_allowed"),
        (Call::new("GET", "/nothing/here"), "not_found"),
        (Call::new("GET", "/docs/nothing"), "not_found"),
    ] {
        let answer = app.send(call).await;
        assert_eq!(answer.code(), code, "{answer:?}");
        let page = format!("http://127.0.0.1:8080/docs/book/reference/errors/{code}.html");
        assert_eq!(answer.text("/documentation_url"), page);
    }
}

#[test]
fn documentation_url_is_an_optional_member_of_every_problem() {
    let document = document();
    let problem = &document["components"]["schemas"]["Problem"];
    assert_eq!(problem["properties"]["documentation_url"]["format"], "uri");
    let required = problem["required"].as_array().expect("the value is a list");
    assert!(!required.contains(&json!("documentation_url")), "{required:?}");
}

#[test]
fn every_openapi_reference_resolves() {
    let document = document();
    let mut references = 0;
    for_each_reference(&document, &mut |reference: &str| {
        resolve(&document, reference);
        references += 1;
    });
    assert!(references > 100, "{references}");
}

#[test]
fn every_documented_response_contains_the_request_id_header() {
    let document = document();
    let header = json!({"$ref": "#/components/headers/RequestId"});
    for (name, operation) in operations(&document) {
        for (status, response) in
            operation["responses"].as_object().expect("the value is an object")
        {
            let response = match response["$ref"].as_str() {
                Some(reference) => resolve(&document, reference),
                None => response,
            };
            assert_eq!(response["headers"]["X-Request-Id"], header, "{name} {status}");
        }
    }
}

#[test]
fn every_operation_that_can_be_replayed_documents_the_idempotent_replayed_header() {
    let document = document();
    let header = json!({"$ref": "#/components/headers/IdempotentReplayed"});
    let mut declined = 0;
    for (name, operation) in operations(&document) {
        let Some(reference) = operation["responses"]["402"]["$ref"].as_str() else { continue };
        let response = resolve(&document, reference);
        assert_eq!(response["headers"]["Idempotent-Replayed"], header, "{name} 402");
        let responses = operation["responses"].as_object().expect("the value is an object");
        let success = responses.iter().find(|(status, _)| status.starts_with('2'));
        let (status, success) = success.expect("the operation has a success response");
        assert_eq!(success["headers"]["Idempotent-Replayed"], header, "{name} {status}");
        declined += 1;
    }
    assert!(declined > 2, "{declined}");
}

#[test]
fn optional_request_body_may_be_absent_but_not_null() {
    let document = document();
    let mut optional = 0;
    for (name, operation) in operations(&document) {
        let Some(body) = operation.get("requestBody") else { continue };
        let schema = &body["content"]["application/json"]["schema"];
        assert!(schema["$ref"].is_string(), "{name}: {schema}");
        optional += usize::from(body["required"] == false);
    }
    assert!(optional > 5, "{optional}");
}

#[test]
fn description_of_a_nullable_member_is_outside_its_one_of() {
    let document = document();
    let mut described = 0;
    for (name, schema) in
        document["components"]["schemas"].as_object().expect("the value is an object")
    {
        let parts = schema["allOf"].as_array().map_or(&[][..], Vec::as_slice);
        for part in parts.iter().chain([schema]) {
            let Some(members) = part["properties"].as_object() else { continue };
            for (member, choice) in members {
                let Some(items) = choice["oneOf"].as_array() else { continue };
                let inside = items.iter().any(|item| item.get("description").is_some());
                assert!(!inside, "{name}.{member}: {choice}");
                described += usize::from(choice["description"].is_string());
            }
        }
    }
    assert!(described > 20, "{described}");
}

#[test]
fn operations_with_an_idempotency_key_document_their_422_response() {
    let document = document();
    let invalid = json!({"$ref": "#/components/responses/IdempotentRequestInvalid"});
    let mut required = 0;
    for (name, operation) in operations(&document) {
        let parameters = operation["parameters"].as_array().map_or(&[][..], Vec::as_slice);
        let header = parameters.iter().find(|parameter| parameter["name"] == "Idempotency-Key");
        let Some(header) = header else { continue };
        assert_eq!(header["schema"]["type"], "string", "{name}");
        assert_eq!(operation["responses"]["422"], invalid, "{name}");
        required += usize::from(header["required"] == true);
    }
    assert_eq!(required, 2);
}
