//! Sign-in with a dashboard link, and sign-out.

use axum::{
    body::Body,
    extract::{FromRequest, FromRequestParts as _, Request, State},
    http::{HeaderMap, HeaderName, Method, StatusCode, header},
    response::{IntoResponse as _, Response},
};

use super::{
    brand::{plain_frame, tenant_frame},
    cookies::{Cookie, LastSignIn},
    pages::{
        frame::{Frame, Nav},
        message::MessagePage,
        sign_in::{AccountName, EnterPage, SignedOutPage},
    },
    platform::Platform,
    session::{Newcomer, Visitor, first_page},
    submission::Submission,
};
use crate::{
    domain::{
        account::ExternalId,
        audit::Origin,
        dashboard::{ReturnOrigins, ReturnUrl, SignInWay},
        session_token::SessionToken,
        tenant::{Environment, Tenant},
    },
    entropy,
    state::AppState,
    store::{DashboardSession, FoundLink},
    web::{
        cookies::with_cookies,
        failure::Failure,
        format,
        forms::{Form, Query, read_body},
        guard::{csrf_token, is_csrf_token, only},
        links::Link,
        respond::{see_other, show, show_with},
    },
};

const KEYS: &str = "/dashboard/keys";
const SIGNED_OUT: &str = "/dashboard/signed-out";

/// `GET /dashboard`: redirects to the first page that the session may open. Without a session,
/// redirects to the list of keys, which redirects to the signed-out page.
#[tracing::instrument(level = "debug", skip_all)]
pub async fn home(visitor: Result<Visitor, Failure>) -> Response {
    see_other(visitor.map_or(KEYS, |visitor| first_page(visitor.session().rights)))
}

/// `GET /dashboard/`: redirects to the path without the slash.
#[tracing::instrument(level = "debug", skip_all)]
pub async fn home_with_slash() -> Response {
    see_other("/dashboard")
}

/// `GET /dashboard/enter?token=…`: uses the link if the browser follows it from a page of the
/// tenant. Otherwise, a page asks for confirmation, and only its form uses the link. So another
/// site cannot sign a visitor in to its own account, and an email scanner or a chat preview does
/// not use up the link. A browser that is signed in to another account always gets the confirmation
/// page.
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
    let visitor = match visitor {
        Ok(visitor) => Some(visitor),
        // A session of a suspended platform does not keep the browser from another platform.
        Err(Failure::SignedOut | Failure::PlatformSuspended) => None,
        Err(failure) => return Err(failure),
    };
    let target = match state.store().find_dashboard_link(&link).await? {
        FoundLink::Live(target) => target,
        FoundLink::TenantSuspended => return Err(Failure::PlatformSuspended),
        dead => return show_dead_link(&state, dead, visitor.as_ref()).await,
    };
    let settings = state.store().dashboard_settings(&target.tenant).await?;
    let left = visitor.as_ref().filter(|visitor| !visitor.is_at(&target));
    if left.is_none() && is_followed_from(&headers, &settings.return_origins) {
        return take(&state, &headers, &link, None, &origin).await;
    }
    let title = if left.is_some() { "Switch accounts?" } else { "Open the dashboard?" };
    let platform = settings.shown_name(&target.tenant);
    show(&EnterPage {
        frame: tenant_frame(&target.tenant, &settings, title, Nav::Nowhere),
        csrf: visitor.as_ref().map(|visitor| csrf_token(visitor.token())),
        present: left.map(|left| account_name(left.account(), left.platform(), left.tenant())),
        wanted: account_name(&target.account, platform, &target.tenant),
        token: link.expose().to_owned(),
    })
}

/// The form of the page that asks for confirmation.
pub struct LinkForm {
    /// The visitor of the browser's session. `None` if the browser has no session and had none when
    /// the page was rendered.
    visitor: Option<Visitor>,
    form: Form,
}

/// Only a page of this service can submit the form, so it needs no token of its own. If the browser
/// has a session, the form ends it, so the form carries the CSRF token of that session.
impl FromRequest<AppState> for LinkForm {
    type Rejection = Failure;

    async fn from_request(request: Request<Body>, state: &AppState) -> Result<Self, Failure> {
        let (mut parts, body) = request.into_parts();
        let mut visitor = match Visitor::from_request_parts(&mut parts, state).await {
            Ok(visitor) => Some(visitor),
            Err(Failure::SessionOver | Failure::PlatformSuspended) => None,
            Err(failure) => return Err(failure),
        };
        let form = read_body(Request::from_parts(parts, body), state.limits().body_timeout).await?;
        if let Some(visitor) = &mut visitor {
            visitor.look_again(state).await?;
        }
        let csrf = form.text("csrf");
        match visitor.as_ref().map(|visitor| is_csrf_token(csrf, visitor.token())) {
            Some(false) => Err(Failure::StaleForm),
            // The page was rendered for a session that has ended.
            None if form.has("csrf") => Err(Failure::SessionOver),
            Some(true) | None => Ok(Self { visitor, form }),
        }
    }
}

/// `POST /dashboard/enter`: uses the link, and ends the browser's earlier session.
#[tracing::instrument(level = "debug", skip_all)]
pub async fn confirm(
    State(state): State<AppState>,
    headers: HeaderMap,
    Newcomer(origin): Newcomer,
    LinkForm { visitor, form }: LinkForm,
) -> Result<Response, Failure> {
    let link = link_token(form.text("token"))?;
    let session = visitor.as_ref().map(Visitor::session);
    match take(&state, &headers, &link, session, &origin).await {
        Err(Failure::LinkDead) => {
            let found = state.store().find_dashboard_link(&link).await?;
            show_dead_link(&state, found, visitor.as_ref()).await
        }
        taken => taken,
    }
}

/// Whether the browser navigates here from a page of one of these origins. A request for an image
/// or a prefetch is not a navigation.
fn is_followed_from(headers: &HeaderMap, origins: &ReturnOrigins) -> bool {
    let is_absent_or = |name, expected: &[u8]| {
        let name = HeaderName::from_static(name);
        !headers.contains_key(&name) || only(headers, &name) == Some(expected)
    };
    let referrer = only(headers, &header::REFERER).and_then(|bytes| str::from_utf8(bytes).ok());
    let referrer = referrer.and_then(|text| ReturnUrl::parse(text).ok());
    referrer.is_some_and(|referrer| origins.allow(&referrer))
        && is_absent_or("sec-fetch-mode", b"navigate")
        && is_absent_or("sec-fetch-dest", b"document")
        && ["sec-purpose", "purpose", "x-moz"].iter().all(|name| !headers.contains_key(*name))
}

/// Responds with the page for a used or expired link. The page links to the dashboard if the
/// browser has a session, or to the platform's site if the link has expired but has not been
/// deleted yet.
async fn show_dead_link(
    state: &AppState,
    found: FoundLink,
    visitor: Option<&Visitor>,
) -> Result<Response, Failure> {
    let (heading, text) = Failure::LinkDead.words();
    let (frame, link): (Frame, Option<Link>) = match (visitor, found) {
        (Some(visitor), _) => {
            let dashboard = first_page(visitor.session().rights);
            let link = Link { label: "Go to the dashboard".into(), url: dashboard.into() };
            (visitor.frame(heading, Nav::Nowhere), Some(link))
        }
        (None, FoundLink::Expired { tenant, return_url }) => {
            let settings = state.store().dashboard_settings(&tenant).await?;
            let label = format!("Return to {}", settings.shown_name(&tenant));
            // The link omits the path and the query, because they may contain secrets of the
            // platform.
            let allowed = return_url.filter(|url| settings.return_origins.allow(url));
            let link = allowed.map(|url| Link { label, url: url.origin().to_string() });
            (tenant_frame(&tenant, &settings, heading, Nav::Nowhere), link)
        }
        (None, FoundLink::TenantSuspended) => return Err(Failure::PlatformSuspended),
        (None, FoundLink::Live(_) | FoundLink::Unknown) => return Err(Failure::LinkDead),
    };
    let text = vec![text.to_owned()];
    let page = MessagePage { frame, heading: heading.to_owned(), text, link, request_id: None };
    show_with(StatusCode::GONE, &page)
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
    // A visitor who signed in with a link signs in again with a link.
    Ok(match LastSignIn::read(headers, secure) {
        Some(_) => with_cookies(response, [LastSignIn::clear(secure)]),
        None => response,
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

/// `GET /dashboard/signed-out`: offers the sign-in page of the platform that the browser remembers,
/// if that page still exists.
#[tracing::instrument(level = "debug", skip_all)]
pub async fn signed_out(
    State(state): State<AppState>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let platform = match LastSignIn::read(&headers, state.public_url().is_secure()) {
        // If the lookup fails, the page names no platform.
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

/// `POST /dashboard/logout`: ends the session.
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %visitor.tenant().slug, account = %visitor.account()))]
pub async fn log_out(
    State(state): State<AppState>,
    Submission { visitor, .. }: Submission,
) -> Result<Response, Failure> {
    state.store().close_dashboard_session(visitor.session(), visitor.origin()).await?;
    say_goodbye(&state, &visitor)
}

/// `POST /dashboard/logout-everywhere`: ends every session of the account.
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %visitor.tenant().slug, account = %visitor.account()))]
pub async fn log_out_everywhere(
    State(state): State<AppState>,
    Submission { visitor, .. }: Submission,
) -> Result<Response, Failure> {
    visitor.handle(&state).end_dashboard_sessions().await?;
    say_goodbye(&state, &visitor)
}

/// Responds to a sign-out. If the session has a return URL, the response is the page itself,
/// because a redirect would have to carry the URL, and then anyone could create such a link. After
/// a wallet session, a cookie lets the signed-out page offer the wallet sign-in.
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
