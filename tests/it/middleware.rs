//! The published middleware in a program other than Tollgate.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use axum::{
    body::{Body, Bytes, HttpBody},
    http::{HeaderMap, HeaderName, Request, Response, StatusCode},
};
use http_body_util::{BodyExt as _, Full};
use tollgate::{
    auth::{
        ApiKeyLayer, Caller, ClientAddress, Denial, Denied, GateDecision, KeyVerifier, Presented,
        Principal, PrincipalParts, Problem, RefusalBody, Verdict,
    },
    domain::{
        account::{AccountFormat, ExternalId},
        address_set::AddressSet,
        allowed_ips::{AllowedIps, parse_network},
        rate_limit::Cost,
        scope::ScopeSet,
        tenant::{Environment, Slug},
    },
};
use tower::{Layer as _, Service, ServiceExt as _};

const KEY: &str = "ta_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Returns a fixed verdict for every key, and counts its calls.
struct FixedVerdict(Result<Principal, Denial>, Arc<AtomicUsize>);

impl KeyVerifier for FixedVerdict {
    async fn verify(&self, _: &Presented<'_>) -> Verdict {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.clone().map_err(Into::into)
    }
}

fn principal() -> Principal {
    Principal::new(PrincipalParts::new(
        slug("tronagg"),
        Environment::Test,
        ExternalId::parse("user-1", AccountFormat::Any).expect("the account id is valid"),
        "key_01h455vb4pex5vsknk084sn02q".parse().expect("the account id is valid"),
        ScopeSet::parse(["orders:read"]).expect("the scopes are valid"),
    ))
}

/// Builds a gate for the principal's tenant. Also returns the counter of its verifier's calls.
fn gate(verdict: Result<Principal, Denial>) -> (ApiKeyLayer<FixedVerdict>, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let verifier = FixedVerdict(verdict, Arc::clone(&calls));
    (ApiKeyLayer::new(verifier, slug("tronagg"), Environment::Test), calls)
}

fn slug(text: &str) -> Slug {
    text.parse().expect("the slug is valid")
}

/// A service that panics if `call` runs before `poll_ready`. Services such as rate limiters require
/// this order.
#[derive(Default)]
struct RequiresReady {
    ready: bool,
}

impl Clone for RequiresReady {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Service<Request<Body>> for RequiresReady {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        assert!(
            std::mem::take(&mut self.ready),
            "the middleware called a service that it had not polled ready"
        );
        let account = request.extensions().get::<Principal>().map(|p| p.account.to_string());
        let body = Body::from(account.expect("an accepted request has a principal"));
        std::future::ready(Ok(Response::new(body)))
    }
}

fn request(key: Option<&str>) -> Request<Body> {
    let mut request = Request::new(Body::empty());
    if let Some(key) = key {
        request.headers_mut().insert("x-api-key", key.parse().expect("the header value is valid"));
    }
    request
}

#[tokio::test]
async fn middleware_calls_the_service_that_was_polled_ready() {
    let (layer, _) = gate(Ok(principal()));
    let mut service = layer.layer(RequiresReady::default());
    for _ in 0..3 {
        let response = service
            .ready()
            .await
            .expect("the service is infallible")
            .call(request(Some(KEY)))
            .await;
        assert_eq!(response.expect("the service is infallible").status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn every_denied_request_gets_the_right_status_and_never_reaches_the_service() {
    for (denial, status) in [
        (Denial::Malformed, 401),
        (Denial::NotFound, 401),
        (Denial::Revoked, 401),
        (Denial::Expired, 401),
        (Denial::Disabled, 401),
        (Denial::AccountSuspended, 403),
        (Denial::Unavailable, 503),
    ] {
        let (layer, _) = gate(Err(denial));
        let inner = tower::service_fn(|_: Request<Body>| async {
            panic!("a refused request reached the service");
            #[expect(unreachable_code, reason = "gives the service its type")]
            Ok::<_, Infallible>(Response::new(Body::empty()))
        });
        let response = layer
            .layer(inner)
            .oneshot(request(Some(KEY)))
            .await
            .expect("the service is infallible");
        assert_eq!(response.status(), status, "{denial:?}");
        let media_type = response.headers()["content-type"].to_str().expect("the header is text");
        assert_eq!(media_type, "application/problem+json");
        assert_eq!(response.headers().contains_key("www-authenticate"), status == 401);
        assert_eq!(response.headers().contains_key("retry-after"), status == 503);
        let body = response.into_body().collect().await.expect("the body can be read").to_bytes();
        let problem: serde_json::Value =
            serde_json::from_slice(&body).expect("the body is a problem");
        // In another program, a problem contains neither `request_id` nor `documentation_url`,
        // because only Tollgate's own server sets them.
        assert_eq!(problem.get("request_id"), None, "{denial:?}");
        assert_eq!(problem.get("documentation_url"), None, "{denial:?}");
    }
}

#[tokio::test]
async fn key_of_another_tenant_or_environment_is_refused_like_an_unknown_key() {
    let gates: [(&str, Environment); 3] = [
        ("tradetally", Environment::Test),
        ("tronagg", Environment::Live),
        ("tradetally", Environment::Live),
    ];
    let verdicts: [Result<(), Denial>; 5] = [
        Ok(()),
        Err(Denial::Revoked),
        Err(Denial::Expired),
        Err(Denial::Disabled),
        Err(Denial::AccountSuspended),
    ];
    for (tenant, environment) in gates {
        let (unknown, _) = refusal(tenant, environment, Err(Denial::NotFound.into())).await;
        for verdict in verdicts {
            let verdict = match verdict {
                Ok(()) => Ok(principal()),
                Err(denial) => Err(Denied::of(principal(), denial)),
            };
            let (refused, caller) = refusal(tenant, environment, verdict.clone()).await;
            assert_eq!(refused, unknown, "{tenant} {environment:?} {verdict:?}");
            assert_eq!(caller.principal(), None);
        }
    }
}

/// The parts of a refusal that a client sees: the status, the headers and the body.
type Refusal = (StatusCode, HeaderMap, Bytes);

/// Sends a request to a gate of this tenant that requires a scope which the principal does not
/// have. Returns the refusal, and the caller that the gate reports to outer layers.
async fn refusal(tenant: &str, environment: Environment, verdict: Verdict) -> (Refusal, Caller) {
    let layer = ApiKeyLayer::new(NamedVerdict(verdict), slug(tenant), environment)
        .require_scope("orders:write".parse().expect("the scope is valid"));
    let caller = Caller::default();
    let mut request = request(Some(KEY));
    request.extensions_mut().insert(caller.clone());
    let response = layer
        .layer(RequiresReady::default())
        .oneshot(request)
        .await
        .expect("the service is infallible");
    let (parts, body) = response.into_parts();
    let body = body.collect().await.expect("the body can be read").to_bytes();
    ((parts.status, parts.headers, body), caller)
}

/// Returns a fixed verdict for every key. A denial may name its principal.
struct NamedVerdict(Verdict);

impl KeyVerifier for NamedVerdict {
    async fn verify(&self, _: &Presented<'_>) -> Verdict {
        self.0.clone()
    }
}

#[tokio::test]
async fn gate_records_wrong_tenant_for_a_key_of_another_tenant() {
    for verdict in [Ok(principal()), Err(Denied::of(principal(), Denial::AccountSuspended))] {
        let layer = ApiKeyLayer::new(NamedVerdict(verdict), slug("tradetally"), Environment::Test);
        let response = layer.layer(RequiresReady::default()).oneshot(request(Some(KEY))).await;
        let response = response.expect("the service is infallible");
        let problem = response.extensions().get::<Problem>().expect("the response has a problem");
        assert_eq!(problem.decision(), Some(GateDecision::WrongTenant));
        assert_eq!(problem.reason(), Some("wrong_tenant"));
    }
}

#[tokio::test]
async fn verifier_is_not_called_without_a_well_formed_key() {
    let (layer, calls) = gate(Ok(principal()));
    for key in [None, Some("nonsense"), Some("ta_short")] {
        let response = layer.layer(RequiresReady::default()).oneshot(request(key)).await;
        assert_eq!(response.expect("the service is infallible").status(), StatusCode::UNAUTHORIZED);
    }
    assert_eq!(calls.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn builder_sets_the_required_scope_and_the_key_header() {
    let (layer, _) = gate(Ok(principal()));
    let requiring =
        |scope: &str| layer.clone().require_scope(scope.parse().expect("the scope is valid"));
    let status = async |layer: &ApiKeyLayer<FixedVerdict>, request| {
        layer
            .layer(RequiresReady::default())
            .oneshot(request)
            .await
            .expect("the service is infallible")
            .status()
    };
    assert_eq!(status(&requiring("orders:read"), request(Some(KEY))).await, StatusCode::OK);
    assert_eq!(status(&requiring("orders:write"), request(Some(KEY))).await, StatusCode::FORBIDDEN);

    let renamed = layer.clone().header_name(HeaderName::from_static("x-bot-key"));
    assert_eq!(status(&renamed, request(Some(KEY))).await, StatusCode::UNAUTHORIZED);
    let mut with_key = request(None);
    with_key.headers_mut().insert("x-bot-key", KEY.parse().expect("the header value is valid"));
    assert_eq!(status(&renamed, with_key).await, StatusCode::OK);

    // A service may use other bearer tokens. Such a token conflicts with the key, unless the gate
    // reads only the key header.
    let with_token = || {
        let mut request = request(Some(KEY));
        let token = "Bearer eyJhbGciOiJub25lIn0.e30.";
        request
            .headers_mut()
            .insert("authorization", token.parse().expect("the header value is valid"));
        request
    };
    assert_eq!(status(&layer, with_token()).await, StatusCode::UNAUTHORIZED);
    assert_eq!(status(&layer.clone().header_only(), with_token()).await, StatusCode::OK);
}

#[tokio::test]
async fn handler_without_the_layer_gets_no_principal_and_responds_with_500() {
    let app = axum::Router::new().route("/", axum::routing::get(|_: Principal| async {}));
    let response = app.oneshot(request(Some(KEY))).await.expect("the service is infallible");
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
}

/// Accepts every key, and records the arguments of the last call.
struct Recorder(std::sync::Mutex<Option<RecordedCall>>);

#[derive(PartialEq, Debug)]
struct RecordedCall {
    key: String,
    tenant: Option<(Slug, Environment)>,
    scopes: Vec<String>,
    cost: Option<u32>,
    client: Option<std::net::IpAddr>,
}

impl KeyVerifier for Recorder {
    async fn verify(&self, presented: &Presented<'_>) -> Verdict {
        let call = RecordedCall {
            key: presented.key.expose().to_owned(),
            tenant: presented.tenant.map(|(slug, environment)| (slug.clone(), environment)),
            scopes: presented.scopes.iter().map(ToString::to_string).collect(),
            cost: presented.cost.map(Cost::get),
            client: presented.client,
        };
        *self.0.lock().expect("the lock is not poisoned") = Some(call);
        Ok(principal())
    }
}

#[tokio::test]
async fn verifier_receives_the_key_the_tenant_the_scope_the_cost_and_the_client_address() {
    let verifier = Arc::new(Recorder(std::sync::Mutex::default()));
    let tenant = (slug("tronagg"), Environment::Test);
    let layer = ApiKeyLayer::shared(Arc::clone(&verifier), tenant.0.clone(), tenant.1)
        .require_scope("orders:read".parse().expect("the scope is valid"));
    let costly = layer.clone().cost(Cost::try_from(7).expect("the cost is valid"));
    let mut with_address = request(Some(KEY));
    let address = "192.0.2.7".parse().expect("the address is valid");
    with_address.extensions_mut().insert(ClientAddress(address));
    for (layer, request, cost, client) in
        [(layer, with_address, 1, Some(address)), (costly, request(Some(KEY)), 7, None)]
    {
        let response = layer.layer(RequiresReady::default()).oneshot(request).await;
        assert_eq!(response.expect("the service is infallible").status(), StatusCode::OK);
        let recorded = verifier.0.lock().expect("the lock is not poisoned").take();
        let expected = RecordedCall {
            key: KEY.to_owned(),
            tenant: Some(tenant.clone()),
            scopes: vec!["orders:read".to_owned()],
            cost: Some(cost),
            client,
        };
        assert_eq!(recorded, Some(expected));
    }
}

/// The gate compares the address for every verifier, as it compares the scope.
#[tokio::test]
async fn gate_refuses_a_restricted_key_from_another_or_an_unknown_address() {
    let network = parse_network("203.0.113.0/24").expect("the network is valid");
    let list = AllowedIps::new(vec![network]).expect("the list is valid");
    let parts = PrincipalParts::clone(&principal()).allowed_from(Some(AddressSet::of(&list)));
    let (layer, _) = gate(Ok(Principal::new(parts)));
    for (address, status) in [
        (Some("203.0.113.7"), StatusCode::OK),
        (Some("::ffff:203.0.113.7"), StatusCode::OK),
        (Some("198.51.100.7"), StatusCode::UNAUTHORIZED),
        (None, StatusCode::UNAUTHORIZED),
    ] {
        let mut request = request(Some(KEY));
        if let Some(address) = address {
            let address = address.parse().expect("the address is valid");
            request.extensions_mut().insert(ClientAddress(address));
        }
        let response = layer.layer(RequiresReady::default()).oneshot(request).await;
        let response = response.expect("the service is infallible");
        assert_eq!(response.status(), status, "{address:?}");
    }
}

/// Puts `layer` around a service whose response bodies have the type `B`. Sends a request with a
/// key and a request without a key. Returns both response bodies.
async fn bodies<B>(layer: &ApiKeyLayer<FixedVerdict>, body: fn(&'static str) -> B) -> [String; 2]
where
    B: RefusalBody + HttpBody<Data = Bytes, Error: std::fmt::Debug> + 'static,
{
    let mut texts = Vec::new();
    for key in [Some(KEY), None] {
        let inner = tower::service_fn(move |_: Request<Full<Bytes>>| async move {
            Ok::<_, Infallible>(Response::new(body("answered")))
        });
        let request = request(key).map(|_| Full::new(Bytes::new()));
        let response =
            layer.layer(inner).oneshot(request).await.expect("the service is infallible");
        let bytes = response.into_body().collect().await.expect("the body can be read").to_bytes();
        texts.push(String::from_utf8(bytes.into()).expect("the text is UTF-8"));
    }
    texts.try_into().expect("there are two bodies")
}

#[tokio::test]
async fn middleware_accepts_any_request_body_and_keeps_the_response_body_type() {
    let (layer, _) = gate(Ok(principal()));
    let answers = [
        bodies(&layer, Body::from).await,
        bodies(&layer, |text| Full::new(Bytes::from(text))).await,
        bodies(&layer, |text| Full::new(Bytes::from(text)).boxed()).await,
        bodies(&layer, |text| Full::new(Bytes::from(text)).boxed_unsync()).await,
    ];
    for [passed, refused] in answers {
        assert_eq!(passed, "answered");
        let problem: serde_json::Value =
            serde_json::from_str(&refused).expect("the body is a problem");
        assert_eq!(problem["code"], "missing_api_key");
    }
}
