//! The gate of the service: the node's verifier, counted.

use crate::{
    auth::{KeyVerifier, Verdict},
    domain::{api_key::KeyText, tenant::Tenant},
    node::Node,
};

/// Verifies keys as the node does, and counts what it says.
pub struct CountedVerifier {
    node: Node,
}

impl CountedVerifier {
    pub fn new(node: Node) -> Self {
        Self { node }
    }

    fn count(&self, key: &KeyText, verdict: &Verdict) {
        let (principal, outcome) = match verdict {
            Ok(principal) => (Some(principal), "valid"),
            Err(denied) => (denied.principal.as_ref(), denied.reason.reason()),
        };
        if let Some(principal) = principal {
            count(principal.tenant.as_str(), principal.environment.as_str(), outcome);
        } else if let Some(tenant) = self.node.store().known_tenant_of_key(key) {
            count_for(&tenant, outcome);
        } else {
            count("", "", outcome);
        }
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
/// Counts a verification by tenant and outcome.
pub fn count_for(tenant: &Tenant, outcome: &'static str) {
    count(tenant.slug.as_str(), tenant.environment.as_str(), outcome);
}

/// The same where no tenant is known.
pub fn count(tenant: &str, environment: &'static str, outcome: &'static str) {
    metrics::counter!(
        "tollgate_verifications_total",
        "tenant" => tenant.to_owned(),
        "environment" => environment,
        "outcome" => outcome,
    )
    .increment(1);
}
