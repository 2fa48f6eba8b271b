//! The ledger entries and revocations that this node acknowledged recently. After a failover, the
//! node checks that the database still contains them. See [`lost_tail`](super::lost_tail).

use std::{
    collections::{HashSet, VecDeque},
    sync::Mutex,
    time::Duration,
};

use tokio::time::Instant;

use super::changes::lock;
use crate::domain::{
    account::{AccountId, ExternalId},
    audit::Origin,
    hold::VoidReason,
    id::{KeyId, TenantId},
    ledger_entry::EntryCause,
    text::Reason,
};

/// Time for which a node that renews its lease keeps an entry or a revocation. During an outage,
/// the node keeps all of them.
const KEPT_FOR: Duration = Duration::from_secs(60);

/// Maximum number of entries that a node keeps. The same maximum applies to revocations. The node
/// drops the oldest first.
const MAX_KEPT: usize = 65_536;

/// A ledger entry that this node acknowledged after its commit.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct AcknowledgedEntry {
    pub account_id: AccountId,
    pub seq: i64,
    pub cause: EntryCause,
}

/// A revocation of an API key that this node acknowledged after its commit. The value contains all
/// data that is needed to repeat the revocation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AcknowledgedRevoke {
    pub tenant_id: TenantId,
    pub account: ExternalId,
    pub key_id: KeyId,
    pub reason: Option<Reason>,
    pub void_reason: VoidReason,
    pub origin: Origin,
}

impl AcknowledgedRevoke {
    pub(super) fn account_id(&self) -> AccountId {
        AccountId::derive(self.tenant_id, &self.account)
    }
}

/// Entries and revocations that this node acknowledged recently, oldest first.
#[derive(Default)]
pub struct Acknowledged {
    entries: Mutex<Recent<AcknowledgedEntry>>,
    revokes: Mutex<Recent<AcknowledgedRevoke>>,
}

/// Entries and revocations that this node acknowledged before a failover, oldest first.
#[derive(Clone, Default, Debug)]
pub struct AcknowledgedTail {
    pub entries: Vec<AcknowledgedEntry>,
    pub revokes: Vec<AcknowledgedRevoke>,
}

impl Acknowledged {
    /// Adds the entries of a batch under one lock.
    pub(super) fn add_entries(&self, entries: impl Iterator<Item = AcknowledgedEntry>) {
        let now = Instant::now();
        let mut kept = lock(&self.entries);
        entries.for_each(|entry| kept.add(now, entry));
    }

    pub(super) fn add_revoke(&self, revoke: AcknowledgedRevoke) {
        lock(&self.revokes).add(Instant::now(), revoke);
    }

    /// Copies all entries and revocations.
    #[must_use]
    pub fn tail(&self) -> AcknowledgedTail {
        AcknowledgedTail {
            entries: lock(&self.entries).items().collect(),
            revokes: lock(&self.revokes).items().collect(),
        }
    }

    /// Drops everything that is older than a minute. Call it only while the node renews its lease.
    pub fn forget_old(&self) {
        // `None` means that this machine started less than a minute ago.
        if let Some(oldest) = Instant::now().checked_sub(KEPT_FOR) {
            lock(&self.entries).forget_before(oldest);
            lock(&self.revokes).forget_before(oldest);
        }
    }

    /// Drops entries that are lost, so that the next check does not report them again.
    pub fn forget_entries(&self, lost: &[AcknowledgedEntry]) {
        let lost: HashSet<_> = lost.iter().collect();
        lock(&self.entries).0.retain(|(_, entry)| !lost.contains(entry));
    }
}

struct Recent<T>(VecDeque<(Instant, T)>);

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T: Clone> Recent<T> {
    fn add(&mut self, now: Instant, item: T) {
        if self.0.len() == MAX_KEPT {
            self.0.pop_front();
        }
        self.0.push_back((now, item));
    }

    fn items(&self) -> impl Iterator<Item = T> {
        self.0.iter().map(|(_, item)| item.clone())
    }

    fn forget_before(&mut self, oldest: Instant) {
        while self.0.front().is_some_and(|(at, _)| *at < oldest) {
            self.0.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::domain::id::PurchaseId;

    fn entry(seq: i64) -> AcknowledgedEntry {
        let cause = EntryCause::Purchase(PurchaseId::from_uuid(Uuid::nil()));
        AcknowledgedEntry { account_id: AccountId::from_uuid(Uuid::nil()), seq, cause }
    }

    fn seqs(acknowledged: &Acknowledged) -> Vec<i64> {
        acknowledged.tail().entries.iter().map(|entry| entry.seq).collect()
    }

    #[test]
    fn forget_before_drops_only_older_items() {
        let (mut recent, begin) = (Recent::default(), Instant::now());
        for seconds in 1..=5 {
            recent.add(begin + Duration::from_secs(seconds), seconds);
        }
        recent.forget_before(begin);
        assert_eq!(recent.items().count(), 5);
        recent.forget_before(begin + Duration::from_secs(3));
        assert_eq!(recent.items().collect::<Vec<_>>(), [3, 4, 5]);
    }

    #[test]
    fn node_keeps_recent_entries() {
        let acknowledged = Acknowledged::default();
        acknowledged.add_entries([entry(1), entry(2)].into_iter());
        acknowledged.forget_old();
        assert_eq!(seqs(&acknowledged), [1, 2]);
    }

    #[test]
    fn node_drops_the_oldest_entries_above_the_maximum() {
        let acknowledged = Acknowledged::default();
        let most = i64::try_from(MAX_KEPT).expect("a number");
        acknowledged.add_entries((1..=most + 2).map(entry));
        let kept = seqs(&acknowledged);
        assert_eq!((kept.len(), kept[0], kept[MAX_KEPT - 1]), (MAX_KEPT, 3, most + 2));
    }

    #[test]
    fn node_forgets_lost_entries() {
        let acknowledged = Acknowledged::default();
        acknowledged.add_entries((1..=4).map(entry));
        acknowledged.forget_entries(&[entry(2), entry(4), entry(9)]);
        assert_eq!(seqs(&acknowledged), [1, 3]);
    }
}
