//! Formats an operation of the OpenAPI document as Markdown.

use serde_json::Value;

use super::{
    errors,
    markdown::{anchor, code, prose, table},
    schema::{Document, example, name_of, text},
};

/// An operation with its path and method.
pub struct Operation<'a> {
    pub method: &'static str,
    pub path: &'a str,
    pub value: &'a Value,
}

/// A credential, and its names on the page.
pub struct Credential {
    /// The security scheme in the document. `None` means that no credential is required.
    pub scheme: Option<&'static str>,
    /// The heading of the section that lists its operations.
    pub heading: &'static str,
    /// The word for the roles in the document, such as "scope".
    pub role: &'static str,
    pub name: &'static str,
}

impl<'a> Operation<'a> {
    /// Returns the name of the operation's security scheme. `None` means that the operation
    /// requires no credential.
    pub fn scheme(&self) -> Option<&'a str> {
        let schemes = self.value["security"][0].as_object()?;
        schemes.keys().next().map(String::as_str)
    }

    /// Returns the scopes or permissions that the operation requires.
    fn roles(&self) -> Vec<String> {
        let schemes = self.value["security"][0].as_object();
        let roles = schemes.into_iter().flatten().filter_map(|(_, roles)| roles.as_array());
        roles.flatten().filter_map(Value::as_str).map(code).collect()
    }

    /// Returns the heading of the operation: the summary, or the method and the path if there is no
    /// summary.
    fn heading(&self) -> String {
        let name = || format!("{} {}", self.method.to_uppercase(), self.path);
        text(self.value, "summary").map_or_else(name, str::to_owned)
    }

    pub fn row(&self) -> Vec<String> {
        let heading = self.heading();
        let link = format!("[{}](#{})", prose(&heading), anchor(&heading));
        vec![link, code(&format!("{} {}", self.method.to_uppercase(), self.path))]
    }

    /// Returns the media type of the operation's request body, and the body's entry in the
    /// document.
    pub fn request_body(&self) -> Option<(&'a str, &'a Value)> {
        let (media_type, body) = self.value["requestBody"]["content"].as_object()?.iter().next()?;
        Some((media_type.as_str(), body))
    }

    pub fn responses(&self, document: Document<'a>) -> Vec<(&'a str, &'a Value)> {
        let responses = self.value["responses"].as_object().into_iter().flatten();
        responses.map(|(status, value)| (status.as_str(), document.resolve(value))).collect()
    }

    pub fn section(&self, document: Document<'a>, credential: &Credential) -> String {
        let (method, path) = (self.method.to_uppercase(), self.path);
        let mut section = format!("### {}\n\n", prose(&self.heading()));
        section.push_str(&format!("```text\n{method} {path}\n```\n\n"));
        section.push_str(&paragraph(self.value));
        let roles = self.roles();
        let needs = match &roles[..] {
            [] => String::new(),
            roles => format!(" with the {} {}", credential.role, roles.join(" and ")),
        };
        section.push_str(&format!("Credential: {}{needs}.\n\n", credential.name));
        section.push_str(&self.parameters(document));
        section.push_str(&self.request(document));
        let (good, bad): (Vec<_>, Vec<_>) =
            self.responses(document).into_iter().partition(|(status, _)| is_success(status));
        for (status, response) in good {
            section.push_str(&success(document, status, response));
        }
        let rows: Vec<Vec<String>> = bad
            .into_iter()
            .map(|(status, response)| error_row(document, status, response))
            .collect();
        if !rows.is_empty() {
            section.push_str("**Errors**\n\n");
            section.push_str(&table(&["status", "codes", "when"], &rows));
        }
        section
    }

    fn parameters(&self, document: Document<'a>) -> String {
        let parameters = self.value["parameters"].as_array().into_iter().flatten();
        let row = |parameter: &'a Value| {
            let parameter = document.resolve(parameter);
            let (name, place) = (text(parameter, "name"), text(parameter, "in"));
            let required = if parameter["required"] == true { "yes" } else { "no" };
            let schema = &parameter["schema"];
            vec![
                code(name.unwrap_or_default()),
                place.unwrap_or_default().to_owned(),
                document.type_of(schema),
                required.to_owned(),
                document.describe(schema, text(parameter, "description")),
            ]
        };
        let rows: Vec<Vec<String>> = parameters.map(row).collect();
        if rows.is_empty() {
            return String::new();
        }
        let titles = ["name", "in", "type", "required", "description"];
        format!("**Parameters**\n\n{}", table(&titles, &rows))
    }

    fn request(&self, document: Document<'a>) -> String {
        let Some((media_type, body)) = self.request_body() else { return String::new() };
        let is_optional = self.value["requestBody"]["required"] == false;
        let note = if is_optional { " (optional)" } else { "" };
        let mut request = format!("**Request body**: {}{note}.\n\n", code(media_type));
        match document.members(&body["schema"]) {
            Some(members) => request.push_str(&members),
            None => request.push_str(&paragraph(document.resolve(&body["schema"]))),
        }
        request.push_str(&example_of(document, body));
        request
    }
}

pub fn is_success(status: &str) -> bool {
    status.starts_with('2')
}

/// Returns the description in a value as a paragraph.
pub fn paragraph(value: &Value) -> String {
    text(value, "description").map(|text| prose(text) + "\n\n").unwrap_or_default()
}

/// Returns the headers of a response, except `X-Request-Id`, which every response contains.
pub fn headers(response: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let headers = response["headers"].as_object().into_iter().flatten();
    let headers = headers.map(|(name, header)| (name.as_str(), header));
    headers.filter(|(name, _)| *name != "X-Request-Id")
}

fn success<'a>(document: Document<'a>, status: &str, response: &'a Value) -> String {
    let description = text(response, "description").unwrap_or_default();
    let mut text_of = format!("**Response {status}**: {}", prose(description));
    let content = response["content"].as_object().into_iter().flatten();
    for (media_type, body) in content {
        text_of.push_str(&match name_of(&body["schema"]) {
            Some(_) => format!(" Body: {}.", document.type_of(&body["schema"])),
            None => format!(" Body: {}.", code(media_type)),
        });
        text_of.push_str("\n\n");
        text_of.push_str(&example_of(document, body));
    }
    let text_of = text_of.trim_end();
    format!("{text_of}\n\n{}", header_table(document, response))
}

fn header_table<'a>(document: Document<'a>, response: &'a Value) -> String {
    let row = |(name, header): (&'a str, &'a Value)| {
        let header = document.resolve(header);
        let schema = &header["schema"];
        let description = document.describe(schema, text(header, "description"));
        vec![code(name), document.type_of(schema), description]
    };
    let rows: Vec<Vec<String>> = headers(response).map(row).collect();
    if rows.is_empty() { String::new() } else { table(&["header", "type", "description"], &rows) }
}

/// Returns the table row of a status, with its problem codes and their description.
fn error_row<'a>(document: Document<'a>, status: &str, response: &'a Value) -> Vec<String> {
    let mut codes = Vec::new();
    for content in response["content"].as_object().into_iter().flatten().map(|(_, body)| body) {
        let schema = &content["schema"];
        let one = std::slice::from_ref(schema);
        for problem in schema["oneOf"].as_array().map_or(one, Vec::as_slice) {
            codes.extend(document.only_value(problem, "code").map(errors::link));
        }
    }
    let when = text(response, "description").unwrap_or_default();
    vec![status.to_owned(), codes.join(", "), prose(when)]
}

/// Returns the example of a body, if the document contains one.
fn example_of<'a>(document: Document<'a>, body: &'a Value) -> String {
    let named = body["examples"].as_object().and_then(|named| named.values().next());
    let example = example(body)
        .or_else(|| named.and_then(|example| document.resolve(example).get("value")))
        .or_else(|| example(document.resolve(&body["schema"])));
    match example {
        Some(example) => format!("```json\n{example:#}\n```\n\n"),
        None => String::new(),
    }
}
