//! What all handlers share, and the bounds of a request.

use std::{ops::Deref, sync::Arc, time::Duration};

use crate::{
    clock,
    domain::dashboard::WebOrigin,
    money::Money,
    node::{CountedVerifier, Node},
    store::Store,
    usage::UsageBuffer,
};

/// What handlers share.
#[derive(Clone)]
pub struct AppState(Arc<Shared>);

/// Behind one pointer: a request clones it more than once.
pub struct Shared {
    pub(crate) store: Arc<Store>,
    pub(crate) money: Money,
    pub(crate) node: Node,
    pub(crate) verifier: Arc<CountedVerifier>,
    pub(crate) usage: Arc<UsageBuffer>,
    pub(crate) limits: Limits,
    pub(crate) public_url: WebOrigin,
}

/// Bounds of one request.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a request's body.
    pub body_bytes: usize,
    /// For the whole body to come.
    pub body_timeout: Duration,
    /// From the headers of the request to the answer.
    pub request_timeout: Duration,
    /// A request that takes longer is logged.
    pub slow_request: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 16 * 1024,
            body_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(15),
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
    /// `public_url` is what browsers call the service.
    #[must_use]
    pub fn new(node: Node, limits: Limits, public_url: WebOrigin) -> Self {
        let store = Arc::clone(node.store());
        Self(Arc::new(Shared {
            money: Money::new(Arc::clone(&store)),
            verifier: Arc::new(CountedVerifier::new(node.clone())),
            usage: Arc::new(UsageBuffer::new(clock::since_boot)),
            node,
            store,
            limits,
            public_url,
        }))
    }

    /// The gate's verifier.
    #[must_use]
    pub fn verifier(&self) -> &Arc<CountedVerifier> {
        &self.verifier
    }

    /// Where browsers find the service.
    #[must_use]
    pub fn public_url(&self) -> &WebOrigin {
        &self.public_url
    }

    pub(crate) fn store(&self) -> &Arc<Store> {
        &self.store
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What moves money. Holds that are due are released by who runs it.
    #[must_use]
    pub fn money(&self) -> &Money {
        &self.money
    }

    /// Where it is counted how keys are used. What is in it is written by who runs it.
    #[must_use]
    pub fn usage(&self) -> &Arc<UsageBuffer> {
        &self.usage
    }
}
