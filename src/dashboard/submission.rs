//! A form that an account's owner submitted.

use axum::{
    body::Body,
    extract::{FromRequest, FromRequestParts as _, Request},
};

use super::session::Visitor;
use crate::{
    state::AppState,
    web::{
        failure::Failure,
        forms::{Form, read_body},
        guard::is_csrf_token,
    },
};

/// A form that an account's owner submitted from a page of their session.
pub struct Submission {
    pub visitor: Visitor,
    pub form: Form,
}

/// Checks the session first, so that a stranger learns nothing else. Checks the session again after
/// the body, which can take seconds to arrive.
impl FromRequest<AppState> for Submission {
    type Rejection = Failure;

    async fn from_request(request: Request<Body>, state: &AppState) -> Result<Self, Failure> {
        let (mut parts, body) = request.into_parts();
        let mut visitor = Visitor::from_request_parts(&mut parts, state).await?;
        let form = read_body(Request::from_parts(parts, body), state.limits().body_timeout).await?;
        visitor.look_again(state).await?;
        if is_csrf_token(form.text("csrf"), visitor.token()) {
            Ok(Self { visitor, form })
        } else {
            Err(Failure::StaleForm)
        }
    }
}
