//! Entries of an account's ledger: what moved the balance, and by whose effect.

use std::fmt;

use uuid::Uuid;

use super::{
    id::{CreditId, PurchaseId, RefundId},
    text_enum::text_enum,
};

text_enum! {
    /// What moved the balance.
    pub enum EntryKind {
        Purchase = "purchase",
        Credit = "credit",
        Refund = "refund",
    }
}

text_enum! {
    /// `desc`: newest first. `asc`: oldest first.
    pub enum SortOrder: Default(NewestFirst) {
        OldestFirst = "asc",
        NewestFirst = "desc",
    }
}

/// The purchase, credit or refund that an entry is the effect of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EntryCause {
    Purchase(PurchaseId),
    Credit(CreditId),
    Refund(RefundId),
}

impl EntryCause {
    /// The cause of a stored entry.
    #[must_use]
    pub fn from_stored(kind: EntryKind, id: Uuid) -> Self {
        match kind {
            EntryKind::Purchase => Self::Purchase(PurchaseId::from_uuid(id)),
            EntryKind::Credit => Self::Credit(CreditId::from_uuid(id)),
            EntryKind::Refund => Self::Refund(RefundId::from_uuid(id)),
        }
    }

    #[must_use]
    pub fn kind(self) -> EntryKind {
        match self {
            Self::Purchase(_) => EntryKind::Purchase,
            Self::Credit(_) => EntryKind::Credit,
            Self::Refund(_) => EntryKind::Refund,
        }
    }

    #[must_use]
    pub fn uuid(self) -> Uuid {
        match self {
            Self::Purchase(id) => id.uuid(),
            Self::Credit(id) => id.uuid(),
            Self::Refund(id) => id.uuid(),
        }
    }
}

impl fmt::Display for EntryCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Purchase(id) => fmt::Display::fmt(id, f),
            Self::Credit(id) => fmt::Display::fmt(id, f),
            Self::Refund(id) => fmt::Display::fmt(id, f),
        }
    }
}

impl serde::Serialize for EntryCause {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(feature = "server")]
super::schema::named!(
    EntryCause,
    "EntryCauseId",
    super::id::schema(
        &[PurchaseId::PREFIX, CreditId::PREFIX, RefundId::PREFIX],
        "a purchase, a credit or a refund",
    )
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_read_back_by_its_kind() {
        let id = Uuid::from_u128(7);
        for (kind, prefix) in EntryKind::ALL.into_iter().zip(["pur_", "crd_", "rfd_"]) {
            let cause = EntryCause::from_stored(kind, id);
            assert_eq!((cause.kind(), cause.uuid()), (kind, id));
            assert!(cause.to_string().starts_with(prefix), "{cause}");
        }
    }
}
