use std::borrow::Cow;

use axum::{
    http::{HeaderValue, Response, StatusCode, header},
    response::IntoResponse,
};
use serde_json::{Map, Value};

use super::RefusalBody;
use crate::domain::{scope::Scope, verification::GateDecision};

/// An error as the client gets it: problem details (RFC 9457), flat.
///
/// As a response it is also in the response's extensions, so that an outer layer can log it, and
/// can give it the id of the request by rendering it again.
#[derive(Clone, Debug)]
pub struct Problem(Box<Parts>);

/// Boxed, so that a `Result` of which it is the error stays small.
#[derive(Clone, Debug)]
struct Parts {
    status: StatusCode,
    code: &'static str,
    title: &'static str,
    detail: Cow<'static, str>,
    members: Map<String, Value>,
    challenge: Option<Challenge>,
    retry_after_seconds: Option<u32>,
    decision: Option<GateDecision>,
    reason: Option<Cow<'static, str>>,
}

/// What `WWW-Authenticate` says (RFC 6750 §3).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Challenge {
    /// No credential came.
    Bare,
    /// One came that does not pass.
    InvalidToken,
    /// One came whose scopes do not reach.
    InsufficientScope(String),
}

impl Problem {
    /// # Panics
    ///
    /// When `status` is no HTTP status: it is written out where this is called.
    #[must_use]
    pub fn new(
        status: u16,
        code: &'static str,
        title: &'static str,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self(Box::new(Parts {
            status: StatusCode::from_u16(status).expect("a status written out in the program"),
            code,
            title,
            detail: detail.into(),
            members: Map::new(),
            challenge: None,
            retry_after_seconds: None,
            decision: None,
            reason: None,
        }))
    }

    /// 401 with its `WWW-Authenticate`.
    #[must_use]
    pub fn unauthorized(
        code: &'static str,
        title: &'static str,
        detail: impl Into<Cow<'static, str>>,
        challenge: Challenge,
    ) -> Self {
        let mut problem = Self::new(401, code, title, detail);
        problem.0.challenge = Some(challenge);
        problem
    }

    /// 403 that names the scope that is needed.
    #[must_use]
    pub fn insufficient_scope(scope: &Scope) -> Self {
        let detail = format!("The API key needs the scope {scope}.");
        let mut problem =
            Self::new(403, "insufficient_scope", "The API key's scope does not reach", detail)
                .with("required_scope", scope.to_string());
        problem.0.challenge = Some(Challenge::InsufficientScope(scope.to_string()));
        problem.decided(GateDecision::InsufficientScope)
    }

    /// 503 with `Retry-After`: what is needed for an answer cannot be asked.
    #[must_use]
    pub fn unavailable(detail: impl Into<Cow<'static, str>>) -> Self {
        let mut problem = Self::new(503, "unavailable", "Temporarily unavailable", detail);
        problem.0.retry_after_seconds = Some(1);
        problem
    }

    /// 500 with a fixed body; the cause is for the log.
    #[must_use]
    pub fn internal(cause: impl Into<Cow<'static, str>>) -> Self {
        let detail = "Something went wrong here. The request id leads to it in the log.";
        Self::new(500, "internal_error", "Internal error", detail).because(cause)
    }

    /// A member of the body beside the standard ones.
    #[must_use]
    pub fn with(mut self, member: &'static str, value: impl Into<Value>) -> Self {
        self.0.members.insert(member.to_owned(), value.into());
        self
    }

    /// What the operator is told and the client is not.
    #[must_use]
    pub fn because(mut self, reason: impl Into<Cow<'static, str>>) -> Self {
        self.0.reason = Some(reason.into());
        self
    }

    /// What the gate decided, where it is the gate's.
    #[must_use]
    pub fn decided(mut self, decision: GateDecision) -> Self {
        self.0.decision = Some(decision);
        self
    }

    /// Names the request in the body, unless it names one already.
    #[must_use]
    pub fn for_request(mut self, request_id: &str) -> Self {
        self.0.members.entry("request_id").or_insert_with(|| request_id.into());
        self
    }

    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    #[must_use]
    pub fn code(&self) -> &'static str {
        self.0.code
    }

    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        let decided = || self.0.decision.and_then(GateDecision::reason);
        self.0.reason.as_deref().or_else(decided)
    }

    /// What the gate decided; `None`: the request came through the gate, or past none.
    #[must_use]
    pub fn decision(&self) -> Option<GateDecision> {
        self.0.decision
    }

    /// The body as it is sent.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let mut object = Map::new();
        object.insert("type".into(), format!("urn:tollgate:problem:{}", self.0.code).into());
        object.insert("title".into(), self.0.title.into());
        object.insert("status".into(), self.0.status.as_u16().into());
        object.insert("detail".into(), self.0.detail.as_ref().into());
        object.insert("code".into(), self.0.code.into());
        object.extend(self.0.members.clone());
        Value::Object(object)
    }
}

impl Challenge {
    fn header(&self) -> HeaderValue {
        match self {
            Self::Bare => HeaderValue::from_static(r#"Bearer realm="tollgate""#),
            Self::InvalidToken => {
                HeaderValue::from_static(r#"Bearer realm="tollgate", error="invalid_token""#)
            }
            Self::InsufficientScope(scope) => HeaderValue::try_from(format!(
                r#"Bearer realm="tollgate", error="insufficient_scope", scope="{scope}""#
            ))
            .expect("a scope is visible ASCII without quotes"),
        }
    }
}

impl Problem {
    /// The problem as a response with any body that can hold it.
    #[must_use]
    pub fn to_response<B: RefusalBody>(self) -> Response<B> {
        let mut response = Response::new(B::from_bytes(self.to_value().to_string().into()));
        *response.status_mut() = self.0.status;
        let headers = response.headers_mut();
        let media_type = HeaderValue::from_static("application/problem+json");
        headers.insert(header::CONTENT_TYPE, media_type);
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(challenge) = &self.0.challenge {
            headers.insert(header::WWW_AUTHENTICATE, challenge.header());
        }
        if let Some(seconds) = self.0.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response.extensions_mut().insert(self);
        response
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> axum::response::Response {
        self.to_response()
    }
}

/// An error and its causes in one line, for the log.
#[cfg(any(feature = "remote", feature = "server"))]
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
