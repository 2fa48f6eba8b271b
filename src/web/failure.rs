//! The reasons why a page cannot be shown, and their texts for the user.

use std::any::Any;

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};

use crate::auth::Problem;

/// A reason why a page cannot be shown. The response has an empty body, and contains the failure in
/// its extensions. [`super::guard::protect`] knows the request id and renders the page.
#[derive(Clone, Debug)]
pub enum Failure {
    /// A page was requested without a live session: 303 to the page that says how to sign in.
    SignedOut,
    /// A form was submitted without a live session: 401 with the same text.
    SessionOver,
    /// A dashboard link was used or has expired: 410.
    LinkDead,
    /// Another site submitted the form: 403.
    ForeignForm,
    /// The form does not contain a valid token of its page: 403.
    StaleForm,
    /// A form that already created a key was submitted again: 409.
    SentBefore,
    /// The link that opened the session does not include this page: 403.
    NotIncluded,
    /// The platform is suspended, and its dashboard is closed: 403.
    PlatformSuspended,
    /// The account is suspended, and its owner may not make this change: 403.
    Suspended,
    /// The account's plan does not let its owner create keys: 403.
    KeysCreatedElsewhere,
    /// The platform does not allow owners to change rate limits: 403.
    LimitsFixed,
    /// The resource does not exist, or belongs to another account: 404.
    NotFound,
    /// The page does not support the method: 405.
    NoSuchMethod,
    /// The body is not an encoded form: 415.
    NoForm,
    /// The body exceeds the maximum size: 413.
    TooLarge,
    /// The body did not arrive in time: 408.
    TooSlow,
    /// The connection failed before the end of the body: 400.
    Unreadable,
    /// The database does not answer (503), or the service failed (500). The problem is for the log.
    Fault(Problem),
}

impl Failure {
    pub fn status(&self) -> StatusCode {
        match self {
            Self::SignedOut => StatusCode::SEE_OTHER,
            Self::SessionOver => StatusCode::UNAUTHORIZED,
            Self::LinkDead => StatusCode::GONE,
            Self::ForeignForm
            | Self::StaleForm
            | Self::NotIncluded
            | Self::PlatformSuspended
            | Self::Suspended
            | Self::KeysCreatedElsewhere
            | Self::LimitsFixed => StatusCode::FORBIDDEN,
            Self::SentBefore => StatusCode::CONFLICT,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::NoSuchMethod => StatusCode::METHOD_NOT_ALLOWED,
            Self::NoForm => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Unreadable => StatusCode::BAD_REQUEST,
            Self::Fault(problem) => problem.status(),
        }
    }

    /// Returns the heading of the page, and its only paragraph.
    pub fn words(&self) -> (&'static str, &'static str) {
        match self {
            Self::SignedOut | Self::SessionOver => {
                ("Signed out", "Open the dashboard from your platform again, or sign in.")
            }
            Self::LinkDead => (
                "This link has been used or has expired",
                "A link works once, and only for a limited time. To get a new link, go to your \
                 platform's own site and open the dashboard from there, or ask your platform for \
                 one.",
            ),
            Self::ForeignForm => (
                "This form was not sent from this site",
                "Nothing was changed. Open the page here and fill in the form again.",
            ),
            Self::StaleForm => (
                "This form has expired",
                "Nothing was changed. The form belongs to an earlier session. Open the page again \
                 and fill in the form once more.",
            ),
            Self::SentBefore => (
                "This form has already created a key",
                "A form creates one key. The response to the first submission showed the key, \
                 which cannot be shown again. If you did not see it, for example because you \
                 double-clicked, rotate or revoke the key.",
            ),
            Self::NotIncluded => (
                "Your link does not include this page",
                "Nothing was changed. The link that opened this session does not give access to \
                 this page. If you need access, ask your platform.",
            ),
            Self::PlatformSuspended => (
                "Platform suspended",
                "The platform of this dashboard is suspended. Until it is resumed, its dashboard is \
                 closed, and none of its API keys work. Ask the platform when it will be resumed.",
            ),
            Self::Suspended => (
                "Account suspended",
                "Nothing was changed. While the account is suspended, you can only view, disable \
                 and revoke its keys, and void its holds. Ask your platform why it is suspended.",
            ),
            Self::KeysCreatedElsewhere => (
                "You cannot create keys here",
                "Nothing was changed. Your platform creates the keys of your account. If you need a \
                 key, ask your platform.",
            ),
            Self::LimitsFixed => (
                "You cannot change rate limits",
                "Nothing was changed. Your platform sets the rate limits of your keys. If you need \
                 other limits, ask your platform.",
            ),
            Self::NotFound => {
                ("Page not found", "The address is wrong, or the page belongs to another account.")
            }
            Self::NoSuchMethod => (
                "Unsupported request",
                "Nothing was changed. Open the page again and use the buttons on it.",
            ),
            Self::NoForm => (
                "Unsupported form",
                "Nothing was changed. Open the page again and use the buttons on it.",
            ),
            Self::TooLarge => (
                "Form too large",
                "Nothing was changed. Shorten the text in the form and submit the form again.",
            ),
            Self::TooSlow | Self::Unreadable => (
                "Incomplete form",
                "Nothing was changed, because the form did not arrive completely. Check your \
                 connection and submit the form again.",
            ),
            Self::Fault(problem) if problem.status() == StatusCode::TOO_MANY_REQUESTS => (
                "Too many requests",
                "Too many of your pages are loading at the same time. Wait, then try again.",
            ),
            Self::Fault(problem) if problem.status() == StatusCode::SERVICE_UNAVAILABLE => (
                "The service is temporarily unavailable",
                "Try again in a moment. If you submitted a change, check first whether it took \
                 effect.",
            ),
            Self::Fault(_) => (
                "Internal error",
                "The service failed to process the request. If you submitted a change, check \
                 whether it took effect before you repeat it. If the error persists, give your \
                 platform's support the request ID below.",
            ),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<askama::Error> for Failure {
    fn from(error: askama::Error) -> Self {
        Self::Fault(Problem::internal(format!("a page cannot be rendered: {error}")))
    }
}

/// Returns the response for a path below `/dashboard` that does not exist.
pub async fn no_such_page() -> Failure {
    Failure::NotFound
}

/// Returns the response for a method that a page does not support.
pub async fn no_such_method() -> Failure {
    Failure::NoSuchMethod
}

/// Returns the response after a handler panicked.
pub fn panicked(payload: Box<dyn Any + Send + 'static>) -> Response {
    let message = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_default();
    Failure::Fault(Problem::internal(format!("panic: {message}"))).into_response()
}
