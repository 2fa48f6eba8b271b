//! In by a link of the platform, and out again.

use axum::{
    extract::State,
    http::{HeaderValue, Method, StatusCode, header},
    response::{IntoResponse as _, Response},
};

use super::{
    brand::plain_frame,
    cookies::Cookie,
    failure::Failure,
    forms::{Query, Submission},
    pages::{frame::Nav, sign_in::SignedOutPage},
    respond::{see_other, show},
    session::Newcomer,
};
use crate::{domain::session_token::SessionToken, entropy, http::AppState};

const KEYS: &str = "/dashboard/keys";
const SIGNED_OUT: &str = "/dashboard/signed-out";

/// `GET /dashboard`
pub async fn home() -> Response {
    see_other(KEYS)
}

/// `GET /dashboard/enter?token=…`: takes the link, once. What only looks at a link, by HEAD, takes
/// nothing.
pub async fn enter(
    State(state): State<AppState>,
    method: Method,
    Newcomer(origin): Newcomer,
    Query(query): Query,
) -> Result<Response, Failure> {
    if method == Method::HEAD {
        return Ok(StatusCode::OK.into_response());
    }
    let link = SessionToken::parse(query.text("token")).map_err(|_| Failure::LinkDead)?;
    let token = entropy::new_session_token()?;
    let session = state.store().open_linked_session(&link, &token, &origin).await?;
    session.ok_or(Failure::LinkDead)?;
    let cookie = Cookie::Session.set(&token, state.public_url().is_secure());
    Ok(with_cookies(see_other(KEYS), [cookie]))
}

/// `GET /dashboard/signed-out`
pub async fn signed_out() -> Result<Response, Failure> {
    show(&SignedOutPage { frame: plain_frame("Signed out", Nav::Nowhere), links: Vec::new() })
}

/// `POST /dashboard/logout`. Where the platform has said how to come back to it, the page is shown
/// at once: a redirect would have to carry the link, and then anybody could make one.
pub async fn log_out(
    State(state): State<AppState>,
    Submission { visitor, .. }: Submission,
) -> Result<Response, Failure> {
    state.store().close_portal_session(visitor.session(), visitor.origin()).await?;
    let response = match visitor.return_link() {
        Some(link) => {
            let frame = visitor.frame_when_out("Signed out");
            show(&SignedOutPage { frame, links: vec![link] })?
        }
        None => see_other(SIGNED_OUT),
    };
    Ok(with_cookies(response, [Cookie::Session.clear(state.public_url().is_secure())]))
}

/// `POST /dashboard/logout-everywhere`: every session of the account.
pub async fn log_out_everywhere(
    State(state): State<AppState>,
    Submission { visitor, .. }: Submission,
) -> Result<Response, Failure> {
    state.store().close_portal_sessions(visitor.session(), visitor.origin()).await?;
    let cookie = Cookie::Session.clear(state.public_url().is_secure());
    Ok(with_cookies(see_other(SIGNED_OUT), [cookie]))
}

/// Gives cookies to the browser along with a response.
pub fn with_cookies<const N: usize>(mut response: Response, cookies: [HeaderValue; N]) -> Response {
    for cookie in cookies {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}
