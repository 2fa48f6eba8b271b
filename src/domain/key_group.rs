//! Groups of keys that a change affects together.

use super::id::TenantId;

/// A group of keys, such as all keys of a tenant. There are only [`Self::COUNT`] groups, so the keys
/// of several tenants can be in one group. A cache that drops a whole group then drops more keys
/// than necessary, and reads them again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct KeyGroup(u8);

impl KeyGroup {
    /// Number of groups.
    pub const COUNT: usize = 256;

    /// Returns the group of a tenant's keys.
    #[must_use]
    pub fn of_tenant(tenant: TenantId) -> Self {
        // The last byte of a UUIDv7 is random.
        let [.., last] = *tenant.uuid().as_bytes();
        Self(last)
    }

    /// Returns the number of the group, which is less than [`Self::COUNT`].
    #[must_use]
    pub fn index(self) -> usize {
        self.0.into()
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn tenants_are_spread_over_all_groups() {
        let tenants = (0..1_024_u128).map(|number| TenantId::from_uuid(Uuid::from_u128(number)));
        let mut used = [false; KeyGroup::COUNT];
        tenants.for_each(|tenant| used[KeyGroup::of_tenant(tenant).index()] = true);
        assert!(used.iter().all(|used| *used));
    }
}
