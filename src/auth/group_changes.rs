use super::sync::{AtomicU64, Ordering};
use crate::domain::key_group::KeyGroup;

/// The changes that were applied to groups of keys.
///
/// A change to a group takes the same short time for any number of cached keys. It removes no
/// entry. Instead, each entry contains the number of changes before its row was read, and the entry
/// is stale if its group has changed since.
pub struct GroupChanges {
    /// Number of changes to all groups.
    number: AtomicU64,
    /// For each group, the number of its newest change. The first change has the number 1.
    newest: Box<[AtomicU64]>,
}

impl GroupChanges {
    pub fn new() -> Self {
        let newest = (0..KeyGroup::COUNT).map(|_| AtomicU64::new(0)).collect();
        Self { number: AtomicU64::new(0), newest }
    }

    /// Returns the number of changes to all groups, for a row that is read from now on.
    pub fn number(&self) -> u64 {
        self.number.load(Ordering::Acquire)
    }

    /// Whether the group has not changed since there were `number` changes.
    pub fn is_current(&self, group: KeyGroup, number: u64) -> bool {
        self.newest[group.index()].load(Ordering::Acquire) <= number
    }

    /// Applies a change to a group. A row that was read before this call is stale afterwards.
    pub fn apply(&self, group: KeyGroup) {
        let number = self.number.fetch_add(1, Ordering::AcqRel) + 1;
        self.newest[group.index()].fetch_max(number, Ordering::AcqRel);
    }
}
