use std::{error::Error, time::Duration};

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
use tokio::sync::Semaphore;
use tracing::{debug, warn};

use super::{
    answer::{Failure, MAX_ANSWER_BYTES, read_verdict},
    settings::{RemoteSettings, RemoteVerifierError, endpoint_below},
};
use crate::{
    auth::{KeyVerifier, Presented, Verdict, chain},
    domain::{
        api_key::{ADMIN_PREFIX, KeyText},
        rate_limit::Cost,
        verification::Denial,
    },
};

/// Maximum idle time of a connection. By default, the server closes a connection that has been idle
/// for 75 s. The shorter time here makes it unlikely that the verifier sends a request on a
/// connection that the server is closing.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// Verifies every key with a request to a running Tollgate server. Use it to gate a service that
/// cannot reach Tollgate's database.
///
/// Each verification is one `POST /v1/keys/verify` over a persistent connection. Verdicts are not
/// cached, so the next request with a revoked key is refused. The server charges each verification
/// to the rate limits of the key. If the connection fails, the verifier sends the request once more
/// over a new connection. The repetition can be charged too, and changes nothing else.
///
/// Without a verdict, the gate refuses the request with 503 and `Retry-After`, never with 401. This
/// happens if the server cannot be reached, takes longer than [`RemoteSettings::timeout`], rejects
/// the admin key, or sends a response that violates its contract. A warning in the log contains the
/// cause.
///
/// The verifier needs a tokio runtime with the I/O and time drivers.
///
/// ```no_run
/// use axum::{Router, routing::get};
/// use tollgate::{
///     auth::{ApiKeyLayer, Principal, RemoteVerifier},
///     domain::{api_key::KeyText, tenant::Environment},
/// };
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let admin_key = KeyText::parse(&std::env::var("TOLLGATE_ADMIN_KEY")?)?;
/// let verifier = RemoteVerifier::new("https://tollgate.example", &admin_key)?;
/// let gate = ApiKeyLayer::new(verifier, "tronagg".parse()?, Environment::Live)
///     .require_scope("orders:read".parse()?);
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
    /// Limits the number of verifications in flight, with one permit for each.
    turns: Semaphore,
    connections: Connections,
}

impl RemoteVerifier {
    /// Creates a verifier that uses the Tollgate server at `url`, with the default settings.
    ///
    /// The URL begins with `http://` or `https://`. It may have a port, and a path in front of
    /// `/v1`. Over http, the admin key and the API keys are sent unencrypted, so use http only on
    /// one machine or in a private network. For https, the verifier reads the root certificates of
    /// this machine once, from the system's store or from the file in `SSL_CERT_FILE`.
    ///
    /// The admin key needs the permission `verify` and no other. The admin key belongs to one
    /// tenant, so the server does not find keys of other tenants.
    ///
    /// This function sends no request, so it does not detect a wrong host or a revoked admin key.
    ///
    /// # Errors
    ///
    /// [`RemoteVerifierError`] if the URL is not usable, if `admin_key` is not an admin key, or if
    /// the root certificates for https cannot be read.
    pub fn new(url: &str, admin_key: &KeyText) -> Result<Self, RemoteVerifierError> {
        Self::with_settings(url, admin_key, RemoteSettings::default())
    }

    /// Creates a verifier as [`Self::new`] does, with other settings.
    ///
    /// # Errors
    ///
    /// [`RemoteVerifierError`] in the same cases as [`Self::new`].
    #[expect(clippy::missing_panics_doc, reason = "a key is always a valid header value")]
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
            .expect("a key consists of visible ASCII characters");
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

    async fn ask(&self, presented: &Presented<'_>) -> Result<Verdict, Failure> {
        let _turn = self.turns.acquire().await.expect("the semaphore is never closed");
        let request = self.request(presented);
        let (status, body) = match &self.connections {
            Connections::Plain(pools) => pools.send(request).await?,
            Connections::Tls(pools) => pools.send(request).await?,
        };
        read_verdict(presented, status, &body)
    }

    fn request(&self, presented: &Presented<'_>) -> Request<Full<Bytes>> {
        let mut body = serde_json::json!({ "key": presented.key.expose() });
        if !presented.scopes.is_empty() {
            body["scopes"] = presented.scopes.iter().map(ToString::to_string).collect();
        }
        // A cost of one is the default of the server. An older server refuses the member.
        if let Some(cost) = presented.cost.filter(|cost| *cost != Cost::ONE) {
            body["cost"] = cost.get().into();
        }
        if let Some(client) = presented.client {
            body["client_ip"] = client.to_string().into();
        }
        let body = body.to_string();
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
        let asked = tokio::time::timeout(self.timeout, self.ask(presented)).await;
        let answer = asked.unwrap_or(Err(Failure::TimedOut(self.timeout)));
        answer.unwrap_or_else(|failure| {
            warn!(url = %self.endpoint, cause = %failure, "the Tollgate server returned no verdict");
            Err(Denial::Unavailable.into())
        })
    }
}

/// The connections for requests. Only https sets up TLS, so http needs no root certificates.
enum Connections {
    Plain(Pools<HttpConnector>),
    Tls(Pools<HttpsConnector<HttpConnector>>),
}

/// Connections to one host.
struct Pools<C> {
    /// A client that keeps connections for further requests.
    kept: Client<C, Full<Bytes>>,
    /// A client that opens a connection for each request. After one kept connection has failed, the
    /// server may have closed the others too.
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
        // The connector divides its time among the addresses of the host, so an address that does
        // not respond leaves time for the others.
        connector.set_connect_timeout(Some(timeout / 2));
        if endpoint.scheme_str() != Some("https") {
            return Ok(Self::Plain(Pools::new(connector, max_connections)));
        }
        connector.enforce_http(false);
        // The provider is explicit, because only the program may choose one for the whole process.
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

    /// Sends the request. If the connection fails, sends it once more over a new one.
    async fn send(&self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), Failure> {
        match receive(self.kept.request(request.clone())).await {
            Err(Failure::Connection(cause)) => {
                debug!(%cause, "the connection to the Tollgate server failed, retrying on a new one");
                receive(self.fresh.request(request)).await
            }
            answer => answer,
        }
    }
}

/// Receives the whole response, within its maximum size.
async fn receive(answer: ResponseFuture) -> Result<(StatusCode, Bytes), Failure> {
    let response = answer.await.map_err(|error| Failure::from(&error))?;
    let status = response.status();
    match Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await {
        Ok(body) => Ok((status, body.to_bytes())),
        Err(error) if error.is::<LengthLimitError>() => Err(Failure::TooLong),
        Err(error) => Err(Failure::Connection(chain(&*error))),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ta_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    const ADMIN_KEY: &str = "tg_admin_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    fn key(text: &str) -> KeyText {
        KeyText::parse(text).expect("well formed")
    }

    #[test]
    fn admin_key_is_checked_and_never_shown() {
        let url = "http://127.0.0.1:8080";
        let error = RemoteVerifier::new(url, &key(KEY)).err().expect("not an admin key");
        assert!(error.to_string().contains("tg_admin_"), "{error}");
        let verifier = RemoteVerifier::new(url, &key(ADMIN_KEY)).expect("a URL and an admin key");
        let request = verifier.request(&Presented::new(&key(KEY)));
        assert_eq!(request.headers()[AUTHORIZATION], format!("Bearer {ADMIN_KEY}").as_str());
        assert!(!format!("{:?}", request.headers()).contains("AAAA"));
    }

    #[test]
    fn https_needs_no_process_wide_tls_provider() {
        let made = RemoteVerifier::new("https://tollgate.example", &key(ADMIN_KEY));
        // If the machine has no root certificates, the error must say so.
        if let Err(error) = made {
            assert!(matches!(error, RemoteVerifierError::RootCertificates(_)), "{error}");
        }
    }
}
