//! The verifier of the service's gate. It wraps the node's verifier and counts the verdicts.

use std::{collections::HashMap, sync::Arc};

use arc_swap::ArcSwap;
use metrics::Counter;

use crate::{
    auth::{Denial, KeyVerifier, Presented, Verdict},
    domain::tenant::{Environment, Slug, Tenant},
    node::Node,
};

/// Verifies keys with the node, and counts the verdicts. It does not count a key of a tenant that
/// the route does not serve, because the gate refuses this key regardless of the verdict.
pub struct CountedVerifier {
    node: Node,
    /// The counters by tenant. A new tenant replaces the whole map, so that readers need no lock.
    /// New tenants are rare.
    counters: ArcSwap<HashMap<Slug, OfTenant>>,
    /// The counters for keys whose prefix belongs to no tenant.
    of_no_tenant: Counters,
}

impl CountedVerifier {
    pub fn new(node: Node) -> Self {
        Self { node, counters: ArcSwap::default(), of_no_tenant: Counters::new("", "") }
    }

    fn count(&self, presented: &Presented<'_>, verdict: &Verdict) {
        let (principal, denial) = match verdict {
            Ok(principal) => (Some(principal), None),
            Err(denied) => (denied.principal.as_ref(), Some(denied.reason)),
        };
        if let Some(principal) = principal {
            if presented.is_served(principal) {
                self.count_for(&principal.tenant, principal.environment, denial);
            }
        } else if let Some(tenant) = self.node.store().known_tenant_of_key(presented.key) {
            self.count_for(&tenant.slug, tenant.environment, denial);
        } else {
            self.of_no_tenant.count(denial);
        }
    }

    fn count_for(&self, slug: &Slug, environment: Environment, denial: Option<Denial>) {
        if let Some(known) = self.counters.load().get(slug) {
            known.of(environment).count(denial);
            return;
        }
        let new = OfTenant::new(slug);
        new.of(environment).count(denial);
        self.counters.rcu(|known| {
            let mut more = HashMap::clone(known);
            more.insert(slug.clone(), new.clone());
            more
        });
    }
}

impl KeyVerifier for CountedVerifier {
    async fn verify(&self, presented: &Presented<'_>) -> Verdict {
        let verdict = self.node.verify(presented).await;
        self.count(presented, &verdict);
        verdict
    }

    fn verify_at_once(&self, presented: &Presented<'_>) -> Option<Verdict> {
        let verdict = self.node.verifier().verify_at_once(presented)?;
        self.count(presented, &verdict);
        Some(verdict)
    }
}

/// The counters of a platform in both environments.
#[derive(Clone)]
struct OfTenant {
    live: Arc<Counters>,
    test: Arc<Counters>,
}

impl OfTenant {
    fn new(slug: &Slug) -> Self {
        let counters =
            |environment: Environment| Arc::new(Counters::new(slug.as_str(), environment.as_str()));
        Self { live: counters(Environment::Live), test: counters(Environment::Test) }
    }

    fn of(&self, environment: Environment) -> &Counters {
        match environment {
            Environment::Live => &self.live,
            Environment::Test => &self.test,
        }
    }
}

/// The counters of one tenant. They are looked up only once, because a lookup by labels takes
/// longer than a verification.
struct Counters {
    valid: Counter,
    /// The counters for refused keys, in the order of [`Denial::ALL`].
    denied: [Counter; Denial::ALL.len()],
}

impl Counters {
    fn new(tenant: &str, environment: &'static str) -> Self {
        Self {
            valid: counter(tenant, environment, "valid"),
            denied: std::array::from_fn(|index| {
                counter(tenant, environment, Denial::ALL[index].as_str())
            }),
        }
    }

    fn count(&self, denial: Option<Denial>) {
        let counter = denial.map_or(&self.valid, |denial| &self.denied[denial as usize]);
        counter.increment(1);
    }
}

/// Counts a verification by tenant and outcome.
pub fn count_for(tenant: &Tenant, outcome: &'static str) {
    counter(tenant.slug.as_str(), tenant.environment.as_str(), outcome).increment(1);
}

/// Counts a request without a verifiable key.
pub fn count_unverified(outcome: &str) {
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
