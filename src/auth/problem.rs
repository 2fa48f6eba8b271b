use std::borrow::Cow;

use axum::{
    http::{HeaderName, HeaderValue, Response, StatusCode, header},
    response::IntoResponse,
};
use serde_json::{Map, Value};

use super::{ProblemCode, RefusalBody};
use crate::domain::{scope::Scope, verification::GateDecision};

/// An error response: problem details (RFC 9457).
///
/// The extensions of the response also contain the problem. An outer layer can log this copy, or
/// add the id of the request and render the problem again.
///
/// ```
/// use axum::{http::StatusCode, response::IntoResponse as _};
/// use tollgate::auth::{Problem, ProblemCode};
///
/// let problem = Problem::new(ProblemCode::NotFound, "Order 1001 does not exist.");
/// assert_eq!(problem.to_value()["title"], "Not found");
/// assert_eq!(problem.into_response().status(), StatusCode::NOT_FOUND);
/// ```
#[derive(Clone, Debug)]
pub struct Problem(Box<Parts>);

/// The parts are boxed, so that a `Result` with a `Problem` as its error stays small.
#[derive(Clone, Debug)]
struct Parts {
    kind: Kind,
    detail: Cow<'static, str>,
    members: Map<String, Value>,
    challenge: Option<Challenge>,
    retry_after_seconds: Option<u32>,
    headers: Vec<(HeaderName, HeaderValue)>,
    decision: Option<GateDecision>,
    reason: Option<Cow<'static, str>>,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Known(ProblemCode),
    Custom { status: StatusCode, code: &'static str, title: &'static str },
}

/// The `WWW-Authenticate` header of a response (RFC 6750 §3).
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Challenge {
    /// The request contains no credential.
    Bare,
    /// The request contains a credential that is not valid.
    InvalidToken,
    /// The credential lacks this scope.
    InsufficientScope(Scope),
}

impl Problem {
    /// Creates a problem with one of the service's codes. The code determines the status and the
    /// title.
    ///
    /// Write the detail so that it first says what happened, with the numbers, and then what the
    /// client can do.
    #[must_use]
    pub fn new(code: ProblemCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::of(Kind::Known(code), detail.into())
    }

    /// Creates a problem with a code of the program that embeds the gate.
    ///
    /// Its `type` is `about:blank`, unless [`with`](Self::with) sets a different one.
    ///
    /// ```
    /// use axum::http::StatusCode;
    /// use tollgate::auth::Problem;
    ///
    /// let detail = "You have placed 100 orders today. Place more tomorrow.";
    /// let problem = Problem::custom(
    ///     StatusCode::TOO_MANY_REQUESTS,
    ///     "order_limit_reached",
    ///     "Order limit reached",
    ///     detail,
    /// )
    /// .with("type", "https://example.com/problems/order_limit_reached")
    /// .retry_after(3600);
    /// assert_eq!(problem.code(), "order_limit_reached");
    /// ```
    #[must_use]
    pub fn custom(
        status: StatusCode,
        code: &'static str,
        title: &'static str,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::of(Kind::Custom { status, code, title }, detail.into())
    }

    fn of(kind: Kind, detail: Cow<'static, str>) -> Self {
        Self(Box::new(Parts {
            kind,
            detail,
            members: Map::new(),
            challenge: None,
            retry_after_seconds: None,
            headers: Vec::new(),
            decision: None,
            reason: None,
        }))
    }

    /// Creates a 401 with a `WWW-Authenticate` header.
    #[must_use]
    pub(crate) fn unauthorized(
        code: ProblemCode,
        detail: impl Into<Cow<'static, str>>,
        challenge: Challenge,
    ) -> Self {
        debug_assert_eq!(code.status(), StatusCode::UNAUTHORIZED, "{code}");
        Self::new(code, detail).challenge(challenge)
    }

    /// Creates a 403 that names the required scope.
    #[must_use]
    pub fn insufficient_scope(scope: &Scope) -> Self {
        let detail = format!("The API key lacks the scope {scope}. Use a key that has this scope.");
        Self::new(ProblemCode::InsufficientScope, detail)
            .with("required_scope", scope.to_string())
            .challenge(Challenge::InsufficientScope(scope.clone()))
            .decided(GateDecision::InsufficientScope)
    }

    /// Creates a 503 with a `Retry-After` header, for a request that the service cannot handle now.
    #[must_use]
    pub fn unavailable(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ProblemCode::Unavailable, detail).retry_after(1)
    }

    /// Creates a 500. The body does not depend on the cause. Only the log contains the cause.
    #[must_use]
    pub fn internal(cause: impl Into<Cow<'static, str>>) -> Self {
        let detail =
            "The service failed to process the request. If this persists, report the request_id.";
        Self::new(ProblemCode::InternalError, detail).because(cause)
    }

    /// Adds a `WWW-Authenticate` header to the response.
    #[must_use]
    pub fn challenge(mut self, challenge: Challenge) -> Self {
        self.0.challenge = Some(challenge);
        self
    }

    /// Adds a `Retry-After` header to the response. The client should wait for this many seconds
    /// before it retries.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.0.retry_after_seconds = Some(seconds);
        self
    }

    /// Adds a header to the response.
    #[must_use]
    pub(crate) fn header(mut self, header: (HeaderName, HeaderValue)) -> Self {
        self.0.headers.push(header);
        self
    }

    /// Adds a member to the body, in addition to the standard members.
    #[must_use]
    pub fn with(mut self, member: &'static str, value: impl Into<Value>) -> Self {
        self.0.members.insert(member.to_owned(), value.into());
        self
    }

    /// Adds a reason for the operator. The log contains it, and the response does not.
    #[must_use]
    pub fn because(mut self, reason: impl Into<Cow<'static, str>>) -> Self {
        self.0.reason = Some(reason.into());
        self
    }

    /// Adds the gate's decision, if the gate created the problem.
    #[must_use]
    pub fn decided(mut self, decision: GateDecision) -> Self {
        self.0.decision = Some(decision);
        self
    }

    /// Adds the id of the request to the body, unless the body already contains an id.
    #[must_use]
    pub fn for_request(mut self, request_id: &str) -> Self {
        self.0.members.entry("request_id").or_insert_with(|| request_id.into());
        self
    }

    /// Adds the address of the page about the code to the body. `pages` is the address of the
    /// folder that contains a page for every [`ProblemCode`], or `None` if there are no pages. A
    /// custom problem has no page.
    #[cfg(feature = "server")]
    #[must_use]
    pub(crate) fn documented_at(mut self, pages: Option<&str>) -> Self {
        if let (Kind::Known(code), Some(pages)) = (self.0.kind, pages) {
            let url = [pages, code.as_str(), ".html"].concat();
            self.0.members.insert("documentation_url".to_owned(), url.into());
        }
        self
    }

    /// Returns the status of the response.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self.0.kind {
            Kind::Known(code) => code.status(),
            Kind::Custom { status, .. } => status,
        }
    }

    /// Returns the `code` of the body.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self.0.kind {
            Kind::Known(code) => code.as_str(),
            Kind::Custom { code, .. } => code,
        }
    }

    /// Returns the `title` of the body.
    #[must_use]
    pub fn title(&self) -> &'static str {
        match self.0.kind {
            Kind::Known(code) => code.title(),
            Kind::Custom { title, .. } => title,
        }
    }

    /// Returns the reason for the operator: the reason that [`because`](Self::because) added, or
    /// else the reason of the gate's decision.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        let decided = || self.0.decision.and_then(GateDecision::reason);
        self.0.reason.as_deref().or_else(decided)
    }

    /// Returns the number of seconds in `Retry-After`. `None` if the response does not contain this
    /// header.
    #[must_use]
    pub fn retry_after_seconds(&self) -> Option<u32> {
        self.0.retry_after_seconds
    }

    /// Returns the gate's decision. `None` if another part of the program created the problem.
    #[must_use]
    pub fn decision(&self) -> Option<GateDecision> {
        self.0.decision
    }

    /// Returns the body of the response as JSON.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let uri = match self.0.kind {
            Kind::Known(code) => format!("urn:tollgate:problem:{code}"),
            Kind::Custom { .. } => "about:blank".to_owned(),
        };
        let mut object = Map::new();
        object.insert("type".into(), uri.into());
        object.insert("title".into(), self.title().into());
        object.insert("status".into(), self.status().as_u16().into());
        object.insert("detail".into(), self.0.detail.as_ref().into());
        object.insert("code".into(), self.code().into());
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
    /// Converts the problem into a response, with any body type that can contain a problem.
    #[must_use]
    pub fn into_http_response<B: RefusalBody>(self) -> Response<B> {
        let mut response = Response::new(B::from_bytes(self.to_value().to_string().into()));
        *response.status_mut() = self.status();
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
        for (name, value) in &self.0.headers {
            headers.insert(name, value.clone());
        }
        response.extensions_mut().insert(self);
        response
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> axum::response::Response {
        self.into_http_response()
    }
}

/// Writes an error and its causes in one line, for the log.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn custom_problem_contains_the_standard_members_and_the_added_members() {
        let teapot = || {
            Problem::custom(StatusCode::IM_A_TEAPOT, "teapot", "Teapot", "No coffee. Try tea.")
                .with("kettle", 3)
        };
        let expected = serde_json::json!({
            "type": "about:blank",
            "title": "Teapot",
            "status": 418,
            "detail": "No coffee. Try tea.",
            "code": "teapot",
            "kettle": 3,
        });
        assert_eq!(teapot().to_value(), expected);
        let typed = teapot().with("type", "https://example.com/teapot");
        assert_eq!(typed.to_value()["type"], "https://example.com/teapot");
    }

    #[cfg(feature = "server")]
    #[test]
    fn only_problems_of_the_service_link_to_a_page_and_only_if_there_are_pages() {
        let pages = Some("https://keys.example.com/errors/");
        let problem = || Problem::new(ProblemCode::NotFound, "Order 1001 does not exist.");
        let documented = problem().for_request("req_1").documented_at(pages).to_value();
        let url = "https://keys.example.com/errors/not_found.html";
        assert_eq!(documented["documentation_url"], url);
        let members: Vec<&str> =
            documented.as_object().expect("an object").keys().map(String::as_str).collect();
        assert_eq!(members[5..], ["request_id", "documentation_url"]);
        let custom = Problem::custom(StatusCode::IM_A_TEAPOT, "teapot", "Teapot", "Try tea.");
        for undocumented in [problem().documented_at(None), custom.documented_at(pages)] {
            assert_eq!(undocumented.to_value().get("documentation_url"), None);
        }
    }

    #[test]
    fn challenge_and_retry_after_can_be_added_to_any_problem() {
        let response = Problem::new(ProblemCode::KeyLimitReached, "Try again in a minute.")
            .retry_after(60)
            .challenge(Challenge::InsufficientScope(Scope::purchases_write()))
            .into_response();
        assert_eq!(response.status(), StatusCode::CONFLICT);
        assert_eq!(response.headers()[header::RETRY_AFTER], "60");
        assert_eq!(
            response.headers()[header::WWW_AUTHENTICATE],
            r#"Bearer realm="tollgate", error="insufficient_scope", scope="purchases:write""#
        );
    }
}
