//! The observable state of an account.

use std::collections::BTreeMap;

use time::Date;
use tollgate::domain::{
    hold::{HoldStatus, VoidReason},
    id::{HoldId, PurchaseId},
    ledger_entry::EntryKind,
    timestamp::Timestamp,
};

#[derive(PartialEq, Debug)]
pub struct View {
    pub balance: i64,
    pub held: i64,
    pub suspended: bool,
    pub last_seq: i64,
    pub last_entry_at: Option<Timestamp>,
    pub entries: Vec<Entry>,
    pub holds: BTreeMap<HoldId, Hold>,
    /// Maps the first key of each rotation chain to the chain's spend counter, which all of its
    /// keys share.
    pub spent: BTreeMap<usize, Spent>,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Entry {
    pub seq: i64,
    pub kind: EntryKind,
    pub amount: i64,
    pub balance_after: i64,
    pub at: Timestamp,
    /// `None` unless the entry is a purchase.
    pub bought: Option<Bought>,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Bought {
    /// Index of the key in the account.
    pub key: usize,
    pub id: PurchaseId,
    pub hold: Option<HoldId>,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Hold {
    pub key: usize,
    pub amount: i64,
    pub expires_at: Timestamp,
    pub status: HoldStatus,
    pub void_reason: Option<VoidReason>,
    pub captured: Option<i64>,
    pub purchase: Option<PurchaseId>,
}

/// A spend counter: the spending on the day of the newest purchase, in the month of this purchase,
/// and in total.
#[derive(PartialEq, Debug)]
pub struct Spent {
    pub day: Date,
    pub in_day: i64,
    pub month: Date,
    pub in_month: i64,
    pub total: i64,
}
