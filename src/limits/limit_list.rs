use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    auth::{ItemName, PolicyField, ShownLimit},
    domain::rate_limit::{LimitLevel, RateLimit},
    store::LimitSet,
};

/// Maximum number of lists that are kept. When it is reached, all of them are dropped.
const MAX_LISTS: usize = 1024;

/// The rate limits that apply to the calls of a key. Many keys share a list.
pub struct LimitList {
    limits: LimitSet,
    /// The name of each limit in responses. `None` for a tenant's limit, because its remainder would
    /// reveal the traffic of the whole platform.
    names: Vec<Option<ItemName>>,
    /// The policy field of the responses, if it is the same for all calls.
    policy: Option<PolicyField>,
}

impl LimitList {
    /// Prepares the texts that responses to calls with these limits have in common.
    #[must_use]
    pub fn new(limits: LimitSet) -> Self {
        let name = |(level, limit): &(LimitLevel, RateLimit)| {
            (*level != LimitLevel::Tenant).then(|| ItemName::new(*level, &limit.name))
        };
        let names = limits.iter().map(name).collect();
        let mut list = Self { limits, names, policy: None };
        if list.limits.iter().all(|(_, limit)| limit.scope.is_none()) {
            list.policy = Some(PolicyField::new(list.iter().filter_map(ListedLimit::shown)));
        }
        list
    }

    /// Returns the limits, in the order key, account, tenant.
    pub(super) fn iter(&self) -> impl Iterator<Item = ListedLimit<'_>> {
        let named = self.limits.iter().zip(&self.names);
        named.map(|((level, limit), name)| ListedLimit {
            level: *level,
            limit,
            name: name.as_ref(),
        })
    }

    /// Returns the number of limits.
    pub(super) fn len(&self) -> usize {
        self.limits.len()
    }

    /// Returns the policy field, if every limit counts every call.
    pub(super) fn policy(&self) -> Option<&PolicyField> {
        self.policy.as_ref()
    }
}

/// A limit in a list.
#[derive(Clone, Copy)]
pub(super) struct ListedLimit<'a> {
    pub level: LimitLevel,
    pub limit: &'a RateLimit,
    pub name: Option<&'a ItemName>,
}

impl<'a> ListedLimit<'a> {
    /// Shows the limit without a running window, if responses show it.
    pub fn shown(self) -> Option<ShownLimit<'a>> {
        let RateLimit { calls, window, .. } = *self.limit;
        let remaining = calls.get();
        Some(ShownLimit { name: self.name?, calls, window, remaining, resets_in: None })
    }
}

/// The prepared lists, by the addresses of their sets of limits.
#[derive(Default)]
pub struct LimitLists(Mutex<HashMap<usize, Arc<LimitList>>>);

impl LimitLists {
    /// Returns the list with this set of limits.
    pub fn get(&self, limits: &LimitSet) -> Arc<LimitList> {
        // No operation leaves the map inconsistent, so a panic in another thread is harmless.
        let mut lists = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The list keeps its set, so no other set gets the address while the list is in the map.
        let address = Arc::as_ptr(limits).cast::<()>().addr();
        if let Some(list) = lists.get(&address) {
            return Arc::clone(list);
        }
        if lists.len() == MAX_LISTS {
            lists.clear();
        }
        let list = Arc::new(LimitList::new(Arc::clone(limits)));
        lists.insert(address, Arc::clone(&list));
        list
    }
}
