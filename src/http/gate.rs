//! The gate of the service: the node's verifier, counted.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use metrics::Counter;

use crate::{
    auth::{Denial, KeyVerifier, Verdict},
    domain::{
        api_key::KeyText,
        tenant::{Environment, Slug, Tenant},
    },
    node::Node,
};

/// Verifies keys as the node does, and counts what it says.
pub struct CountedVerifier {
    node: Node,
    counters: RwLock<HashMap<(Slug, Environment), Arc<Counters>>>,
    /// Of keys whose prefix no tenant has.
    of_no_tenant: Counters,
}

impl CountedVerifier {
    pub(super) fn new(node: Node) -> Self {
        Self { node, counters: RwLock::default(), of_no_tenant: Counters::new("", "") }
    }

    fn count(&self, key: &KeyText, verdict: &Verdict) {
        let (principal, denial) = match verdict {
            Ok(principal) => (Some(principal), None),
            Err(denied) => (denied.principal.as_ref(), Some(denied.reason)),
        };
        if let Some(principal) = principal {
            self.of_tenant(&principal.tenant, principal.environment).count(denial);
        } else if let Some(tenant) = self.node.store().known_tenant_of_key(key) {
            self.of_tenant(&tenant.slug, tenant.environment).count(denial);
        } else {
            self.of_no_tenant.count(denial);
        }
    }

    fn of_tenant(&self, slug: &Slug, environment: Environment) -> Arc<Counters> {
        // The map is whole after each of its operations: a panic elsewhere harms nothing.
        let tenant = (slug.clone(), environment);
        let known = self.counters.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(counters) = known.get(&tenant) {
            return Arc::clone(counters);
        }
        drop(known);
        let new = Counters::new(slug.as_str(), environment.as_str());
        let mut known = self.counters.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(known.entry(tenant).or_insert_with(|| Arc::new(new)))
    }
}

impl KeyVerifier for CountedVerifier {
    async fn verify(&self, key: &KeyText) -> Verdict {
        let verdict = self.node.verifier().verify(key).await;
        self.count(key, &verdict);
        verdict
    }

    fn verify_at_once(&self, key: &KeyText) -> Option<Verdict> {
        let verdict = self.node.verifier().verify_at_once(key)?;
        self.count(key, &verdict);
        Some(verdict)
    }
}

/// The counters of one tenant, found once: to name one by its labels takes longer than a
/// verification.
struct Counters {
    valid: Counter,
    /// In the order of [`Denial::ALL`].
    denied: [Counter; Denial::ALL.len()],
}

impl Counters {
    fn new(tenant: &str, environment: &'static str) -> Self {
        Self {
            valid: counter(tenant, environment, "valid"),
            denied: Denial::ALL.map(|denial| counter(tenant, environment, denial.reason())),
        }
    }

    fn count(&self, denial: Option<Denial>) {
        let counter = denial.map_or(&self.valid, |denial| &self.denied[denial as usize]);
        counter.increment(1);
    }
}

/// Counts a verification by tenant and outcome.
pub(super) fn count_for(tenant: &Tenant, outcome: &'static str) {
    counter(tenant.slug.as_str(), tenant.environment.as_str(), outcome).increment(1);
}

/// Counts a request that carried nothing to be verified.
pub(super) fn count_unverified(outcome: &str) {
    counter("", "", outcome).increment(1);
}

fn counter(tenant: &str, environment: &'static str, outcome: &str) -> Counter {
    metrics::counter!(
        "tollgate_verifications_total",
        "tenant" => tenant.to_owned(),
        "environment" => environment,
        "outcome" => outcome.to_owned(),
    )
}
