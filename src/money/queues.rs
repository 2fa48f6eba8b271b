//! Operations that wait for a batch. Each account has a queue, and the accounts are served in
//! order.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use tokio::sync::oneshot;

use crate::{
    domain::{account::AccountId, tenant::Tenant},
    store::{BatchOutcome, MAX_BATCH, Operation, StoreError},
};

/// Maximum number of waiting operations of one account. Further requests get a 503.
pub(super) const MAX_WAITING_OF_ACCOUNT: usize = 2000;

/// Maximum number of waiting operations of all accounts together.
pub(super) const MAX_WAITING: usize = 50_000;

/// Maximum number of concurrent batches that skip locked accounts.
pub(super) const MOST_QUICK_LANES: usize = 4;

/// Maximum number of concurrent batches that wait for the lock of one account each.
pub(super) const PATIENT_LANES: usize = 2;

/// Maximum number of concurrent late batches, which are quick batches that are being retried.
const LATE_LANES: usize = 2;

/// The answer to one operation.
pub(super) type Answer = Result<BatchOutcome, StoreError>;

/// An operation, and the caller that waits for its answer.
pub(super) struct Waiting {
    pub operation: Operation,
    pub caller: Caller,
}

/// The waiting caller and its tenant. Counting the outcome needs the tenant even if the caller has
/// disconnected.
pub(super) struct Caller {
    pub tenant: Arc<Tenant>,
    pub answer: oneshot::Sender<Answer>,
}

/// How a batch treats accounts that another transaction has locked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Lane {
    /// The batch skips locked accounts. It never waits, and contains operations of many accounts.
    Quick,
    /// The batch waits for the lock of its only account.
    Patient,
    /// The batch was quick and is being retried. It no longer counts as a quick batch, so another
    /// one may run.
    Late,
}

/// The queues of all accounts. An account is in at most one batch at a time. Operations that arrive
/// during the batch wait for the next one. No timer delays a batch.
#[derive(Default)]
pub(super) struct Queues {
    accounts: HashMap<AccountId, VecDeque<Waiting>>,
    /// Accounts that have waiting operations and are in no batch, in the order in which they are
    /// served.
    ready: VecDeque<AccountId>,
    /// Accounts that have waiting operations, and that a batch found locked.
    locked: VecDeque<AccountId>,
    waiting: usize,
    /// Number of quick batches in progress.
    quick: usize,
    patient: usize,
    late: usize,
}

impl Queues {
    /// Appends an operation to its account's queue. Returns the operation if there is no room.
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

    /// Begins a batch in a lane if operations wait and fewer than `most` batches of the lane are in
    /// progress.
    pub fn begin(&mut self, lane: Lane, most: usize) -> bool {
        let (turns, under_way) = match lane {
            Lane::Quick => (&self.ready, &mut self.quick),
            Lane::Patient => (&self.locked, &mut self.patient),
            // A late lane never begins by itself. Only a quick lane becomes late.
            Lane::Late => return false,
        };
        let begins = !turns.is_empty() && *under_way < most;
        *under_way += usize::from(begins);
        begins
    }

    /// Takes the next batch of a lane that has begun. If the batch is empty, the lane has ended.
    /// Drops operations whose callers have disconnected.
    pub fn next(&mut self, lane: Lane) -> Vec<Waiting> {
        let mut batch = Vec::new();
        while batch.len() < MAX_BATCH {
            let turns = match lane {
                Lane::Quick => &mut self.ready,
                Lane::Patient => &mut self.locked,
                Lane::Late => break,
            };
            let Some(account_id) = turns.pop_front() else { break };
            let before = batch.len();
            let account =
                self.accounts.get_mut(&account_id).expect("an account in the order has a queue");
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
            self.end(lane);
        }
        batch
    }

    /// Ends the batch of an account. If more operations wait, the account joins the end of the
    /// order.
    pub fn rest(&mut self, account_id: AccountId) {
        let account = self.accounts.get(&account_id).expect("an account in a batch has a queue");
        if account.is_empty() {
            self.accounts.remove(&account_id);
        } else {
            self.ready.push_back(account_id);
        }
    }

    /// Puts the operations of a locked account back, ahead of operations that arrived later.
    pub fn put_back(&mut self, account_id: AccountId, operations: Vec<Waiting>) {
        let account =
            self.accounts.get_mut(&account_id).expect("an account in a batch has a queue");
        self.waiting += operations.len();
        for waiting in operations.into_iter().rev() {
            account.push_front(waiting);
        }
        self.locked.push_back(account_id);
    }

    /// Turns a quick batch into a late one, so that another quick batch can begin. Returns `false`
    /// if the late lanes are full.
    pub fn give_way(&mut self) -> bool {
        let gives_way = self.late < LATE_LANES;
        if gives_way {
            self.quick -= 1;
            self.late += 1;
        }
        gives_way
    }

    /// Ends a lane that has no more work, or that failed.
    pub fn end(&mut self, lane: Lane) {
        match lane {
            Lane::Quick => self.quick -= 1,
            Lane::Patient => self.patient -= 1,
            Lane::Late => self.late -= 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::{
        domain::{
            account::{AccountFormat, ExternalId},
            amount::Currency,
            api_key::KeyPrefix,
            id::{HoldId, KeyId, RequestId, TenantId},
            tenant::{Environment, TenantPolicy},
        },
        store::OperationAction,
    };

    /// Queues with operations, and the callers that wait for them.
    struct Callers {
        queues: Queues,
        tenant: Arc<Tenant>,
        waiting: Vec<oneshot::Receiver<Answer>>,
    }

    impl Callers {
        fn new() -> Self {
            let policy = TenantPolicy {
                prefix: KeyPrefix::parse("ta_").expect("a prefix"),
                currency: Currency::new("TRX", 6).expect("a currency"),
                account_format: AccountFormat::Any,
            };
            let slug = "tronagg".parse().expect("a slug");
            let id = TenantId::from_uuid(Uuid::nil());
            let tenant = Arc::new(Tenant { id, slug, environment: Environment::Live, policy });
            Self { queues: Queues::default(), tenant, waiting: Vec::new() }
        }

        fn account(&self, name: &str) -> AccountId {
            let name = ExternalId::parse(name, AccountFormat::Any).expect("an id");
            AccountId::derive(self.tenant.id, &name)
        }

        /// Queues an operation of the account. The request id of the operation is its position in
        /// the order of arrival. Returns whether there was room.
        fn enqueue(&mut self, account: &str) -> bool {
            let operation = Operation {
                account_id: self.account(account),
                key_id: KeyId::from_uuid(Uuid::nil()),
                request_id: RequestId::from_uuid(Uuid::from_u128(self.waiting.len() as u128)),
                action: OperationAction::Void { hold_id: HoldId::from_uuid(Uuid::nil()) },
            };
            let (answer, answered) = oneshot::channel();
            self.waiting.push(answered);
            let caller = Caller { tenant: Arc::clone(&self.tenant), answer };
            self.queues.push(Waiting { operation, caller }).is_none()
        }

        fn begin(&mut self, lane: Lane) -> Vec<Waiting> {
            assert!(self.queues.begin(lane, 2), "a batch begins");
            self.queues.next(lane)
        }

        fn rest(&mut self, account: &str) {
            let account_id = self.account(account);
            self.queues.rest(account_id);
        }
    }

    /// Returns the numbers of the operations, in the order of the batch.
    fn numbers(batch: &[Waiting]) -> Vec<u128> {
        batch.iter().map(|waiting| waiting.operation.request_id.uuid().as_u128()).collect()
    }

    #[test]
    fn batch_takes_all_waiting_operations_of_all_accounts() {
        let mut callers = Callers::new();
        for account in ["a", "b", "a", "c"] {
            assert!(callers.enqueue(account));
        }
        assert_eq!(callers.begin(Lane::Quick).len(), 4);
        assert!(callers.queues.next(Lane::Quick).is_empty(), "the lane has ended");
        for account in ["a", "b", "c"] {
            callers.rest(account);
        }
        assert!(callers.queues.accounts.is_empty() && callers.queues.waiting == 0);
        assert!(!callers.queues.begin(Lane::Quick, 2) && !callers.queues.begin(Lane::Patient, 2));
    }

    #[test]
    fn account_is_in_one_batch_at_a_time_and_the_next_batch_takes_all_waiting_operations() {
        let mut callers = Callers::new();
        callers.enqueue("a");
        assert_eq!(callers.begin(Lane::Quick).len(), 1);
        for _ in 0..5 {
            callers.enqueue("a");
        }
        assert!(!callers.queues.begin(Lane::Quick, 2) && !callers.queues.begin(Lane::Patient, 2));
        callers.rest("a");
        assert_eq!(callers.begin(Lane::Quick).len(), 5);
        callers.rest("a");
        assert!(callers.queues.accounts.is_empty());
    }

    #[test]
    fn operations_of_a_locked_account_wait_for_the_patient_lane_and_keep_their_order() {
        let mut callers = Callers::new();
        for _ in 0..3 {
            callers.enqueue("a");
        }
        let batch = callers.begin(Lane::Quick);
        assert_eq!(numbers(&batch), [0, 1, 2]);
        for _ in 0..2 {
            callers.enqueue("a");
        }
        let account_id = callers.account("a");
        callers.queues.put_back(account_id, batch);
        assert!(
            !callers.queues.begin(Lane::Quick, 2),
            "the patient lane takes the operations of the account"
        );
        assert_eq!(numbers(&callers.begin(Lane::Patient)), [0, 1, 2, 3, 4]);
        callers.rest("a");
        assert!(callers.queues.accounts.is_empty() && callers.queues.waiting == 0);
    }

    #[test]
    fn retried_batch_lets_another_quick_batch_begin() {
        let mut callers = Callers::new();
        let begin = |callers: &mut Callers| {
            callers.queues.begin(Lane::Quick, 1).then(|| callers.queues.next(Lane::Quick).len())
        };
        for (account, others) in [("a", LATE_LANES), ("b", LATE_LANES - 1)] {
            assert!(callers.enqueue(account));
            assert_eq!(begin(&mut callers), Some(1));
            assert!(callers.enqueue("other"));
            assert_eq!(begin(&mut callers), None, "the only lane is in use");
            assert!(callers.queues.give_way(), "{others} more batches may be late");
            assert_eq!(begin(&mut callers), Some(1));
            callers.rest("other");
            assert!(callers.queues.next(Lane::Quick).is_empty());
        }
        assert!(callers.enqueue("c"));
        assert_eq!(begin(&mut callers), Some(1));
        assert!(!callers.queues.give_way(), "all late lanes are in use");
        // After its decision, a late batch takes no more operations. Another batch may then become
        // late.
        callers.rest("a");
        assert!(callers.enqueue("a"));
        assert!(callers.queues.next(Lane::Late).is_empty());
        assert!(callers.queues.give_way());
        assert_eq!(begin(&mut callers), Some(1));
    }

    #[test]
    fn operation_of_a_disconnected_caller_is_not_in_the_next_batch() {
        let mut callers = Callers::new();
        callers.enqueue("a");
        callers.waiting.clear();
        assert!(callers.begin(Lane::Quick).is_empty());
        assert!(callers.queues.accounts.is_empty() && callers.queues.waiting == 0);
        assert_eq!(callers.queues.quick, 0);
    }

    #[test]
    fn queue_of_an_account_and_size_of_a_batch_are_limited() {
        let mut callers = Callers::new();
        for _ in 0..MAX_WAITING_OF_ACCOUNT {
            assert!(callers.enqueue("a"));
        }
        assert!(!callers.enqueue("a"));
        assert!(callers.enqueue("b"));
        assert_eq!(callers.begin(Lane::Quick).len(), MAX_BATCH);
        assert!(callers.enqueue("a"));
    }
}
