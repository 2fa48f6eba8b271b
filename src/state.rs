//! The state that all handlers share, and the limits of a request.

use std::{ops::Deref, sync::Arc, time::Duration};

use crate::{
    clock,
    domain::dashboard::WebOrigin,
    limits::Limiter,
    money::Money,
    node::{CountedVerifier, Node},
    store::Store,
    usage::UsageBuffer,
};

/// The state that handlers share. Cheap to clone.
#[derive(Clone)]
pub struct AppState(Arc<Shared>);

/// The fields of the state. All fields are behind one pointer, because each request clones the
/// state more than once.
pub struct Shared {
    pub(crate) store: Arc<Store>,
    pub(crate) money: Money,
    pub(crate) node: Node,
    pub(crate) verifier: Arc<CountedVerifier>,
    pub(crate) usage: Arc<UsageBuffer>,
    pub(crate) limits: Limits,
    pub(crate) public_url: WebOrigin,
    /// Whether the service serves its documentation.
    docs: bool,
}

/// Limits of one request.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Maximum size of a request body in bytes.
    pub body_bytes: usize,
    /// Time limit for receiving the whole body.
    pub body_timeout: Duration,
    /// Time limit from the headers of a request to its response.
    pub request_timeout: Duration,
    /// Maximum number of concurrent requests of one API key or one dashboard session, on routes
    /// that use the shared connections to the database.
    pub in_flight: usize,
    /// Duration above which a request is logged as slow.
    pub slow_request: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 16 * 1024,
            body_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(15),
            in_flight: 16,
            slow_request: Duration::from_secs(1),
        }
    }
}

impl Deref for AppState {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl AppState {
    /// Creates the state. `public_url` is the URL at which browsers reach the service. `docs` says
    /// whether the service serves its documentation there, so that problems can link to it.
    #[must_use]
    pub fn new(node: Node, limits: Limits, public_url: WebOrigin, docs: bool) -> Self {
        let store = Arc::clone(node.store());
        Self(Arc::new(Shared {
            money: Money::new(Arc::clone(&store)),
            verifier: Arc::new(CountedVerifier::new(node.clone())),
            usage: Arc::new(UsageBuffer::new(clock::since_boot)),
            node,
            store,
            limits,
            public_url,
            docs,
        }))
    }

    /// Returns the gate's verifier.
    #[must_use]
    pub fn verifier(&self) -> &Arc<CountedVerifier> {
        &self.verifier
    }

    /// Returns the URL at which browsers reach the service.
    #[must_use]
    pub fn public_url(&self) -> &WebOrigin {
        &self.public_url
    }

    /// Whether the service serves its documentation.
    pub(crate) fn docs(&self) -> bool {
        self.docs
    }

    pub(crate) fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Returns the rate limits of the node.
    pub(crate) fn limiter(&self) -> &Limiter {
        self.node.limiter()
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Returns the operations on money. A service also has to run `Money::release_holds`.
    #[must_use]
    pub fn money(&self) -> &Money {
        &self.money
    }

    /// Returns the buffer that counts the use of keys. A service also has to run
    /// `UsageBuffer::run`.
    #[must_use]
    pub fn usage(&self) -> &Arc<UsageBuffer> {
        &self.usage
    }
}
