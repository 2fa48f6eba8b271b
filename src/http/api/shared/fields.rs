//! Reads a request body member by member, so that the client gets all errors in one response.

use std::{fmt::Display, time::Duration};

use axum::{
    body::Body,
    extract::{FromRequest, Request},
    http::{HeaderMap, header::CONTENT_TYPE},
};
use serde_json::{Map, Value, json};

use super::{admin::Admin, strict_json::Strict};
use crate::{
    auth::{Problem, ProblemCode},
    domain::{
        misspelling::closest,
        scope::{MAX_SCOPES, Scope, ScopeError, ScopeSet},
        text::Metadata,
    },
    http::problem::{MAX_ERRORS, validation},
    state::AppState,
    web::body::{BodyError, read_whole},
};

/// Maximum depth of nested objects and lists that serde_json accepts.
pub(super) const MAX_LEVELS: usize = 127;

/// The unread members of a JSON object, and the errors found so far.
pub struct Fields {
    members: Map<String, Value>,
    /// The names of the members that the request may have.
    known: Vec<&'static str>,
    /// JSON pointer (RFC 6901) of the object.
    base: String,
    errors: Vec<Value>,
}

/// The change that a PATCH makes to a member.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Patch<T> {
    /// The member is absent.
    Keep,
    /// The member is `null`.
    Clear,
    Set(T),
}

impl<T> Patch<T> {
    /// Converts to the store's form of a change: `None` keeps the value, and `Some(None)` clears
    /// it.
    pub fn into_change(self) -> Option<Option<T>> {
        match self {
            Self::Keep => None,
            Self::Clear => Some(None),
            Self::Set(value) => Some(Some(value)),
        }
    }
}

/// An error in a value, and its position inside the value.
pub struct Wrong {
    pointer: String,
    detail: String,
}

impl<E: Display> From<E> for Wrong {
    fn from(error: E) -> Self {
        Self { pointer: String::new(), detail: error.to_string() }
    }
}

impl Fields {
    pub(super) fn new(members: Map<String, Value>, base: String) -> Self {
        Self { members, known: Vec::new(), base, errors: Vec::new() }
    }

    /// Reads a required member.
    pub fn required<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(Value) -> Result<T, Wrong>,
    ) -> Option<T> {
        match self.take(name) {
            Some(value) => self.read(name, value, read),
            None => {
                self.wrong(name, "is required".into());
                None
            }
        }
    }

    /// Reads an optional member. `null` means the same as an absent member.
    pub fn optional<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(Value) -> Result<T, Wrong>,
    ) -> Option<T> {
        match self.take(name) {
            None | Some(Value::Null) => None,
            Some(value) => self.read(name, value, read),
        }
    }

    /// Reads a member of a PATCH. An absent member keeps its value, and `null` clears it.
    pub fn patch<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(Value) -> Result<T, Wrong>,
    ) -> Patch<T> {
        match self.take(name) {
            None => Patch::Keep,
            Some(Value::Null) => Patch::Clear,
            Some(value) => self.read(name, value, read).map_or(Patch::Keep, Patch::Set),
        }
    }

    /// Reads a member of a PATCH that cannot be cleared.
    pub fn change<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(Value) -> Result<T, Wrong>,
    ) -> Option<T> {
        let value = self.take(name)?;
        self.read(name, value, read)
    }

    /// Reads an optional nested object.
    pub fn object<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&mut Self) -> Option<T>,
    ) -> Option<T> {
        let members = self.optional(name, object)?;
        let base = self.pointer(name);
        self.nested(members, base, read)
    }

    /// Reads an optional list of objects.
    pub fn objects<T>(
        &mut self,
        name: &'static str,
        read: impl Fn(&mut Self) -> Option<T>,
    ) -> Option<Vec<T>> {
        let items = self.optional(name, objects)?;
        let base = self.pointer(name);
        let mut values = Vec::with_capacity(items.len());
        // An invalid object does not end the loop, so that the response lists all errors.
        for (index, item) in items.into_iter().enumerate() {
            values.push(self.nested(item, format!("{base}/{index}"), &read));
        }
        values.into_iter().collect()
    }

    /// Reads a nested object of a PATCH. An absent object keeps its value, and `null` clears it.
    pub fn patch_object<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&mut Self) -> Option<T>,
    ) -> Patch<T> {
        self.patch_with(name, |fields| fields.object(name, read))
    }

    /// Reads a member of a PATCH with a function for optional members. An absent member keeps its
    /// value, and `null` clears it.
    pub fn patch_with<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&mut Self) -> Option<T>,
    ) -> Patch<T> {
        match self.members.get(name) {
            Some(Value::Null) => {
                self.take(name);
                Patch::Clear
            }
            _ => read(self).map_or(Patch::Keep, Patch::Set),
        }
    }

    /// Records an error at a member.
    pub fn wrong(&mut self, name: &str, detail: String) {
        let pointer = self.pointer(name);
        self.errors.push(json!({"pointer": pointer, "detail": detail}));
    }

    /// Reads a header, so that its errors are reported together with the errors of the body.
    pub fn header<T, E: Display>(
        &mut self,
        headers: &HeaderMap,
        name: &'static str,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let mut values = headers.get_all(name).iter();
        let value = values.next()?;
        let result = if values.any(|other| other != value) {
            Err("is sent more than once, with different values".to_owned())
        } else {
            let text = value.to_str().map_err(|_| "must be visible ASCII".to_owned());
            text.and_then(|text| read(text).map_err(|error| error.to_string()))
        };
        result.map_err(|detail| self.wrong_header(name, &detail)).ok()
    }

    /// Records an error in a header.
    pub fn wrong_header(&mut self, name: &str, detail: &str) {
        self.errors.push(json!({"header": name, "detail": detail}));
    }

    /// Returns the value, or a problem if there are errors or unknown members.
    pub fn finish<T>(mut self, value: Option<T>) -> Result<T, Problem> {
        self.refuse_unknown();
        match value {
            Some(value) if self.errors.is_empty() => Ok(value),
            _ => Err(validation(self.errors)),
        }
    }

    fn read<T>(
        &mut self,
        name: &str,
        value: Value,
        read: impl FnOnce(Value) -> Result<T, Wrong>,
    ) -> Option<T> {
        match read(value) {
            Ok(value) => Some(value),
            Err(wrong) => {
                let pointer = format!("{}{}", self.pointer(name), wrong.pointer);
                self.errors.push(json!({"pointer": pointer, "detail": wrong.detail}));
                None
            }
        }
    }

    /// Reads the members of an object whose position is `base`.
    fn nested<T>(
        &mut self,
        members: Map<String, Value>,
        base: String,
        read: impl FnOnce(&mut Self) -> Option<T>,
    ) -> Option<T> {
        let mut inner = Self::new(members, base);
        let value = read(&mut inner);
        inner.refuse_unknown();
        self.errors.append(&mut inner.errors);
        value
    }

    /// Removes and returns the member.
    fn take(&mut self, name: &'static str) -> Option<Value> {
        self.known.push(name);
        self.members.shift_remove(name)
    }

    fn refuse_unknown(&mut self) {
        // The response omits further errors.
        for name in std::mem::take(&mut self.members).keys().take(MAX_ERRORS) {
            self.wrong(name, not_known(name, &self.known));
        }
    }

    fn pointer(&self, name: &str) -> String {
        format!("{}/{}", self.base, name.replace('~', "~0").replace('/', "~1"))
    }
}

/// Returns the error for a member or a parameter whose name is unknown.
pub fn not_known(name: &str, known: &[&'static str]) -> String {
    match closest(name, known.iter().copied()) {
        Some(closest) => format!("is unknown. Did you mean {closest}?"),
        None => "is unknown".to_owned(),
    }
}

/// Reads a string and parses it with `parse`.
pub fn text<T, E: Display>(
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> impl FnOnce(Value) -> Result<T, Wrong> {
    |value| match value {
        Value::String(text) => Ok(parse(&text)?),
        other => Err(mistyped("a string", &other)),
    }
}

/// Reads a whole number and checks it with `parse`.
pub fn integer<T, E: Display>(
    parse: impl FnOnce(i64) -> Result<T, E>,
) -> impl FnOnce(Value) -> Result<T, Wrong> {
    |value| match value.as_i64() {
        Some(number) => Ok(parse(number)?),
        None if value.is_number() => Err("must be a whole number of at most 64 bits".into()),
        None => Err(mistyped("a whole number", &value)),
    }
}

/// Reads `true` or `false`.
pub fn boolean(value: Value) -> Result<bool, Wrong> {
    value.as_bool().ok_or_else(|| mistyped("true or false", &value))
}

/// Reads a list of strings and parses each with `parse`.
pub fn texts<T, E: Display>(
    parse: impl Fn(&str) -> Result<T, E>,
) -> impl FnOnce(Value) -> Result<Vec<T>, Wrong> {
    move |value| {
        let Value::Array(items) = value else {
            return Err(mistyped("a list of strings", &value));
        };
        let read = |(index, item)| {
            text(&parse)(item)
                .map_err(|wrong| Wrong { pointer: format!("/{index}"), detail: wrong.detail })
        };
        items.into_iter().enumerate().map(read).collect()
    }
}

/// Reads an object.
pub fn object(value: Value) -> Result<Map<String, Value>, Wrong> {
    match value {
        Value::Object(object) => Ok(object),
        other => Err(mistyped("an object", &other)),
    }
}

fn objects(value: Value) -> Result<Vec<Map<String, Value>>, Wrong> {
    let Value::Array(items) = value else {
        return Err(mistyped("a list of objects", &value));
    };
    let read = |(index, item)| {
        object(item).map_err(|wrong| Wrong { pointer: format!("/{index}"), detail: wrong.detail })
    };
    items.into_iter().enumerate().map(read).collect()
}

fn mistyped(expected: &str, value: &Value) -> Wrong {
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    Wrong::from(format!("must be {expected}, not {found}"))
}

/// Reads the request body. An empty body counts as an empty object. If the body arrived late,
/// verifies the admin key again, because it may have been revoked in the meantime.
impl FromRequest<AppState> for Fields {
    type Rejection = Problem;

    async fn from_request(request: Request<Body>, state: &AppState) -> Result<Self, Problem> {
        let is_json = is_json(request.headers());
        let admin = request.extensions().get::<Admin>().cloned();
        let body = tokio::time::timeout(state.limits.body_timeout, read_whole(request)).await;
        let body = body.map_err(|_| too_slow(state.limits.body_timeout))?.map_err(unreadable)?;
        if let Some(admin) = admin.filter(|_| body.waited) {
            admin.verify_again(state).await?;
        }
        let members = if body.bytes.is_empty() {
            Map::new()
        } else if is_json {
            parse(&body.bytes)?
        } else {
            return Err(Problem::new(
                ProblemCode::UnsupportedMediaType,
                "The body is not application/json. Send JSON with the header Content-Type: \
                 application/json.",
            ));
        };
        Ok(Self::new(members, String::new()))
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    media_type
        .and_then(|media_type| media_type.split(';').next())
        .is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}

fn too_slow(timeout: Duration) -> Problem {
    Problem::new(
        ProblemCode::RequestTimeout,
        format!("The body did not arrive within {timeout:?}. Nothing was done. Send it again."),
    )
}

fn unreadable(error: BodyError) -> Problem {
    match error {
        BodyError::TooLarge => Problem::new(
            ProblemCode::BodyTooLarge,
            "The body is larger than this path accepts. Nothing was done. Send a smaller body.",
        ),
        BodyError::Broken => {
            Problem::new(ProblemCode::MalformedBody, "The body ended early. Send it again.")
        }
    }
}

/// Parses a body, which must be one JSON object.
pub(super) fn parse(body: &[u8]) -> Result<Map<String, Value>, Problem> {
    let malformed = |detail: String| Problem::new(ProblemCode::MalformedBody, detail);
    match serde_json::from_slice::<Strict>(body) {
        Ok(Strict(Value::Object(members))) => Ok(members),
        Ok(_) => Err(malformed("The body is JSON, but not an object. Send a JSON object.".into())),
        // serde_json names this error only in its text.
        Err(error) if error.to_string().starts_with("recursion limit exceeded") => {
            Err(malformed(format!(
                "The body nests objects and lists too deeply. Send at most {MAX_LEVELS} levels, \
                 including the body's own object."
            )))
        }
        Err(error) => {
            Err(malformed(format!("The body is not valid JSON: {error}. Send a JSON object.")))
        }
    }
}

/// Reads a list of scopes.
pub fn scopes(value: Value) -> Result<ScopeSet, Wrong> {
    let scopes = texts(|text| text.parse::<Scope>())(value)?;
    if scopes.len() > MAX_SCOPES {
        return Err(ScopeError::Count.into());
    }
    ScopeSet::new(scopes).map_err(|error: ScopeError| error.into())
}

/// Reads metadata.
pub fn metadata(value: Value) -> Result<Metadata, Wrong> {
    Ok(Metadata::new(object(value)?)?)
}
