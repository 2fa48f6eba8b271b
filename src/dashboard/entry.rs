//! Sign-in by a dashboard link, and sign-out.

use axum::{
    extract::State,
    http::{HeaderMap, Method, StatusCode},
    response::{IntoResponse as _, Response},
};

use super::{
    brand::plain_frame,
    cookies::{Cookie, LastSignIn},
    pages::{
        frame::Nav,
        sign_in::{AccountName, ChangeAccountPage, SignedOutPage},
    },
    platform::Platform,
    session::{Newcomer, Visitor, first_page},
    submission::Submission,
};
use crate::{
    domain::{
        account::ExternalId,
        audit::Origin,
        dashboard::SignInWay,
        session_token::SessionToken,
        tenant::{Environment, Tenant},
    },
    entropy,
    state::AppState,
    store::{DashboardSession, LinkTarget},
    web::{
        cookies::with_cookies,
        failure::Failure,
        format,
        forms::Query,
        respond::{see_other, show},
    },
};

const KEYS: &str = "/dashboard/keys";
const SIGNED_OUT: &str = "/dashboard/signed-out";

/// `GET /dashboard`: leads to the first page that the session may open. Without a session, the list
/// of keys says how to sign in.
#[tracing::instrument(level = "debug", skip_all)]
pub async fn home(visitor: Result<Visitor, Failure>) -> Response {
    see_other(visitor.map_or(KEYS, |visitor| first_page(visitor.session().rights)))
}

/// `GET /dashboard/`
#[tracing::instrument(level = "debug", skip_all)]
pub async fn home_with_slash() -> Response {
    see_other("/dashboard")
}

/// `GET /dashboard/enter?token=…`: takes the link, once. What only looks at a link, by HEAD, takes
/// nothing. In a browser that is in another account it is asked first, and the link is not taken.
#[tracing::instrument(level = "debug", skip_all)]
pub async fn enter(
    State(state): State<AppState>,
    method: Method,
    headers: HeaderMap,
    Newcomer(origin): Newcomer,
    visitor: Result<Visitor, Failure>,
    Query(query): Query,
) -> Result<Response, Failure> {
    if method == Method::HEAD {
        return Ok(StatusCode::OK.into_response());
    }
    let link = link_token(query.text("token"))?;
    match visitor {
        Ok(visitor) => {
            let target = state.store().dashboard_link_target(&link).await?;
            let target = target.ok_or(Failure::LinkDead)?;
            if !visitor.is_at(&target) {
                return ask_to_change(&state, &visitor, &target, &link).await;
            }
        }
        Err(Failure::SignedOut) => {}
        Err(failure) => return Err(failure),
    }
    take(&state, &headers, &link, None, &origin).await
}

/// `POST /dashboard/enter`: takes the link, and closes the session that the browser was in.
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %visitor.tenant().slug, account = %visitor.account()))]
pub async fn change_account(
    State(state): State<AppState>,
    headers: HeaderMap,
    Submission { visitor, form }: Submission,
) -> Result<Response, Failure> {
    let link = link_token(form.text("token"))?;
    take(&state, &headers, &link, Some(visitor.session()), visitor.origin()).await
}

fn link_token(text: &str) -> Result<SessionToken, Failure> {
    SessionToken::parse(text).map_err(|_| Failure::LinkDead)
}

async fn take(
    state: &AppState,
    headers: &HeaderMap,
    link: &SessionToken,
    replaced: Option<&DashboardSession>,
    origin: &Origin,
) -> Result<Response, Failure> {
    let token = entropy::new_session_token()?;
    let session = state.store().open_linked_session(link, &token, replaced, origin).await?;
    let session = session.ok_or(Failure::LinkDead)?;
    let secure = state.public_url().is_secure();
    let to = first_page(session.rights);
    let response = with_cookies(see_other(to), [Cookie::Session.set(&token, secure)]);
    // Whoever came by a link comes back by one.
    Ok(match LastSignIn::read(headers, secure) {
        Some(_) => with_cookies(response, [LastSignIn::clear(secure)]),
        None => response,
    })
}

async fn ask_to_change(
    state: &AppState,
    visitor: &Visitor,
    target: &LinkTarget,
    link: &SessionToken,
) -> Result<Response, Failure> {
    let settings = state.store().dashboard_settings(&target.tenant).await?;
    let platform = settings.shown_name(&target.tenant);
    show(&ChangeAccountPage {
        frame: visitor.frame("Change the account?", Nav::Nowhere),
        present: account_name(visitor.account(), visitor.platform(), visitor.tenant()),
        wanted: account_name(&target.account, platform, &target.tenant),
        token: link.expose().to_owned(),
    })
}

fn account_name(account: &ExternalId, platform: &str, tenant: &Tenant) -> AccountName {
    let test = if tenant.environment == Environment::Test { " (test)" } else { "" };
    AccountName {
        full: account.as_str().to_owned(),
        short: format::shortened(account.as_str()),
        platform: format!("{platform}{test}"),
    }
}

/// `GET /dashboard/signed-out`: with the way in again, where the browser remembers one that there
/// still is.
#[tracing::instrument(level = "debug", skip_all)]
pub async fn signed_out(
    State(state): State<AppState>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let platform = match LastSignIn::read(&headers, state.public_url().is_secure()) {
        // Where it cannot be found out, the page is that of nobody.
        Some(last) => Platform::find(&state, &last.slug, last.environment).await.ok(),
        None => None,
    };
    show(&match platform {
        Some(platform) => SignedOutPage {
            frame: platform.frame_when_out("Signed out"),
            links: vec![platform.sign_in_link()],
        },
        None => SignedOutPage { frame: plain_frame("Signed out", Nav::Nowhere), links: Vec::new() },
    })
}

/// `POST /dashboard/logout`
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %visitor.tenant().slug, account = %visitor.account()))]
pub async fn log_out(
    State(state): State<AppState>,
    Submission { visitor, .. }: Submission,
) -> Result<Response, Failure> {
    state.store().close_dashboard_session(visitor.session(), visitor.origin()).await?;
    say_goodbye(&state, &visitor)
}

/// `POST /dashboard/logout-everywhere`: every session of the account.
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %visitor.tenant().slug, account = %visitor.account()))]
pub async fn log_out_everywhere(
    State(state): State<AppState>,
    Submission { visitor, .. }: Submission,
) -> Result<Response, Failure> {
    visitor.handle(&state).end_dashboard_sessions().await?;
    say_goodbye(&state, &visitor)
}

/// Where the platform has said how to come back to it, the page is shown at once: a redirect would
/// have to carry the link, and then anybody could make one. Whoever signed in by a wallet is shown
/// the way in again by what their browser remembers.
fn say_goodbye(state: &AppState, visitor: &Visitor) -> Result<Response, Failure> {
    let secure = state.public_url().is_secure();
    let response = match visitor.return_link() {
        Some(link) => {
            let frame = visitor.frame_when_out("Signed out");
            show(&SignedOutPage { frame, links: vec![link] })?
        }
        None => see_other(SIGNED_OUT),
    };
    let response = with_cookies(response, [Cookie::Session.clear(secure)]);
    Ok(match visitor.session().way {
        SignInWay::Wallet => with_cookies(response, [LastSignIn::at(visitor.tenant()).set(secure)]),
        SignInWay::DashboardLink => response,
    })
}
