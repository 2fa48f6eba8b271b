//! What waits to be applied: a queue for each account, and which of them is whose turn.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use tokio::sync::oneshot;

use crate::{
    domain::{account::AccountId, tenant::Tenant},
    store::{MAX_BATCH, Operation, Outcome, StoreError},
};

/// Operations of one account that wait at the most; a further one is a 503.
pub(super) const MAX_WAITING_OF_ACCOUNT: usize = 2000;

/// Operations that wait at the most, of all accounts together.
pub(super) const MAX_WAITING: usize = 50_000;

/// The answer to one operation.
pub(super) type Answer = Result<Outcome, StoreError>;

/// An operation, and who waits for what becomes of it.
pub(super) struct Waiting {
    pub operation: Operation,
    pub caller: Caller,
}

/// Who waits, and for which platform: it is counted what became of it, whether he waits or not.
pub(super) struct Caller {
    pub tenant: Arc<Tenant>,
    pub answer: oneshot::Sender<Answer>,
}

/// How a batch treats accounts that somebody else has locked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Lane {
    /// It leaves them out: it never waits, and has room for many accounts.
    Quick,
    /// It waits for one.
    Patient,
}

/// The queues of all accounts. An account is in one batch at a time: what comes meanwhile gathers
/// for the next. There is no timer.
#[derive(Default)]
pub(super) struct Queues {
    accounts: HashMap<AccountId, VecDeque<Waiting>>,
    /// Accounts with something that waits and that are in no batch, in the order of their turns.
    ready: VecDeque<AccountId>,
    /// Those of them that were locked when they were tried.
    locked: VecDeque<AccountId>,
    waiting: usize,
    /// Batches that are under way.
    quick: usize,
    patient: usize,
}

impl Queues {
    /// Puts an operation at the end of its account's queue; gives it back when there is no room.
    pub fn push(&mut self, waiting: Waiting) -> Option<Waiting> {
        if self.waiting >= MAX_WAITING {
            return Some(waiting);
        }
        let account_id = waiting.operation.account_id;
        if let Some(account) = self.accounts.get_mut(&account_id) {
            if account.len() >= MAX_WAITING_OF_ACCOUNT {
                return Some(waiting);
            }
            account.push_back(waiting);
        } else {
            self.accounts.insert(account_id, VecDeque::from([waiting]));
            self.ready.push_back(account_id);
        }
        self.waiting += 1;
        None
    }

    /// Begins a batch in a lane, if there is one to begin and fewer than `most` are under way.
    pub fn begin(&mut self, lane: Lane, most: usize) -> bool {
        let (turns, under_way) = match lane {
            Lane::Quick => (&self.ready, &mut self.quick),
            Lane::Patient => (&self.locked, &mut self.patient),
        };
        let begins = !turns.is_empty() && *under_way < most;
        *under_way += usize::from(begins);
        begins
    }

    /// The next batch of a lane that has begun; nothing: it is over. Whoever went away while he
    /// waited has asked for nothing.
    pub fn next(&mut self, lane: Lane) -> Vec<Waiting> {
        let mut batch = Vec::new();
        while batch.len() < MAX_BATCH {
            let turns = match lane {
                Lane::Quick => &mut self.ready,
                Lane::Patient => &mut self.locked,
            };
            let Some(account_id) = turns.pop_front() else { break };
            let before = batch.len();
            let account = self.accounts.get_mut(&account_id).expect("what has a turn has a queue");
            while batch.len() < MAX_BATCH
                && let Some(waiting) = account.pop_front()
            {
                self.waiting -= 1;
                if !waiting.caller.answer.is_closed() {
                    batch.push(waiting);
                }
            }
            if batch.len() == before {
                self.rest(account_id);
            } else if lane == Lane::Patient {
                break;
            }
        }
        if batch.is_empty() {
            match lane {
                Lane::Quick => self.quick -= 1,
                Lane::Patient => self.patient -= 1,
            }
        }
        batch
    }

    /// An account is out of its batch: it has its next turn, or nothing waits any more.
    pub fn rest(&mut self, account_id: AccountId) {
        let account = self.accounts.get(&account_id).expect("an account in a batch has a queue");
        if account.is_empty() {
            self.accounts.remove(&account_id);
        } else {
            self.ready.push_back(account_id);
        }
    }

    /// An account was locked: its operations wait on, before those that came later.
    pub fn put_back(&mut self, account_id: AccountId, operations: Vec<Waiting>) {
        let account =
            self.accounts.get_mut(&account_id).expect("an account in a batch has a queue");
        self.waiting += operations.len();
        for waiting in operations.into_iter().rev() {
            account.push_front(waiting);
        }
        self.locked.push_back(account_id);
    }

    /// A batch broke off without an answer.
    pub fn abandon(&mut self, lane: Lane) {
        match lane {
            Lane::Quick => self.quick -= 1,
            Lane::Patient => self.patient -= 1,
        }
    }
}
