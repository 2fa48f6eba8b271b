//! What binds the gate to the store.

use std::sync::Arc;

use tracing::warn;

use crate::{
    auth::{Denial, KeyVerifier, Principal, PrincipalParts},
    domain::{api_key::KeyText, tenant::Tenant},
    store::{Store, StoreError, Verification},
};

/// Verifies a key by one indexed lookup of its SHA-256.
pub struct StoreVerifier {
    store: Arc<Store>,
}

impl StoreVerifier {
    pub fn new(store: Arc<Store>) -> Self {
        Self { store }
    }
}

impl KeyVerifier for StoreVerifier {
    async fn verify(&self, key: &KeyText) -> Result<Principal, Denial> {
        let tenant = match self.store.tenant_of_key(key).await {
            Ok(Some(tenant)) => tenant,
            Ok(None) => {
                count("", "", Denial::NotFound.reason());
                return Err(Denial::NotFound);
            }
            Err(error) => return Err(unavailable(&error)),
        };
        let result = match self.store.verify_api_key(&tenant, &key.hash()).await {
            Ok(Some(verification)) => admit(&tenant, verification),
            Ok(None) => Err(Denial::NotFound),
            Err(error) => Err(unavailable(&error)),
        };
        count_for(&tenant, result.as_ref().map_or_else(|denial| denial.reason(), |_| "valid"));
        result
    }
}

fn admit(tenant: &Tenant, verification: Verification) -> Result<Principal, Denial> {
    verification.verdict?;
    Ok(Principal::new(PrincipalParts {
        tenant: tenant.slug.clone(),
        environment: tenant.environment,
        account: verification.account,
        key_id: verification.key_id,
        scopes: verification.scopes,
        expires_at: verification.expires_at,
    }))
}

fn unavailable(error: &StoreError) -> Denial {
    // A denial carries no cause; this is where it is known.
    warn!(error = error as &dyn std::error::Error, "a key could not be looked up");
    Denial::Unavailable
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
