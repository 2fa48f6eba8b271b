use std::{error::Error, io, time::Duration};

use axum::{
    body::Bytes,
    http::{
        HeaderValue, Method, Request, StatusCode, Uri,
        header::{AUTHORIZATION, CONTENT_TYPE},
    },
};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{
        self, Client, ResponseFuture,
        connect::{Connect, HttpConnector},
    },
    rt::{TokioExecutor, TokioTimer},
};
use serde::Deserialize;
use tokio::sync::Semaphore;
use tracing::{debug, warn};

use super::{Denied, KeyVerifier, Presented, Principal, PrincipalParts, Verdict, chain};
use crate::domain::{
    account::{AccountFormat, ExternalId},
    api_key::{ADMIN_PREFIX, KeyText},
    scope::ScopeSet,
    timestamp::Timestamp,
    verification::{Denial, VerificationCode},
};

/// Bytes that an answer may have. One with all the scopes a key can have is far below it.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// How long a connection is kept without use: less than the 30 s after which a Tollgate closes it,
/// so that seldom is a request sent over one that is about to close.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// Asks a running Tollgate about every key, over HTTP: for the gate of a service elsewhere.
///
/// Each verification is one `POST /v1/keys/verify` over a connection that is kept. Nothing is
/// remembered: a key that was revoked is refused at the next request. When the connection fails,
/// the question is asked once more over a new one; it only reads, so asking twice does no harm.
///
/// Without a verdict the gate answers 503 with `Retry-After`, never 401 and never a pass: when the
/// Tollgate cannot be reached, takes longer than [`RemoteSettings::timeout`], does not accept the
/// admin key, or answers anything else than its contract says. The cause goes to the log as a
/// warning.
///
/// It needs a tokio runtime with I/O and time.
///
/// ```no_run
/// use axum::{Router, routing::get};
/// use tollgate::{
///     auth::{ApiKeyLayer, Principal, RemoteVerifier},
///     domain::api_key::KeyText,
/// };
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let admin_key = KeyText::parse(&std::env::var("TOLLGATE_ADMIN_KEY")?)?;
/// let verifier = RemoteVerifier::new("https://tollgate.example", &admin_key)?;
/// let gate = ApiKeyLayer::new(verifier).require_scope("orders:read".parse()?);
///
/// let app: Router = Router::new()
///     .route("/orders", get(|caller: Principal| async move { caller.account.to_string() }))
///     .route_layer(gate);
/// # Ok(())
/// # }
/// ```
pub struct RemoteVerifier {
    endpoint: Uri,
    authorization: HeaderValue,
    timeout: Duration,
    /// One for each verification that may be in flight.
    turns: Semaphore,
    connections: Connections,
}

/// Bounds of a [`RemoteVerifier`].
///
/// Begin with the default, and change what should differ:
///
/// ```
/// use std::time::Duration;
///
/// use tollgate::auth::RemoteSettings;
///
/// let mut settings = RemoteSettings::default();
/// settings.timeout = Duration::from_millis(500);
/// assert_eq!(settings.max_connections, 64);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct RemoteSettings {
    /// For a whole verification: its turn, its connection, its answer, and the second try.
    pub timeout: Duration,
    /// Verifications in flight at once, and connections that are kept; a further one waits for its
    /// turn. Zero counts as one.
    pub max_connections: u16,
}

impl Default for RemoteSettings {
    /// 2 seconds, 64 connections.
    fn default() -> Self {
        Self { timeout: Duration::from_secs(2), max_connections: 64 }
    }
}

/// Why a [`RemoteVerifier`] cannot be created.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteVerifierError {
    /// The URL cannot be used. The text says why, without the URL itself, which may contain a
    /// password.
    #[error("the URL of the Tollgate {0}: it must be such as https://tollgate.example")]
    Url(&'static str),
    #[error("the admin key for the Tollgate does not begin with {prefix}", prefix = ADMIN_PREFIX)]
    /// The key is not an admin key, because its prefix is not [`ADMIN_PREFIX`].
    AdminKey,
    #[error("no root certificates can be read on this machine, and an https URL needs them")]
    /// The URL begins with `https://`, and no root certificate could be read. The source says why.
    RootCertificates(#[source] io::Error),
}

impl RemoteVerifier {
    /// A verifier that asks the Tollgate at `url`, with the default settings.
    ///
    /// The URL begins with `http://` or `https://`; it may have a port, and a path in front of
    /// `/v1`. Over http both keys travel in the clear: that is for one machine or a private
    /// network. For https the root certificates of this machine are read, once, from where the
    /// system keeps them or from the file that `SSL_CERT_FILE` names. For http none are needed.
    ///
    /// The admin key needs the permission `verify` and no other. It belongs to one tenant: keys of
    /// other tenants are not found.
    ///
    /// No request is sent yet, so a wrong host or a revoked admin key is not noticed here.
    ///
    /// # Errors
    ///
    /// [`RemoteVerifierError`] if the URL cannot be used, `admin_key` is not an admin key, or the
    /// root certificates that https needs cannot be read.
    pub fn new(url: &str, admin_key: &KeyText) -> Result<Self, RemoteVerifierError> {
        Self::with_settings(url, admin_key, RemoteSettings::default())
    }

    /// Like [`Self::new`], with other settings.
    ///
    /// # Errors
    ///
    /// [`RemoteVerifierError`], in the same cases as [`Self::new`].
    #[expect(clippy::missing_panics_doc, reason = "the text of a key is always a header value")]
    pub fn with_settings(
        url: &str,
        admin_key: &KeyText,
        settings: RemoteSettings,
    ) -> Result<Self, RemoteVerifierError> {
        let endpoint = endpoint_below(url)?;
        if admin_key.prefix() != ADMIN_PREFIX {
            return Err(RemoteVerifierError::AdminKey);
        }
        let mut authorization = HeaderValue::try_from(format!("Bearer {}", admin_key.expose()))
            .expect("the text of a key is visible ASCII");
        authorization.set_sensitive(true);
        let max_connections = usize::from(settings.max_connections.max(1));
        let connections = Connections::new(&endpoint, settings.timeout, max_connections)?;
        Ok(Self {
            endpoint,
            authorization,
            timeout: settings.timeout,
            turns: Semaphore::new(max_connections),
            connections,
        })
    }

    async fn ask(&self, key: &KeyText) -> Result<Verdict, Failure> {
        let _turn = self.turns.acquire().await.expect("the semaphore is never closed");
        let request = self.request(key);
        let (status, body) = match &self.connections {
            Connections::Plain(pools) => pools.send(request).await?,
            Connections::Tls(pools) => pools.send(request).await?,
        };
        read_verdict(status, &body)
    }

    fn request(&self, key: &KeyText) -> Request<Full<Bytes>> {
        let body = serde_json::json!({ "key": key.expose() }).to_string();
        let mut request = Request::new(Full::from(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.endpoint.clone();
        let headers = request.headers_mut();
        headers.insert(AUTHORIZATION, self.authorization.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        request
    }
}

impl KeyVerifier for RemoteVerifier {
    async fn verify(&self, presented: &Presented<'_>) -> Verdict {
        let key = presented.key;
        let asked = tokio::time::timeout(self.timeout, self.ask(key)).await;
        let answer = asked.unwrap_or(Err(Failure::TimedOut(self.timeout)));
        answer.unwrap_or_else(|failure| {
            warn!(url = %self.endpoint, cause = %failure, "the Tollgate gives no verdict on a key");
            Err(Denial::Unavailable.into())
        })
    }
}

/// Where requests go out: TLS is set up for https alone, so that http needs no root certificates.
enum Connections {
    Plain(Pools<HttpConnector>),
    Tls(Pools<HttpsConnector<HttpConnector>>),
}

/// Connections to one host.
struct Pools<C> {
    /// Keeps them for further requests.
    kept: Client<C, Full<Bytes>>,
    /// Makes a new one for each request: once a kept one has failed, the others may be as dead.
    fresh: Client<C, Full<Bytes>>,
}

impl Connections {
    fn new(
        endpoint: &Uri,
        timeout: Duration,
        max_connections: usize,
    ) -> Result<Self, RemoteVerifierError> {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        // Spread over the addresses of the host: one that is mute leaves time for the others.
        connector.set_connect_timeout(Some(timeout / 2));
        if endpoint.scheme_str() != Some("https") {
            return Ok(Self::Plain(Pools::new(connector, max_connections)));
        }
        connector.enforce_http(false);
        // Named, because a provider for the whole process is for the program to choose.
        let provider = rustls::crypto::ring::default_provider();
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(provider)
            .map_err(RemoteVerifierError::RootCertificates)?
            .https_only()
            .enable_http1()
            .wrap_connector(connector);
        Ok(Self::Tls(Pools::new(connector, max_connections)))
    }
}

impl<C: Connect + Clone + Send + Sync + 'static> Pools<C> {
    fn new(connector: C, max_connections: usize) -> Self {
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE_TIMEOUT);
        let kept = builder.pool_max_idle_per_host(max_connections).build(connector.clone());
        let fresh = builder.pool_max_idle_per_host(0).build(connector);
        Self { kept, fresh }
    }

    /// Sends the request; when the connection fails, once more over a new one.
    async fn send(&self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), Failure> {
        match receive(self.kept.request(request.clone())).await {
            Err(Failure::Connection(cause)) => {
                debug!(%cause, "the connection to the Tollgate failed: once more over a new one");
                receive(self.fresh.request(request)).await
            }
            answer => answer,
        }
    }
}

/// The whole answer, within its bound.
async fn receive(answer: ResponseFuture) -> Result<(StatusCode, Bytes), Failure> {
    let response = answer.await.map_err(|error| Failure::from(&error))?;
    let status = response.status();
    match Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await {
        Ok(body) => Ok((status, body.to_bytes())),
        Err(error) if error.is::<LengthLimitError>() => Err(Failure::TooLong),
        Err(error) => Err(Failure::Connection(chain(&*error))),
    }
}

/// Why there is no verdict: for the log. What the other side sent is in none of the texts, since it
/// could be what it was sent.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// Not made, or lost before the whole answer was there.
    #[error("the connection failed, and a new one too: {0}")]
    Connection(String),
    #[error("what came is not HTTP: {0}")]
    NotHttp(String),
    #[error("the answer has more than {max} bytes", max = MAX_ANSWER_BYTES)]
    TooLong,
    #[error("the answer is {0}")]
    Status(StatusCode),
    #[error("the answer cannot be read: {0}")]
    Unreadable(&'static str),
}

impl From<&legacy::Error> for Failure {
    fn from(error: &legacy::Error) -> Self {
        let cause = error.source().and_then(|cause| cause.downcast_ref::<hyper::Error>());
        if cause.is_some_and(hyper::Error::is_parse) {
            Self::NotHttp(chain(error))
        } else {
            Self::Connection(chain(error))
        }
    }
}

/// What every answer of `POST /v1/keys/verify` says.
#[derive(Deserialize)]
struct Answer {
    valid: bool,
    code: String,
}

/// What it says beside that where a key was recognised.
#[derive(Deserialize)]
struct RecognisedKey {
    tenant: String,
    environment: String,
    account: String,
    key_id: String,
    scopes: Vec<String>,
    /// `null`: never. Read so that it is not taken for `null` when it is absent.
    #[serde(deserialize_with = "Option::deserialize")]
    expires_at: Option<String>,
}

impl RecognisedKey {
    fn read(body: &[u8]) -> Result<Principal, &'static str> {
        let key: Self = serde_json::from_slice(body)
            .map_err(|_| "a member that names the key is absent, or is of another type")?;
        let expires_at = key.expires_at.as_deref().map(Timestamp::parse).transpose();
        Ok(Principal::new(
            PrincipalParts::new(
                key.tenant.parse().map_err(|_| "tenant is no slug")?,
                key.environment.parse().map_err(|_| "environment is not known")?,
                // What the tenant's format is, the Tollgate has checked.
                ExternalId::parse(&key.account, AccountFormat::Any)
                    .map_err(|_| "account is no external id")?,
                key.key_id.parse().map_err(|_| "key_id is no id of a key")?,
                ScopeSet::parse(&key.scopes).map_err(|_| "scopes are no scopes")?,
            )
            .expiring(expires_at.map_err(|_| "expires_at is no time")?),
        ))
    }
}

/// What the answer says of the key. An error is neither a pass nor a refusal.
fn read_verdict(status: StatusCode, body: &[u8]) -> Result<Verdict, Failure> {
    const CONTRADICTION: Failure =
        Failure::Unreadable("valid and code do not say what they should");
    if status != StatusCode::OK {
        return Err(Failure::Status(status));
    }
    let answer: Answer = serde_json::from_slice(body)
        .map_err(|_| Failure::Unreadable("it is no object with valid and code"))?;
    let code: VerificationCode = answer.code.parse().map_err(|_| CONTRADICTION)?;
    let reason = match (answer.valid, code) {
        (true, VerificationCode::Valid) => {
            return RecognisedKey::read(body).map(Ok).map_err(Failure::Unreadable);
        }
        (false, VerificationCode::NotFound) => Denial::NotFound,
        (false, VerificationCode::Revoked) => Denial::Revoked,
        (false, VerificationCode::Expired) => Denial::Expired,
        (false, VerificationCode::Disabled) => Denial::Disabled,
        (false, VerificationCode::AccountSuspended) => Denial::AccountSuspended,
        // Neither scopes nor a charge are asked for.
        (
            false,
            VerificationCode::Valid
            | VerificationCode::InsufficientScope
            | VerificationCode::InsufficientBalance
            | VerificationCode::SpendLimitExceeded,
        )
        | (true, _) => return Err(CONTRADICTION),
    };
    // Who it would have been is for the log: that it cannot be read makes no refusal doubtful.
    Ok(Err(Denied { reason, principal: RecognisedKey::read(body).ok() }))
}

/// Where keys are verified, below the URL of a Tollgate.
fn endpoint_below(url: &str) -> Result<Uri, RemoteVerifierError> {
    const UNREADABLE: RemoteVerifierError = RemoteVerifierError::Url("cannot be read");
    let base: Uri = url.parse().map_err(|_| UNREADABLE)?;
    let Some(("http" | "https", authority)) = base.scheme_str().zip(base.authority()) else {
        return Err(RemoteVerifierError::Url("does not begin with http:// or https://"));
    };
    if authority.as_str().contains('@') {
        return Err(RemoteVerifierError::Url("has a user name in it"));
    }
    if authority.host().is_empty() {
        return Err(RemoteVerifierError::Url("names no host"));
    }
    // A port that is none would be passed over, and that of the scheme taken.
    if authority.as_str() != authority.host() && authority.port_u16().is_none() {
        return Err(RemoteVerifierError::Url("has a port that is none"));
    }
    if url.contains(['?', '#']) {
        return Err(RemoteVerifierError::Url("has a query or a fragment"));
    }
    let path = format!("{}/v1/keys/verify", base.path().trim_end_matches('/'));
    let mut parts = base.into_parts();
    parts.path_and_query = Some(path.parse().map_err(|_| UNREADABLE)?);
    Uri::from_parts(parts).map_err(|_| UNREADABLE)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::domain::tenant::Environment;

    const KEY: &str = "ta_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    const ADMIN_KEY: &str = "tg_admin_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    fn key(text: &str) -> KeyText {
        KeyText::parse(text).expect("well formed")
    }

    /// A response with every member that describes a key.
    fn response_with(code: &str) -> Value {
        json!({
            "valid": code == "VALID",
            "code": code,
            "tenant": "tronagg",
            "environment": "test",
            "key_id": "key_01h455vb4pex5vsknk084sn02q",
            "account": "user-1",
            "scopes": ["orders:read", "purchases:write"],
            "expires_at": "2027-01-31T12:00:00.000000Z",
        })
    }

    fn principal() -> Principal {
        Principal::new(
            PrincipalParts::new(
                "tronagg".parse().expect("a slug"),
                Environment::Test,
                ExternalId::parse("user-1", AccountFormat::Any).expect("an id"),
                "key_01h455vb4pex5vsknk084sn02q".parse().expect("an id"),
                ScopeSet::parse(["orders:read", "purchases:write"]).expect("scopes"),
            )
            .expiring(Some(Timestamp::parse("2027-01-31T12:00:00Z").expect("a time"))),
        )
    }

    fn read(response: &Value) -> Result<Verdict, Failure> {
        read_verdict(StatusCode::OK, response.to_string().as_bytes())
    }

    #[test]
    fn the_endpoint_is_below_the_url() {
        for (url, endpoint) in [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080/v1/keys/verify"),
            ("https://tollgate.example", "https://tollgate.example/v1/keys/verify"),
            ("https://tollgate.example/", "https://tollgate.example/v1/keys/verify"),
            ("https://example.com/tollgate/", "https://example.com/tollgate/v1/keys/verify"),
            ("HTTP://[::1]:80", "http://[::1]:80/v1/keys/verify"),
        ] {
            let found = endpoint_below(url).expect("a good URL");
            assert_eq!(found.to_string(), endpoint);
        }
    }

    #[test]
    fn invalid_urls_are_refused_without_repeating_the_password() {
        for url in [
            "",
            "/",
            "tollgate.example",
            "tollgate.example:8080",
            "ftp://tollgate.example",
            "http://",
            "http:///v1",
            "http://:8080",
            "http://tollgate.example:",
            "http://tollgate.example:99999",
            "http://tollgate.example:http",
            "http://root:hunter2@tollgate.example",
            "http://tollgate.example?a=b",
            "http://tollgate.example/#a",
            "http://tollgate.example/a b",
            " http://tollgate.example",
        ] {
            let error = endpoint_below(url).expect_err(url).to_string();
            assert!(error.starts_with("the URL of the Tollgate "), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn admin_key_is_checked_and_never_shown() {
        let url = "http://127.0.0.1:8080";
        let error = RemoteVerifier::new(url, &key(KEY)).err().expect("it is no admin key");
        assert!(error.to_string().contains("tg_admin_"), "{error}");
        let verifier = RemoteVerifier::new(url, &key(ADMIN_KEY)).expect("a URL and an admin key");
        let request = verifier.request(&key(KEY));
        assert_eq!(request.headers()[AUTHORIZATION], format!("Bearer {ADMIN_KEY}").as_str());
        assert!(!format!("{:?}", request.headers()).contains("AAAA"));
    }

    #[test]
    fn https_needs_no_process_wide_tls_provider() {
        let made = RemoteVerifier::new("https://tollgate.example", &key(ADMIN_KEY));
        // A machine may have no root certificates. Then the error says that.
        if let Err(error) = made {
            assert!(matches!(error, RemoteVerifierError::RootCertificates(_)), "{error}");
        }
    }

    #[test]
    fn valid_key_has_its_principal() {
        let verdict = read(&response_with("VALID")).expect("a verdict");
        assert_eq!(verdict, Ok(principal()));
        let mut endless = response_with("VALID");
        endless["expires_at"] = Value::Null;
        let verdict = read(&endless).expect("a verdict");
        assert_eq!(verdict.map(|principal| principal.expires_at), Ok(None));
        // A later version may add members.
        let mut longer = response_with("VALID");
        longer["purchase"] = json!({"id": 1});
        assert_eq!(read(&longer).expect("a verdict"), Ok(principal()));
    }

    #[test]
    fn refusal_has_its_reason_and_the_principal_if_it_is_readable() {
        for (code, reason) in [
            ("NOT_FOUND", Denial::NotFound),
            ("REVOKED", Denial::Revoked),
            ("EXPIRED", Denial::Expired),
            ("DISABLED", Denial::Disabled),
            ("ACCOUNT_SUSPENDED", Denial::AccountSuspended),
        ] {
            let named = read(&response_with(code)).expect("a verdict");
            assert_eq!(named, Err(Denied::of(principal(), reason)));
            let bare = read(&json!({"valid": false, "code": code})).expect("a verdict");
            assert_eq!(bare, Err(Denied::from(reason)));
            let mut garbled = response_with(code);
            garbled["scopes"] = json!(["everything"]);
            assert_eq!(read(&garbled).expect("a verdict"), Err(Denied::from(reason)));
        }
    }

    #[test]
    fn contradictory_response_is_no_verdict() {
        for (valid, code) in [
            (false, "VALID"),
            (true, "REVOKED"),
            (true, "valid"),
            (true, ""),
            (false, "INSUFFICIENT_SCOPE"),
            (false, "INSUFFICIENT_BALANCE"),
            (false, "SOMETHING_NEW"),
        ] {
            let mut contradiction = response_with(code);
            contradiction["valid"] = valid.into();
            assert!(read(&contradiction).is_err(), "{valid} and {code:?}");
        }
    }

    #[test]
    fn valid_response_needs_every_member() {
        let whole = response_with("VALID");
        for member in whole.as_object().expect("an object").keys() {
            let mut less = whole.clone();
            less.as_object_mut().expect("an object").remove(member);
            assert!(read(&less).is_err(), "without {member}");
            for other in [json!(""), json!(7), json!(["?"]), json!({})] {
                let mut changed = whole.clone();
                changed[member] = other;
                assert!(read(&changed).is_err(), "{changed}");
            }
        }
    }

    #[test]
    fn malformed_body_or_other_status_is_no_verdict() {
        for body in ["", "null", "[]", "\"VALID\"", "{}", "<html>", "{\"valid\":true"] {
            assert!(read_verdict(StatusCode::OK, body.as_bytes()).is_err(), "{body}");
        }
        let good = response_with("VALID").to_string();
        for status in [201, 204, 301, 400, 401, 403, 404, 429, 500, 503] {
            let status = StatusCode::from_u16(status).expect("a status");
            assert!(read_verdict(status, good.as_bytes()).is_err(), "{status}");
        }
    }

    #[test]
    fn failures_do_not_repeat_the_response() {
        let mut tenant = response_with("VALID");
        tenant["tenant"] = KEY.into();
        for echo in [json!({"valid": KEY}), json!({"valid": true, "code": KEY}), tenant] {
            let failure = read(&echo).expect_err("it is no verdict");
            assert!(!format!("{failure} {failure:?}").contains("AAAA"), "{failure}");
        }
    }
}
