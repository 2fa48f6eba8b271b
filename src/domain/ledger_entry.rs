//! Entries of an account's ledger. An entry records a movement of the balance and its cause.

use std::{fmt, str::FromStr};

use uuid::Uuid;

use super::{
    id::{CreditId, MalformedId, PurchaseId, RefundId},
    text_enum::text_enum,
};

text_enum! {
    /// The kind of operation that moved the balance.
    pub enum EntryKind {
        /// A purchase, which lowers the balance.
        Purchase = "purchase",
        /// A credit (a top-up), which raises the balance.
        Credit = "credit",
        /// A refund of a purchase, in whole or in part, which raises the balance.
        Refund = "refund",
    }
}

text_enum! {
    /// `desc`: newest first. `asc`: oldest first.
    pub enum SortOrder: Default(NewestFirst) {
        /// In ascending order of time.
        OldestFirst = "asc",
        /// In descending order of time.
        NewestFirst = "desc",
    }
}

/// The purchase, credit or refund that caused an entry.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum EntryCause {
    /// The purchase whose amount was taken from the balance.
    Purchase(PurchaseId),
    /// The credit whose amount was added to the balance.
    Credit(CreditId),
    /// The refund whose amount was added to the balance.
    Refund(RefundId),
}

impl EntryCause {
    /// Restores the cause of a stored entry.
    #[must_use]
    pub fn from_stored(kind: EntryKind, id: Uuid) -> Self {
        match kind {
            EntryKind::Purchase => Self::Purchase(PurchaseId::from_uuid(id)),
            EntryKind::Credit => Self::Credit(CreditId::from_uuid(id)),
            EntryKind::Refund => Self::Refund(RefundId::from_uuid(id)),
        }
    }

    /// Returns the kind of the cause, which the database stores alongside [`Self::uuid`].
    #[must_use]
    pub fn kind(self) -> EntryKind {
        match self {
            Self::Purchase(_) => EntryKind::Purchase,
            Self::Credit(_) => EntryKind::Credit,
            Self::Refund(_) => EntryKind::Refund,
        }
    }

    /// Returns the stored UUID of the cause, without its type.
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

impl FromStr for EntryCause {
    type Err = MalformedId;

    fn from_str(text: &str) -> Result<Self, MalformedId> {
        let purchase = text.parse().map(Self::Purchase);
        let credit = || text.parse().map(Self::Credit);
        let refund = || text.parse().map(Self::Refund);
        purchase.or_else(|_| credit()).or_else(|_| refund())
    }
}

impl serde::Serialize for EntryCause {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

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
    fn stored_cause_is_restored_from_its_kind() {
        let id = Uuid::from_u128(7);
        for (kind, prefix) in EntryKind::ALL.iter().copied().zip(["pur_", "crd_", "rfd_"]) {
            let cause = EntryCause::from_stored(kind, id);
            assert_eq!((cause.kind(), cause.uuid()), (kind, id));
            assert!(cause.to_string().starts_with(prefix), "{cause}");
            assert_eq!(cause.to_string().parse(), Ok(cause));
        }
    }
}
