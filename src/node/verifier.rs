use std::sync::Arc;

use tracing::warn;

use crate::{
    auth::{Denial, Denied, KeyVerifier, Presented, Principal, PrincipalParts, Verdict},
    domain::tenant::Tenant,
    store::{Store, StoreError, Verification},
};

/// Verifies a key by looking its SHA-256 up in the database.
pub struct StoreVerifier {
    store: Arc<Store>,
}

impl StoreVerifier {
    #[must_use]
    pub fn new(store: Arc<Store>) -> Self {
        Self { store }
    }
}

impl KeyVerifier for StoreVerifier {
    async fn verify(&self, presented: &Presented<'_>) -> Verdict {
        let key = presented.key;
        let tenant = match self.store.tenant_of_key(key).await {
            Ok(Some(tenant)) => tenant,
            Ok(None) => return Err(Denial::NotFound.into()),
            Err(error) => return Err(unavailable(&error)),
        };
        match self.store.verify_api_key(&tenant, &key.hash()).await {
            Ok(Some(verification)) => judge(&tenant, verification),
            Ok(None) => Err(Denial::NotFound.into()),
            Err(error) => Err(unavailable(&error)),
        }
    }
}

fn judge(tenant: &Tenant, verification: Verification) -> Verdict {
    let principal = Principal::new(
        PrincipalParts::new(
            tenant.slug.clone(),
            tenant.environment,
            verification.account,
            verification.key_id,
            verification.scopes,
        )
        .expiring(verification.expires_at),
    );
    match verification.verdict {
        Ok(()) => Ok(principal),
        Err(reason) => Err(Denied::of(principal, reason)),
    }
}

fn unavailable(error: &StoreError) -> Denied {
    // The denial has no cause, so the cause is logged here.
    warn!(error = error as &dyn std::error::Error, "a key could not be looked up");
    Denial::Unavailable.into()
}
