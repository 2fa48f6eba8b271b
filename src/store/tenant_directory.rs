use std::{
    collections::HashMap,
    sync::{Arc, RwLock},
    time::{Duration, Instant},
};

use tokio::sync::Mutex;

use crate::domain::{
    api_key::KeyText,
    id::TenantId,
    tenant::{Environment, Slug, Tenant},
};

/// The shortest interval at which unknown key prefixes make a node look for new tenants. The same
/// interval applies to unknown tenant names.
pub(super) const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// When new tenants were last looked for, and whether the database answered. The lock is held
/// during the search: one task looks, and the others wait for the result.
pub(super) type Looked = Mutex<Option<(Instant, bool)>>;

/// The tenants that this node knows. Tenants are never changed or deleted, so only new ones have to
/// be looked for.
#[derive(Default)]
pub(super) struct TenantDirectory {
    known: RwLock<Known>,
    pub looked_for_prefix: Looked,
    /// Separate from `looked_for_prefix`, so that a client that tries many names does not delay the
    /// keys of a new tenant.
    pub looked_for_name: Looked,
}

#[derive(Default)]
struct Known {
    by_id: HashMap<TenantId, Arc<Tenant>>,
    by_prefix: HashMap<Box<str>, Arc<Tenant>>,
    /// One for each environment.
    by_slug: HashMap<Slug, Vec<Arc<Tenant>>>,
}

impl TenantDirectory {
    pub fn by_id(&self, id: TenantId) -> Option<Arc<Tenant>> {
        self.read(|known| known.by_id.get(&id).cloned())
    }

    pub fn by_prefix_of(&self, key: &KeyText) -> Option<Arc<Tenant>> {
        self.read(|known| known.by_prefix.get(key.prefix()).cloned())
    }

    pub fn by_name(&self, slug: &Slug, environment: Environment) -> Option<Arc<Tenant>> {
        self.read(|known| {
            let tenants = known.by_slug.get(slug)?;
            tenants.iter().find(|tenant| tenant.environment == environment).cloned()
        })
    }

    pub fn add(&self, tenants: impl IntoIterator<Item = Tenant>) {
        let mut known = self.known.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        for tenant in tenants.into_iter().map(Arc::new) {
            known.by_id.insert(tenant.id, Arc::clone(&tenant));
            known.by_prefix.insert(tenant.policy.prefix.as_str().into(), Arc::clone(&tenant));
            let of_slug = known.by_slug.entry(tenant.slug.clone()).or_default();
            of_slug.retain(|other| other.environment != tenant.environment);
            of_slug.push(tenant);
        }
    }

    fn read<T>(&self, look_up: impl FnOnce(&Known) -> T) -> T {
        // No step of an insertion leaves a map inconsistent, so a panic does no harm to readers.
        look_up(&self.known.read().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}
