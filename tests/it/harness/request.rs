//! HTTP requests that tests send, and the responses that they check.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::LazyLock,
};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, Request, request::Parts},
};
use serde_json::Value;

/// Maps each problem code to the members of its problem, according to the OpenAPI document.
static DOCUMENTED_MEMBERS: LazyLock<BTreeMap<String, BTreeSet<String>>> =
    LazyLock::new(documented_members);

#[derive(Clone, Debug)]
pub struct Call {
    method: String,
    path: String,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Call {
    pub fn new(method: &str, path: &str) -> Self {
        Self {
            method: method.into(),
            path: path.into(),
            headers: HeaderMap::new(),
            body: Vec::new(),
        }
    }

    pub fn header(self, name: &str, value: &str) -> Self {
        self.raw_header(name, value.as_bytes())
    }

    /// Appends a header. Keeps existing headers with this name.
    pub fn raw_header(mut self, name: &str, value: &[u8]) -> Self {
        let name: HeaderName = name.parse().expect("the header name is valid");
        self.headers
            .append(name, HeaderValue::from_bytes(value).expect("the header value is valid"));
        self
    }

    pub fn bearer(self, token: &str) -> Self {
        self.header("Authorization", &format!("Bearer {token}"))
    }

    pub fn idempotency_key(self, key: &str) -> Self {
        self.header("Idempotency-Key", key)
    }

    pub fn json(self, body: Value) -> Self {
        self.body("application/json", body.to_string().into_bytes())
    }

    pub fn body(mut self, media_type: &str, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self.header("Content-Type", media_type)
    }

    pub fn into_request(self) -> Request<Body> {
        let (parts, body) = self.into_parts();
        Request::from_parts(parts, Body::from(body))
    }

    pub fn into_parts(self) -> (Parts, Vec<u8>) {
        let request = Request::builder().method(self.method.as_str()).uri(self.path);
        let (mut parts, body) = request.body(self.body).expect("the request is valid").into_parts();
        parts.headers = self.headers;
        (parts, body)
    }
}

pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    /// The body as JSON, or `null` if the body is not JSON.
    pub json: Value,
}

impl Answer {
    pub fn new(status: u16, headers: HeaderMap, body: Vec<u8>) -> Self {
        let json = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let answer = Self { status, headers, body, json };
        answer.check_shape();
        answer
    }

    /// Checks rules that every response must follow.
    fn check_shape(&self) {
        let request_id = self.header("x-request-id").expect("every response has a request id");
        if self.status >= 400 {
            assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
            assert_eq!(self.json["status"], self.status, "{self:?}");
            for member in ["type", "title", "detail", "code"] {
                assert!(self.json[member].is_string(), "{member} of {self:?}");
            }
            if self.header("idempotent-replayed").is_none() {
                assert_eq!(self.json["request_id"], request_id, "{self:?}");
            }
            self.check_members();
        }
        if self.status == 401 {
            assert!(self.header("www-authenticate").is_some(), "{self:?}");
        }
        if self.status == 503 {
            assert!(self.header("retry-after").is_some(), "{self:?}");
        }
    }

    /// Checks that a problem has exactly the members that the OpenAPI document lists for its code.
    /// A service that does not serve its documentation omits `documentation_url`.
    fn check_members(&self) {
        let documented = DOCUMENTED_MEMBERS.get(self.code());
        let documented = documented
            .unwrap_or_else(|| panic!("the OpenAPI document does not list the code of {self:?}"));
        let problem = self.json.as_object().expect("the value is an object");
        let mut members: BTreeSet<String> = problem.keys().cloned().collect();
        if !members.insert("documentation_url".to_owned()) {
            let page = format!("/docs/book/reference/errors/{}.html", self.code());
            assert!(self.text("/documentation_url").ends_with(&page), "{self:?}");
        }
        assert_eq!(&members, documented, "{self:?}");
    }

    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    #[track_caller]
    pub fn expect_problem(self, status: u16, code: &str) -> Self {
        assert_eq!((self.status, self.code()), (status, code), "{self:?}");
        self
    }

    /// Returns the string that a JSON pointer selects from the body.
    #[track_caller]
    pub fn text(&self, pointer: &str) -> &str {
        let value = self.json.pointer(pointer).and_then(Value::as_str);
        value.unwrap_or_else(|| panic!("no string at {pointer} of {self:?}"))
    }

    /// Returns the items of a list response.
    #[track_caller]
    pub fn data(&self) -> &[Value] {
        self.json["data"].as_array().unwrap_or_else(|| panic!("no list: {self:?}"))
    }

    pub fn code(&self) -> &str {
        self.json["code"].as_str().unwrap_or_default()
    }

    /// Returns the locations of the errors, in the order of the response: JSON pointers, parameters
    /// and headers.
    pub fn errors_at(&self) -> Vec<&str> {
        let errors = self.json["errors"].as_array().map_or(&[][..], Vec::as_slice);
        let location = |error: &'_ Value| {
            ["pointer", "parameter", "header"].into_iter().find(|name| error[*name].is_string())
        };
        errors.iter().filter_map(|error| error[location(error)?].as_str()).collect()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.status)?;
        for (name, value) in &self.headers {
            writeln!(f, "{name}: {value:?}")?;
        }
        f.write_str(&String::from_utf8_lossy(&self.body))
    }
}

fn documented_members() -> BTreeMap<String, BTreeSet<String>> {
    let document =
        serde_json::to_value(tollgate::http::openapi_document()).expect("the text is JSON");
    let schemas = document["components"]["schemas"].as_object().expect("the value is an object");
    let names = |schema: &Value| -> BTreeSet<String> {
        schema["properties"].as_object().expect("the value is an object").keys().cloned().collect()
    };
    let shared = names(&schemas["Problem"]);
    let has_code = |name: &str| name.len() > "Problem".len() && name.ends_with("Problem");
    schemas
        .iter()
        .filter(|(name, _)| has_code(name.as_str()))
        .map(|(name, schema)| {
            let own = &schema["allOf"][1];
            let code = own["properties"]["code"]["enum"][0].as_str();
            let code = code.unwrap_or_else(|| panic!("no code in {name}"));
            (code.to_owned(), &names(own) | &shared)
        })
        .collect()
}
