//! The reasons why a page cannot be shown, in words for the visitor.

use std::any::Any;

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};

use crate::auth::Problem;

/// Why there is no page. As a response it is in the response's extensions, without a body: the
/// layer that knows the request's id writes the page ([`super::guard::protect`]).
#[derive(Clone, Debug)]
pub enum Failure {
    /// A page is asked for without a live session: 303 to where it is said how to come in.
    SignedOut,
    /// A form is sent without a live session: 401 with the same words.
    SessionOver,
    /// A link into the dashboard that was used, or is too old: 410.
    LinkDead,
    /// A form from elsewhere: 403.
    ForeignForm,
    /// A form without the token of its page: 403.
    StaleForm,
    /// A form that makes something, sent for the second time: 409.
    SentBefore,
    /// What a suspended account may not do: 403.
    Suspended,
    /// Absent, or not this account's: 404.
    NotFound,
    /// 405.
    NoSuchMethod,
    /// The body is no form: 415.
    NoForm,
    /// 413.
    TooLarge,
    /// 408.
    TooSlow,
    /// The body broke off: 400.
    Unreadable,
    /// The database cannot be asked, or something is wrong here. The problem is for the log.
    Fault(Problem),
}

impl Failure {
    pub fn status(&self) -> StatusCode {
        match self {
            Self::SignedOut => StatusCode::SEE_OTHER,
            Self::SessionOver => StatusCode::UNAUTHORIZED,
            Self::LinkDead => StatusCode::GONE,
            Self::ForeignForm | Self::StaleForm | Self::Suspended => StatusCode::FORBIDDEN,
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

    /// The heading of the page, and its one paragraph.
    pub fn words(&self) -> (&'static str, &'static str) {
        match self {
            Self::SignedOut | Self::SessionOver => {
                ("Signed out", "Open this page from your platform again, or sign in.")
            }
            Self::LinkDead => (
                "This link has been used or has expired",
                "A link works once, within 5 minutes. Go back to your platform and open the page \
                 from there again.",
            ),
            Self::ForeignForm => (
                "This form was not sent from this page",
                "Nothing was done. Open the page here, and fill the form in again.",
            ),
            Self::StaleForm => (
                "This form is out of date",
                "Nothing was done. The form belongs to an earlier session: open the page again, \
                 and fill it in once more.",
            ),
            Self::SentBefore => (
                "This key was created already",
                "A form makes one key, and this one was sent before. The key's text was in the answer \
                 to the first time, and cannot be shown again. If you did not get to see it, as \
                 after a double click, rotate the key or revoke it.",
            ),
            Self::Suspended => (
                "The account is suspended",
                "Nothing was changed. While the account is suspended, its keys can be looked at, \
                 disabled and revoked. Your platform can say why it is so.",
            ),
            Self::NotFound => {
                ("There is no such page", "The address is wrong, or what was here is not yours.")
            }
            Self::NoSuchMethod => {
                ("This page does not take that", "Open the page again, and use its buttons.")
            }
            Self::NoForm => (
                "This is not a form of this page",
                "Nothing was done. Open the page again, and use its buttons.",
            ),
            Self::TooLarge => {
                ("The form is too large", "Nothing was done. Send less text in its fields.")
            }
            Self::TooSlow | Self::Unreadable => (
                "The form did not arrive whole",
                "Nothing was done. Look at your connection, and send it again.",
            ),
            Self::Fault(problem) if problem.status() == StatusCode::SERVICE_UNAVAILABLE => (
                "We cannot answer right now",
                "Try again in a moment. If you were changing something, look first whether it was \
                 done.",
            ),
            Self::Fault(_) => (
                "Something went wrong here",
                "It is not your fault, and it is in our log under the number below. If you were \
                 changing something, look first whether it was done.",
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
        Self::Fault(Problem::internal(format!("a page cannot be written: {error}")))
    }
}

/// What answers a path below `/dashboard` that is none of ours.
pub async fn no_such_page() -> Failure {
    Failure::NotFound
}

/// What answers a method that a page does not take.
pub async fn no_such_method() -> Failure {
    Failure::NoSuchMethod
}

/// The answer when a handler panicked.
pub fn panicked(payload: Box<dyn Any + Send + 'static>) -> Response {
    let message = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_default();
    Failure::Fault(Problem::internal(format!("panic: {message}"))).into_response()
}
