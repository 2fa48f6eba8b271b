use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tracing::{info, warn};

use crate::{
    auth::{Denial, Denied, KeyLimits, KeyLookup, Presented, Principal, PrincipalParts, Verdict},
    clock,
    domain::{key_group::KeyGroup, server::ServerId, tenant::Tenant},
    limits::Limiter,
    store::{KeyRead, Store, StoreError, Verification},
};

/// Looks up a key in the database by its SHA-256.
pub struct StoreLookup {
    store: Arc<Store>,
    limiter: Arc<Limiter>,
    /// The time since boot, in seconds, at which the last failure was logged. 0 means that no
    /// failure is known.
    failing_since: AtomicU64,
}

impl StoreLookup {
    #[must_use]
    pub fn new(store: Arc<Store>, limiter: Arc<Limiter>) -> Self {
        Self { store, limiter, failing_since: AtomicU64::new(0) }
    }

    fn judge(&self, tenant: &Tenant, verification: Verification) -> Verdict {
        let limits = self.limiter.limits_of(&verification.limits);
        let principal = Principal::new(
            PrincipalParts::new(
                tenant.slug.clone(),
                tenant.environment,
                verification.account,
                verification.key_id,
                verification.scopes,
            )
            .expiring(verification.expires_at)
            .allowed_from(verification.allowed_ips)
            .in_group(KeyGroup::of_tenant(tenant.id))
            .limited(limits.map(|limits| limits as Arc<dyn KeyLimits>)),
        );
        match verification.verdict {
            Ok(()) => Ok(principal),
            Err(reason) => Err(Denied::of(principal, reason)),
        }
    }

    /// Logs the cause of the first failure, because the denial does not contain it. During an
    /// outage, every request with an uncached key fails.
    fn unavailable(&self, error: &StoreError) -> Denied {
        let second = clock::since_boot().as_secs().max(1);
        let first =
            self.failing_since.compare_exchange(0, second, Ordering::Relaxed, Ordering::Relaxed);
        if first.is_ok() {
            warn!(error = error as &dyn std::error::Error, "key lookups fail");
        }
        Denial::Unavailable.into()
    }

    /// Logs that lookups work again. If the failures began within the current second, it logs
    /// nothing, because other lookups may still fail.
    fn answered(&self) {
        let since = self.failing_since.load(Ordering::Relaxed);
        if since == 0 || since == clock::since_boot().as_secs().max(1) {
            return;
        }
        if self.failing_since.swap(0, Ordering::Relaxed) != 0 {
            info!("key lookups work again");
        }
    }
}

impl KeyLookup for StoreLookup {
    async fn look_up(&self, presented: &Presented<'_>, server: ServerId) -> Option<Verdict> {
        let key = presented.key;
        let tenant = match self.store.tenant_of_key(key).await {
            Ok(Some(tenant)) => tenant,
            Ok(None) => return Some(Err(Denial::NotFound.into())),
            Err(error) => return Some(Err(self.unavailable(&error))),
        };
        let read = self.store.verify_api_key(&tenant, &key.hash(), server).await;
        if read.is_ok() {
            self.answered();
        }
        match read {
            Ok(KeyRead::Found(verification)) => Some(self.judge(&tenant, verification)),
            Ok(KeyRead::NotFound) => Some(Err(Denial::NotFound.into())),
            Ok(KeyRead::OtherServer) => None,
            Err(error) => Some(Err(self.unavailable(&error))),
        }
    }
}
