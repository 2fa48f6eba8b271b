//! The visitor of a page: the session that the cookie of the request identifies.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    extract::{FromRequestParts, Request, State},
    http::{Extensions, request::Parts},
    middleware::Next,
    response::Response,
};

use super::{
    brand::tenant_frame,
    cookies::Cookie,
    key_fields,
    pages::{
        frame::{AccountView, FormError, Frame, Nav},
        notices::Notice,
    },
};
use crate::{
    auth::{ClientAddress, Problem, ProblemCode},
    domain::{
        account::{AccountStatus, ExternalId},
        amount::Currency,
        audit::{Actor, Origin},
        dashboard::{DashboardRight, DashboardRights, DashboardSettings},
        id::RequestId,
        plan::{Plan, PlanSettings},
        session_token::{SessionId, SessionToken},
        tenant::Tenant,
        timestamp::Timestamp,
    },
    state::AppState,
    store::{AccountHandle, DashboardSession, LinkTarget},
    web::{
        failure::Failure,
        format,
        forms::Form,
        guard::csrf_token,
        in_flight::{Entered, HeldUntilSent, InFlight},
        links::Link,
    },
};

/// The rights that a route requires. For every route that takes a [`Visitor`], `routes.rs` states
/// the rights. A route without rights fails for every session.
#[derive(Clone, Copy, Debug)]
pub enum Needs {
    /// Any session.
    Session,
    /// A session that may use this part of the dashboard.
    Right(DashboardRight),
}

impl Needs {
    fn are_met_by(self, rights: DashboardRights) -> bool {
        match self {
            Self::Session => true,
            Self::Right(right) => rights.has(right),
        }
    }
}

/// An account's owner in a live session. Handlers read and change only the data of the session's
/// tenant and account, because no request names an account.
pub struct Visitor {
    session: DashboardSession,
    token: SessionToken,
    settings: DashboardSettings,
    plan: Plan,
    origin: Origin,
}

impl Visitor {
    pub fn session(&self) -> &DashboardSession {
        &self.session
    }

    /// Returns the token in the session's cookie.
    pub fn token(&self) -> &SessionToken {
        &self.token
    }

    pub fn tenant(&self) -> &Tenant {
        &self.session.tenant
    }

    pub fn currency(&self) -> &Currency {
        &self.session.tenant.policy.currency
    }

    pub fn account(&self) -> &ExternalId {
        &self.session.account
    }

    /// Whether a link opens the account of this session.
    pub fn is_at(&self, target: &LinkTarget) -> bool {
        self.tenant().id == target.tenant.id && *self.account() == target.account
    }

    /// Returns the time by the database's clock when the session was read.
    pub fn now(&self) -> Timestamp {
        self.session.now
    }

    /// Returns the address of the browser, if it is known.
    pub fn address(&self) -> Option<IpAddr> {
        self.origin.address
    }

    /// Returns the actor and the client's address, for the audit trail.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Returns a handle for changes to the session's account.
    pub fn handle<'a>(&'a self, state: &'a AppState) -> AccountHandle<'a> {
        state.store().account(self.tenant(), self.account(), &self.origin)
    }

    /// Returns the name of the platform.
    pub fn platform(&self) -> &str {
        self.settings.shown_name(self.tenant())
    }

    /// Returns the rules of the account's plan.
    pub fn plan(&self) -> &PlanSettings {
        &self.plan.settings
    }

    /// Whether the session may use a part of the dashboard.
    pub fn may(&self, right: DashboardRight) -> bool {
        self.session.rights.has(right)
    }

    /// Whether the platform allows owners to lower the rate limits of their keys.
    pub fn may_lower_limits(&self) -> bool {
        self.settings.owner_rate_limits
    }

    pub fn is_suspended(&self) -> bool {
        self.session.account_status == AccountStatus::Suspended
    }

    /// Reads the session again, because it may have ended while the body of a form arrived. Its
    /// rights never change.
    pub async fn look_again(&mut self, state: &AppState) -> Result<(), Failure> {
        self.session = read(state, &self.token).await?.ok_or(Failure::SessionOver)?;
        Ok(())
    }

    /// Refuses a change that gives a key more access while the account is suspended.
    pub fn refuse_if_suspended(&self) -> Result<(), Failure> {
        if self.is_suspended() { Err(Failure::Suspended) } else { Ok(()) }
    }

    /// Refuses to create a key if the account's plan does not let owners create keys.
    pub fn refuse_if_keys_are_not_created_here(&self) -> Result<(), Failure> {
        if self.plan().owner_creates_keys { Ok(()) } else { Err(Failure::KeysCreatedElsewhere) }
    }

    /// Returns the link back to the platform, if the session has a return URL.
    pub fn return_link(&self) -> Option<Link> {
        let url = self.session.return_url.as_ref()?;
        let label = format!("Return to {}", self.platform());
        Some(Link { label, url: url.as_str().to_owned() })
    }

    /// Returns the frame of a page in this session.
    pub fn frame(&self, title: impl Into<String>, nav: Nav) -> Frame {
        let account = self.account().as_str();
        Frame {
            account: Some(AccountView {
                full: account.to_owned(),
                short: format::shortened(account),
                suspended: self.is_suspended(),
                rights: self.session.rights,
                return_link: self.return_link(),
            }),
            csrf: csrf_token(&self.token),
            ..tenant_frame(self.tenant(), &self.settings, title, nav)
        }
    }

    /// Returns the frame of the page after a sign-out, with the platform's branding and no session.
    pub fn frame_when_out(&self, title: impl Into<String>) -> Frame {
        tenant_frame(self.tenant(), &self.settings, title, Nav::Nowhere)
    }

    /// Returns the frame after a redirect, with the notice that confirms the change.
    pub fn frame_after(&self, title: impl Into<String>, nav: Nav, query: &Form) -> Frame {
        Frame { notice: Notice::of(query.text("done")), ..self.frame(title, nav) }
    }

    /// Returns the frame of a form with its errors.
    pub fn form_frame(&self, title: impl Into<String>, nav: Nav, form: &Form) -> Frame {
        Frame { errors: form_errors(form), ..self.frame(title, nav) }
    }
}

/// Finds the session of a token. Refuses it while its tenant is suspended.
async fn read(state: &AppState, token: &SessionToken) -> Result<Option<DashboardSession>, Failure> {
    let session = state.store().dashboard_session(token).await?;
    match session {
        Some(session) if !session.is_open() => Err(Failure::PlatformSuspended),
        session => Ok(session),
    }
}

/// Returns the first page that a session with these rights may open. Without any right, this is the
/// list of keys, which refuses the session and says why.
pub fn first_page(rights: DashboardRights) -> &'static str {
    if rights.has(DashboardRight::Audit) && !rights.has(DashboardRight::Keys) {
        "/dashboard/balance"
    } else {
        "/dashboard/keys"
    }
}

/// Returns the errors of a form, for the summary above it.
pub fn form_errors(form: &Form) -> Vec<FormError> {
    let errors = form.errors().iter().map(|error| FormError {
        field: error.field.clone(),
        label: error.field.as_deref().and_then(field_label),
        text: error.message.clone(),
    });
    errors.collect()
}

fn field_label(field: &str) -> Option<String> {
    if let Some(limit) = key_fields::limit_of_field(field) {
        return Some(format!("Limit {limit}"));
    }
    let label = match field {
        "reason" => "Reason",
        "since" => "Since",
        "from" => "From",
        "to" => "To",
        "key" => "Key",
        "kind" => "Kind",
        "address" => "Address",
        _ => key_fields::label(field)?,
    };
    Some(label.to_owned())
}

/// Without a live session, a page redirects to the signed-out page. A form gets the text of that
/// page as its response, because a redirect would lose the form.
impl FromRequestParts<AppState> for Visitor {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Failure> {
        let over =
            || if parts.method.is_safe() { Failure::SignedOut } else { Failure::SessionOver };
        let needs = parts.extensions.get::<Needs>().copied().ok_or_else(|| {
            Failure::Fault(Problem::internal("a route does not state which sessions may use it"))
        })?;
        let token = Cookie::Session.read(&parts.headers, state.public_url().is_secure());
        let token = token.ok_or_else(over)?;
        let session = read(state, &token).await?.ok_or_else(over)?;
        if !needs.are_met_by(session.rights) {
            return Err(Failure::NotIncluded);
        }
        parts
            .extensions
            .get::<SessionInFlight>()
            .map_or(Ok(()), |bound| bound.enter(session.id))?;
        let settings = state.store().dashboard_settings(&session.tenant).await?;
        let plan = state.store().plan_of_account(&session.tenant, &session.account).await?;
        Ok(Self { session, token, settings, plan, origin: owner_origin(&parts.extensions) })
    }
}

/// Counts a request as one of its session's requests in flight, once the session is known.
#[derive(Clone)]
struct SessionInFlight {
    in_flight: InFlight,
    entered: Arc<Mutex<Option<Entered>>>,
}

impl SessionInFlight {
    /// Counts the request, unless it is already counted.
    fn enter(&self, session: SessionId) -> Result<(), Failure> {
        let mut entered = self.entered.lock().unwrap_or_else(PoisonError::into_inner);
        if entered.is_none() {
            *entered = Some(self.in_flight.enter(session.uuid()).ok_or_else(too_many)?);
        }
        Ok(())
    }
}

/// Limits a session's requests in flight. A request counts until its response has been handed to
/// the socket.
pub async fn bound(
    State(in_flight): State<InFlight>,
    mut request: Request,
    next: Next,
) -> Response {
    let entered = Arc::default();
    let bound = SessionInFlight { in_flight, entered: Arc::clone(&entered) };
    request.extensions_mut().insert(bound);
    let mut response = next.run(request).await;
    let entered = entered.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(entered) = entered {
        HeldUntilSent::attach(&mut response, entered);
    }
    response
}

fn too_many() -> Failure {
    let detail = "The session has too many requests in flight. Wait for a response before you \
                  send the next request.";
    Failure::Fault(Problem::new(ProblemCode::TooManyInFlight, detail).retry_after(1))
}

/// The [`Origin`] that the audit trail records for a sign-in. The actor is the account's owner, who
/// has no session yet.
pub struct Newcomer(pub Origin);

impl<S: Send + Sync> FromRequestParts<S> for Newcomer {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        Ok(Self(owner_origin(&parts.extensions)))
    }
}

fn owner_origin(extensions: &Extensions) -> Origin {
    Origin {
        actor: Actor::AccountOwner,
        address: extensions.get::<ClientAddress>().map(|peer| peer.0),
        request_id: extensions.get::<RequestId>().copied(),
    }
}
