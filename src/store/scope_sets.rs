use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use super::StoreError;
use crate::domain::scope::ScopeSet;

/// Maximum number of cached sets. When it is reached, all of them are dropped.
const MAX_SETS: usize = 1024;

/// The scope sets of keys. Equal sets share memory, because a million keys have only a few
/// different sets.
#[derive(Default)]
pub(super) struct ScopeSets(Mutex<HashMap<Vec<String>, ScopeSet>>);

impl ScopeSets {
    pub fn get(&self, stored: &[String]) -> Result<ScopeSet, StoreError> {
        // No operation leaves the map inconsistent, so a panic in another thread is harmless.
        let mut sets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(set) = sets.get(stored) {
            return Ok(set.clone());
        }
        let set = stored_scopes(stored)?;
        if sets.len() == MAX_SETS {
            sets.clear();
        }
        sets.insert(stored.to_vec(), set.clone());
        Ok(set)
    }
}

pub(super) fn stored_scopes(scopes: &[String]) -> Result<ScopeSet, StoreError> {
    ScopeSet::parse(scopes).map_err(|error| StoreError::corrupt("api_keys.scopes", error))
}
