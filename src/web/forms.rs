//! Parses submitted forms. The types of `domain` parse the fields. A page shows all errors
//! together, each next to its field, and the fields keep their input.

use std::{fmt::Display, time::Duration};

use axum::{
    body::Body,
    extract::{FromRequestParts, Request},
    http::{HeaderMap, header::CONTENT_TYPE, request::Parts},
};

use super::{
    body::{BodyError, read_whole},
    failure::Failure,
    fields::Field,
};
use crate::domain::session_token::SessionToken;

/// The fields of a form or a query, and the errors found so far.
#[derive(Default)]
pub struct Form {
    fields: Vec<(String, String)>,
    errors: Vec<FieldError>,
}

/// An error of a field or of the whole form, as text for the user.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FieldError {
    /// The name of the field. `None` if the error concerns the whole form.
    pub field: Option<String>,
    pub message: String,
}

impl Form {
    /// Parses URL-encoded form data, such as `a=1&b=2`. Bytes that are not UTF-8 become U+FFFD, as
    /// in browsers.
    pub fn parse(text: &[u8]) -> Self {
        Self { fields: form_urlencoded::parse(text).into_owned().collect(), errors: Vec::new() }
    }

    /// Creates a form with initial values.
    pub fn filled<'a>(fields: impl IntoIterator<Item = (&'a str, String)>) -> Self {
        let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Self { fields, errors: Vec::new() }
    }

    /// Returns the value of a field. Empty if the field is empty or absent.
    pub fn text(&self, name: &str) -> &str {
        self.all(name).next().unwrap_or_default()
    }

    /// Returns all values of a field that may occur more than once.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.fields.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Returns all fields with their values, in order.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Whether a checkbox is checked.
    pub fn has(&self, name: &str) -> bool {
        self.all(name).next().is_some()
    }

    /// Parses a field and records its error. `parse` also gets an empty value.
    pub fn read<T, E: Display>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let read = parse(self.text(name)).map_err(|error| error.to_string());
        read.map_err(|message| self.wrong(name, message)).ok()
    }

    /// Parses a field that may be empty.
    pub fn optional<T, E: Display>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        if self.text(name).trim().is_empty() { None } else { self.read(name, parse) }
    }

    /// Records an error of a field.
    pub fn wrong(&mut self, field: &str, message: impl Into<String>) {
        let message = sentence(&message.into());
        self.errors.push(FieldError { field: Some(field.to_owned()), message });
    }

    /// Records an error of the whole form, whose fields are valid by themselves.
    pub fn refused(&mut self, message: impl Into<String>) {
        self.errors.push(FieldError { field: None, message: message.into() });
    }

    pub fn errors(&self) -> &[FieldError] {
        &self.errors
    }

    pub fn is_right(&self) -> bool {
        self.errors.is_empty()
    }

    /// Returns the error message of a field, if it has an error.
    pub fn error(&self, field: &str) -> Option<String> {
        let wrong = self.errors.iter().find(|error| error.field.as_deref() == Some(field));
        wrong.map(|error| error.message.clone())
    }

    /// Returns a text field, with its submitted value and its error.
    pub fn field(&self, name: &str) -> Field {
        Field { value: self.text(name).to_owned(), error: self.error(name) }
    }

    /// Reads the token of a single-use form.
    pub fn single_use(&self) -> Result<SessionToken, Failure> {
        SessionToken::parse(self.text("form")).map_err(|_| Failure::StaleForm)
    }
}

/// Turns an error message of `domain`, which is a part of a sentence, into a full sentence.
fn sentence(message: &str) -> String {
    let mut characters = message.chars();
    let first = characters.next().map(|first| first.to_uppercase().to_string());
    let end = if message.ends_with(['.', '?', '!']) { "" } else { "." };
    format!("{}{}{end}", first.unwrap_or_default(), characters.as_str())
}

/// The query of a page.
pub struct Query(pub Form);

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        Ok(Self(Form::parse(parts.uri.query().unwrap_or_default().as_bytes())))
    }
}

/// Reads the form in a request body, which must arrive within `timeout`. The caller checks the
/// form's CSRF token.
pub async fn read_body(request: Request<Body>, timeout: Duration) -> Result<Form, Failure> {
    if !is_form(request.headers()) {
        return Err(Failure::NoForm);
    }
    let body = tokio::time::timeout(timeout, read_whole(request)).await;
    let body = body.map_err(|_| Failure::TooSlow)?.map_err(|error| match error {
        BodyError::TooLarge => Failure::TooLarge,
        BodyError::Broken => Failure::Unreadable,
    })?;
    Ok(Form::parse(&body.bytes))
}

fn is_form(headers: &HeaderMap) -> bool {
    let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    media_type.and_then(|media_type| media_type.split(';').next()).is_some_and(|essence| {
        essence.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded")
    })
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn fields_are_decoded_and_kept() {
        let form = Form::parse(b"name=bot+1%21&scopes=read&scopes=a%3Awrite&name=second&empty=");
        assert_eq!(form.text("name"), "bot 1!");
        assert_eq!(form.all("scopes").collect::<Vec<_>>(), ["read", "a:write"]);
        assert_eq!(form.text("absent"), "");
        assert!(form.has("empty") && !form.has("absent"));
        assert_eq!(Form::parse(b"a=%ff%").text("a"), "\u{fffd}%");
        assert!(Form::parse(b"").fields.is_empty());
    }

    #[test]
    fn all_invalid_fields_are_reported_together() {
        let mut form = Form::parse(b"a=x&b=7&c=+");
        assert_eq!(form.read("a", str::parse::<i32>), None);
        assert_eq!(form.read("b", str::parse::<i32>), Some(7));
        assert_eq!(form.optional("c", str::parse::<i32>), None);
        assert_eq!(form.read("d", |_| Err::<(), _>("is required")), None);
        assert!(!form.is_right());
        let fields: Vec<_> = form.errors().iter().map(|error| error.field.as_deref()).collect();
        assert_eq!(fields, [Some("a"), Some("d")]);
        assert_eq!(form.error("d").as_deref(), Some("Is required."));
        assert_eq!(form.error("b"), None);
    }

    #[test]
    fn only_a_urlencoded_body_is_a_form() {
        for (media_type, expected) in [
            ("application/x-www-form-urlencoded", true),
            ("Application/X-WWW-Form-URLencoded; charset=utf-8", true),
            ("text/plain", false),
            ("multipart/form-data; boundary=x", false),
            ("application/json", false),
            ("application/x-www-form-urlencodedx", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
            assert_eq!(is_form(&headers), expected, "{media_type}");
        }
        assert!(!is_form(&HeaderMap::new()));
    }
}
