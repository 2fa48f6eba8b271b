//! The outermost layer: gives each request an id and a time limit, logs it in one line, and counts
//! it.

use std::{cell::RefCell, collections::HashMap, net::IpAddr, sync::Arc, time::Duration};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use metrics::{Counter, Histogram};
use tokio::time::{Instant, timeout_at};
use tracing::{Instrument as _, debug, debug_span, error, field::display, info, warn};

use super::{
    connection::InReserve, logged_tenant::LoggedTenant, refusal_log::RefusalLog, security_headers,
};
use crate::{
    auth::{Caller, ClientAddress, GateDecision, Principal, Problem},
    clock,
    domain::{id::RequestId, key_clients::Client},
    entropy,
    http::{BOOK_PATH, problem},
    node::count_unverified,
    state::{AppState, Limits},
    store::of_request,
    web::in_flight::HeldUntilSent,
};

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The folder of the book that contains a page for every problem code.
const ERROR_PAGES: &str = "reference/errors/";

/// The state of [`observe`].
#[derive(Clone)]
pub struct Observer {
    limits: Limits,
    /// Counts the use of API keys. `None` if no route takes an API key.
    state: Option<AppState>,
    refusals: Arc<RefusalLog>,
    /// The URL of the pages about problems. `None` if the service does not serve its documentation.
    error_pages: Option<Arc<str>>,
}

impl Observer {
    pub fn new(state: AppState, refusals: Arc<RefusalLog>) -> Self {
        let error_pages =
            state.docs().then(|| format!("{}{BOOK_PATH}{ERROR_PAGES}", state.public_url).into());
        Self { limits: state.limits, state: Some(state), refusals, error_pages }
    }

    /// Returns the state for routes without a credential, on a service that does not serve its
    /// documentation yet.
    pub fn without_credentials(limits: Limits) -> Self {
        Self { limits, state: None, refusals: Arc::default(), error_pages: None }
    }
}

/// Observes the request and adds the headers that every response carries. This is the router's
/// outermost layer.
pub async fn observe(observer: State<Observer>, request: Request, next: Next) -> Response {
    // An API response shows one key or account at one moment, so no cache may store it.
    let may_be_kept = !request.uri().path().starts_with("/v1/");
    let mut response = observe_request(observer, request, next).await;
    if !may_be_kept {
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    security_headers::add(&mut response);
    response
}

/// Gives the request an id. Adds the id to the response as `X-Request-Id`. If the response is a
/// problem, adds the id and the address of the page about its code to the body. Logs and counts the
/// request. The log line contains the matched route, but never a header, query, body or path.
async fn observe_request(
    State(Observer { limits, state, refusals, error_pages }): State<Observer>,
    mut request: Request,
    next: Next,
) -> Response {
    let since = Instant::now();
    let Ok(entropy) = entropy::for_id() else {
        return Problem::internal("the operating system returned no random bytes").into_response();
    };
    let request_id = RequestId::new(clock::local(), entropy);
    request.extensions_mut().insert(request_id);
    let caller = Caller::default();
    request.extensions_mut().insert(caller.clone());
    let address = request.extensions().get::<ClientAddress>().map(|client| client.0);
    let user_agent = request.headers().get(header::USER_AGENT).cloned();
    let method = known_method(request.method());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("unmatched", MatchedPath::as_str);

    // The log line of a request contains its id anyway. The span adds it to events inside the
    // request.
    let span = debug_span!("request", %request_id);
    let response = if request.extensions().get::<InReserve>().is_some() && !is_health(route) {
        no_room().into_response()
    } else {
        let deadline = since + limits.request_timeout;
        let answer = timeout_at(deadline, of_request(None, next.run(request)));
        answer.instrument(span).await.unwrap_or_else(|_| timed_out().into_response())
    };

    let response = name_request(response, request_id, error_pages.as_deref()).await;
    let principal = caller.principal();
    let line = Line { method, route, request_id, address, took: since.elapsed(), principal };
    line.count(&response);
    line.log(&response, line.took >= limits.slow_request, &refusals);
    if let (Some(principal), Some(state)) = (principal, state) {
        // A problem without a decision of the gate occurred after the gate had accepted the key.
        let decision = decision(&response).unwrap_or(GateDecision::Passed);
        if let Some(outcome) = decision.usage() {
            let user_agent = user_agent.as_ref().map_or(&[][..], HeaderValue::as_bytes);
            state.usage.record(principal, outcome, &Client { address, user_agent, route });
        }
    }
    response
}

/// Returns the decision of the gate, if it refused the request.
fn decision(response: &Response) -> Option<GateDecision> {
    response.extensions().get::<Problem>().and_then(Problem::decision)
}

/// Returns the name of the method for the log and the metrics. A client may send any word as a
/// method, so this function does not return unknown methods.
fn known_method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// Whether the route is available on a connection beyond the limit.
fn is_health(route: &str) -> bool {
    matches!(route, "/livez" | "/readyz")
}

fn no_room() -> Problem {
    let detail = "The server has too many connections, in total or from this address. It has not \
                  processed the request. Try again in a second.";
    Problem::unavailable(detail).because("too many connections")
}

fn timed_out() -> Problem {
    problem::try_again("The request timed out.").because("request timed out")
}

async fn name_request(
    response: Response,
    request_id: RequestId,
    error_pages: Option<&str>,
) -> Response {
    let text = request_id.to_string();
    let complete =
        |problem: Problem| problem.for_request(&text).documented_at(error_pages).into_response();
    let is_page = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|media_type| media_type.as_bytes().starts_with(b"text/html"));
    let mut response = match response.extensions().get::<Problem>() {
        // A page contains its own error text. Its problem is for the log only.
        _ if is_page => response,
        Some(problem) => {
            let completed = complete(problem.clone());
            carry_over(response, completed)
        }
        // The documentation's service returns a 404 without a problem for files that it lacks.
        None if response.status() == StatusCode::NOT_FOUND => {
            complete(problem::no_such_path().await)
        }
        None => response,
    };
    let value = HeaderValue::try_from(text).expect("an id is visible ASCII");
    response.headers_mut().insert(X_REQUEST_ID, value);
    response
}

/// Copies the headers and extensions of inner layers from the old response to the new one.
fn carry_over(old: Response, mut new: Response) -> Response {
    let (parts, _) = old.into_parts();
    for (name, value) in &parts.headers {
        if name != header::CONTENT_LENGTH && !new.headers().contains_key(name) {
            new.headers_mut().append(name, value.clone());
        }
    }
    if let Some(tenant) = parts.extensions.get::<LoggedTenant>() {
        new.extensions_mut().insert(tenant.clone());
    }
    if let Some(held) = parts.extensions.get::<HeldUntilSent>() {
        new.extensions_mut().insert(held.clone());
    }
    new
}

/// Request count and latency for one route, method and status.
type Counters = (Counter, Histogram);

/// The counters of one route, by method and status.
type OfRoute = HashMap<(&'static str, u16), Counters>;

thread_local! {
    /// The counters by route. Each thread looks up a counter only once, because a lookup by labels
    /// takes about 5 % of a request's time.
    static COUNTERS: RefCell<HashMap<String, OfRoute>> = RefCell::default();
}

fn counters(route: &str, method: &'static str, status: StatusCode) -> Counters {
    let labels = [
        ("route", route.to_owned()),
        ("method", method.to_owned()),
        ("status", status.as_str().to_owned()),
    ];
    (
        metrics::counter!("tollgate_http_requests_total", &labels),
        metrics::histogram!("tollgate_http_request_seconds", &labels),
    )
}

/// The data of a request that its log line and its metrics contain.
struct Line<'a> {
    method: &'static str,
    route: &'a str,
    request_id: RequestId,
    address: Option<IpAddr>,
    took: Duration,
    principal: Option<&'a Principal>,
}

impl Line<'_> {
    fn count(&self, response: &Response) {
        COUNTERS.with_borrow_mut(|routes| {
            // The router has a fixed number of routes, so the map is bounded.
            if !routes.contains_key(self.route) {
                routes.insert(self.route.to_owned(), OfRoute::new());
            }
            let of_route = routes.get_mut(self.route).expect("the route was just inserted");
            let status = response.status();
            let (requests, seconds) = of_route
                .entry((self.method, status.as_u16()))
                .or_insert_with(|| counters(self.route, self.method, status));
            requests.increment(1);
            seconds.record(self.took);
        });
        // The verifier counts its own verdicts.
        if let Some(reason) = decision(response)
            .filter(|decision| decision.is_unverified())
            .and_then(GateDecision::reason)
        {
            count_unverified(reason);
        }
    }

    fn log(&self, response: &Response, slow: bool, refusals: &RefusalLog) {
        let extensions = response.extensions();
        let (method, route, request_id) = (self.method, self.route, self.request_id);
        let status_code = response.status().as_u16();
        let millis = self.took.as_millis();
        let address = self.address.map(display);
        let tenant = self
            .principal
            .map(|principal| principal.tenant.as_str())
            .or_else(|| extensions.get::<LoggedTenant>().map(|tenant| tenant.0.slug.as_str()));
        let key_id = self.principal.map(|principal| principal.key_id.to_string());
        let problem = extensions.get::<Problem>();
        let code = problem.map(Problem::code);
        let reason = problem.and_then(Problem::reason);
        macro_rules! line {
            ($level:ident, $message:literal) => {
                $level!(
                    %request_id, method, route, status = status_code, millis, address, tenant, key_id, code,
                    reason, $message
                )
            };
        }
        let status = response.status();
        // Clients can cause any number of these lines. The lines concern refusals, requests that a
        // node cannot answer without a free connection or a database, requests that wait for a
        // lease, and requests whose body arrives slowly.
        let is_summed_up =
            slow || status.is_client_error() || status == StatusCode::SERVICE_UNAVAILABLE;
        // A page's refusal has neither a reason nor a code. The reasons of 503s are not a closed
        // set, so the code is used for them.
        let why = match status {
            StatusCode::SERVICE_UNAVAILABLE => code,
            status if !status.is_client_error() => Some("slow"),
            _ => reason.or(code),
        };
        let why = why.unwrap_or(status.as_str());
        if is_summed_up && !refusals.count(why, self.address, clock::since_boot()) {
            return;
        }
        match status {
            StatusCode::SERVICE_UNAVAILABLE => line!(warn, "could not answer the request"),
            status if status.is_server_error() => line!(error, "request failed"),
            status if status.is_client_error() => {
                if slow {
                    line!(warn, "slow request");
                } else {
                    line!(info, "request refused");
                }
            }
            _ if slow => line!(warn, "slow request"),
            _ => line!(debug, "request answered"),
        }
    }
}
