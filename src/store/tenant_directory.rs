use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use tokio::sync::Mutex;

use super::servers::Epoch;
use crate::domain::{
    api_key::KeyText,
    id::TenantId,
    tenant::{Environment, Slug, Tenant},
};

/// Minimum interval between two searches for new tenants. Searches for unknown key prefixes and
/// searches for unknown names have separate intervals.
pub(super) const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The last search for new tenants. The searching task holds the lock, so that the other tasks wait
/// for its result.
pub(super) type Looked = Mutex<Option<LastSearch>>;

pub(super) struct LastSearch {
    pub ended: Instant,
    /// Whether the database responded.
    pub found_out: bool,
    /// Number of times that the directory had been cleared when the search began.
    pub clears: u64,
    /// The session in which the search began. Another server may have other tenants.
    pub epoch: Epoch,
}

/// The tenants that this node knows, without their statuses. This version never deletes a tenant or
/// changes anything else, so only new tenants have to be read. A notification from a newer version may clear the directory.
#[derive(Default)]
pub(super) struct TenantDirectory {
    known: RwLock<Known>,
    pub looked_for_prefix: Looked,
    /// The last search for an unknown name. It is separate from `looked_for_prefix`, so that a
    /// client that tries many names does not delay keys of a new tenant.
    pub looked_for_name: Looked,
}

#[derive(Default)]
struct Known {
    /// Number of times that the directory was cleared.
    clears: u64,
    by_id: HashMap<TenantId, Arc<Tenant>>,
    by_prefix: HashMap<Box<str>, Arc<Tenant>>,
    /// For each slug, its tenants, one for each environment.
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

    /// Returns the number of times that the directory was cleared, for [`Self::add`].
    pub fn clears(&self) -> u64 {
        self.read(|known| known.clears)
    }

    /// Adds tenants that were read when the directory had been cleared `clears` times. If the
    /// directory has been cleared since, the tenants may have changed, so this adds none of them
    /// and returns `false`.
    pub fn add(&self, clears: u64, tenants: impl IntoIterator<Item = Tenant>) -> bool {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.clears != clears {
            return false;
        }
        for tenant in tenants.into_iter().map(Arc::new) {
            known.by_id.insert(tenant.id, Arc::clone(&tenant));
            known.by_prefix.insert(tenant.policy.prefix.as_str().into(), Arc::clone(&tenant));
            let of_slug = known.by_slug.entry(tenant.slug.clone()).or_default();
            of_slug.retain(|other| other.environment != tenant.environment);
            of_slug.push(tenant);
        }
        true
    }

    /// Forgets all tenants.
    pub fn clear(&self) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        *known = Known { clears: known.clears + 1, ..Known::default() };
    }

    fn read<T>(&self, look_up: impl FnOnce(&Known) -> T) -> T {
        // No step of an insertion leaves a map inconsistent, so a panic does not harm readers.
        look_up(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }
}
