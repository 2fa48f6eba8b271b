//! Renders the page for a failure, and maps errors of the store to failures.

use askama::Template;
use axum::{
    http::{HeaderValue, header},
    response::{Html, IntoResponse as _, Redirect, Response},
};

use super::{
    brand::plain_frame,
    pages::{frame::Nav, message::MessagePage, sign_in::SignedOutPage},
};
use crate::{
    auth::Problem,
    domain::id::RequestId,
    entropy::EntropyError,
    store::{Refusal, StoreError},
    web::{failure::Failure, links::Link, respond::show_with},
};

/// Renders the page for a failure. Server errors show the request's id.
pub fn page(failure: Failure, request_id: Option<RequestId>) -> Response {
    let status = failure.status();
    let html = match &failure {
        Failure::SignedOut => return Redirect::to("/dashboard/signed-out").into_response(),
        Failure::SessionOver => {
            // The signed-out page contains the links to sign in.
            let label = "View sign-in options".to_owned();
            let links = vec![Link { label, url: "/dashboard/signed-out".to_owned() }];
            SignedOutPage { frame: plain_frame("Signed out", Nav::Nowhere), links }.render()
        }
        _ => {
            let shown_id = status.is_server_error().then_some(request_id).flatten();
            message(&failure, shown_id).render()
        }
    };
    // If rendering fails, the response consists of its status and headers.
    let html = Html(html.unwrap_or_default());
    let response = (status, html).into_response();
    match failure {
        Failure::Fault(problem) => with_problem(response, problem),
        _ => response,
    }
}

fn message(failure: &Failure, request_id: Option<RequestId>) -> MessagePage {
    let (heading, text) = failure.words();
    let link = match failure {
        Failure::LinkDead | Failure::PlatformSuspended => None,
        _ => Some(Link { label: "Go to the dashboard".into(), url: "/dashboard".into() }),
    };
    MessagePage {
        frame: plain_frame(heading, Nav::Nowhere),
        heading: heading.to_owned(),
        text: vec![text.to_owned()],
        link,
        request_id: request_id.map(|id| id.to_string()),
    }
}

/// Responds (503) with the form and its input, because the database did not answer.
pub fn unanswered(error: StoreError, page: &impl Template) -> Result<Response, Failure> {
    let problem = Problem::from(error);
    let response = show_with(problem.status(), page)?;
    Ok(with_problem(response, problem))
}

/// Adds the problem's `Retry-After` to the response, and the problem itself for the log.
fn with_problem(mut response: Response, problem: Problem) -> Response {
    if let Some(seconds) = problem.retry_after_seconds() {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response.extensions_mut().insert(problem);
    response
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Refused(Refusal::NotFound) => Self::NotFound,
            StoreError::Refused(Refusal::FormSpent) => Self::SentBefore,
            StoreError::Refused(Refusal::SessionOver) => Self::SessionOver,
            // Handlers show every other refusal on their pages.
            StoreError::Refused(refusal) => {
                Self::Fault(Problem::internal(format!("no page handles the refusal {refusal:?}")))
            }
            error => Self::Fault(error.into()),
        }
    }
}

impl From<EntropyError> for Failure {
    fn from(error: EntropyError) -> Self {
        StoreError::from(error).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_of_a_problem_keeps_its_retry_after_header() {
        let retry_after = |problem: Problem| {
            let response = page(Failure::Fault(problem), None);
            response.headers().get(header::RETRY_AFTER).cloned()
        };
        let busy = Problem::unavailable("The service is busy.").retry_after(7);
        assert_eq!(retry_after(busy), Some(HeaderValue::from(7_u32)));
        assert_eq!(retry_after(Problem::internal("a cause")), None);
    }
}
