//! Takes operations from the queues, applies them in batches, and answers each caller.

use std::{
    cell::RefCell,
    collections::HashMap,
    num::NonZero,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::available_parallelism,
    time::Duration,
};

use metrics::Counter;
use tokio::{sync::oneshot, time::Instant};
use tracing::{error, info, warn};

use super::queues::{Answer, Caller, Lane, MOST_QUICK_LANES, PATIENT_LANES, Queues, Waiting};
use crate::{
    clock,
    domain::{
        account::AccountId,
        id::{BatchId, TenantId},
        tenant::Tenant,
    },
    entropy,
    store::{
        Batch, BatchConnection, BatchOutcome, Decline, Done, Operation, Refusal, Store, StoreError,
    },
};

/// Time limit for retrying a batch whose outcome is unknown.
const GIVE_UP_AFTER: Duration = Duration::from_secs(8);

/// The first pause between two attempts. Each pause is twice the previous one, up to
/// `RETRY_AFTER_AT_MOST`.
const RETRY_AFTER: Duration = Duration::from_millis(20);
const RETRY_AFTER_AT_MOST: Duration = Duration::from_millis(500);

/// Applies operations in batches.
pub(super) struct Batcher {
    store: Arc<Store>,
    queues: Mutex<Queues>,
    quick: usize,
    /// Whether the log already reports that the database does not answer batches.
    failing: AtomicBool,
}

impl Batcher {
    pub fn new(store: Arc<Store>) -> Self {
        Self {
            store,
            queues: Mutex::default(),
            quick: quick_lanes(),
            failing: AtomicBool::new(false),
        }
    }

    /// Applies an operation in a batch with others. Once the operation is in a batch, it takes
    /// effect even if its caller disconnects.
    pub async fn apply(self: &Arc<Self>, tenant: &Arc<Tenant>, operation: Operation) -> Answer {
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting { operation, caller: Caller { tenant: Arc::clone(tenant), answer } };
        let no_room = {
            let mut queues = self.lock();
            let no_room = queues.push(waiting);
            self.start(&mut queues);
            no_room
        };
        if let Some(Waiting { operation, caller }) = no_room {
            let answer = Err(StoreError::Unavailable("too many operations are waiting".into()));
            count(&caller.tenant, &operation, &answer);
            return answer;
        }
        // The sender is dropped without an answer only when the runtime stops.
        answered.await.unwrap_or_else(|_| Err(StoreError::Unavailable("stopped".into())))
    }

    /// For each kind of lane with waiting work and a free slot, starts a lane.
    fn start(self: &Arc<Self>, queues: &mut Queues) {
        for (lane, most) in [(Lane::Quick, self.quick), (Lane::Patient, PATIENT_LANES)] {
            if queues.begin(lane, most) {
                tokio::spawn(Arc::clone(self).run(lane));
            }
        }
    }

    /// Runs one batch after another until no operation waits. The lane sends the next batch before
    /// it answers the callers of the previous one, so that the database is not idle in the
    /// meantime.
    async fn run(self: Arc<Self>, lane: Lane) {
        let mut connection = BatchConnection::default();
        let mut waiting = self.lock().next(lane);
        let mut decided = Vec::new();
        while !waiting.is_empty() {
            // The sort is stable, so the operations of one account stay in their order.
            waiting.sort_by_key(|waiting| waiting.operation.account_id);
            let (operations, callers): (Vec<_>, Vec<_>) =
                waiting.into_iter().map(|waiting| (waiting.operation, waiting.caller)).unzip();
            let mut in_flight = InFlight::new(&self, lane, &operations);
            let deciding = self.decide(&mut in_flight.lane, &mut connection, operations);
            let telling = async { decided.drain(..).for_each(Decided::tell) };
            let ((operations, answers), ()) = tokio::join!(biased; deciding, telling);
            (decided, waiting) = in_flight.land(operations, callers, answers);
        }
        decided.into_iter().for_each(Decided::tell);
    }

    /// Decides the operations of a batch, and returns one answer for each.
    async fn decide(
        self: &Arc<Self>,
        lane: &mut Lane,
        connection: &mut BatchConnection,
        operations: Vec<Operation>,
    ) -> (Vec<Operation>, Vec<Answer>) {
        let entropy = match entropy::for_id() {
            Ok(entropy) => entropy,
            Err(error) => {
                let error = Arc::new(error.into());
                let answers = operations.iter().map(|_| Err(share(&error))).collect();
                return (operations, answers);
            }
        };
        let id = BatchId::new(clock::local(), entropy);
        let mut batch = Batch { id, attempt: 1, wait: *lane == Lane::Patient, operations };
        let answers = match self.send(lane, connection, &mut batch).await {
            Ok(outcomes) => outcomes.into_iter().map(Ok).collect(),
            // An operation that the database refuses must not fail the others.
            Err(StoreError::Internal(cause)) if batch.operations.len() > 1 => {
                error!(
                    %cause,
                    "the database refused a batch. Its operations are applied one by one"
                );
                self.decide_each(lane, connection, &mut batch).await
            }
            Err(error) => {
                let error = Arc::new(error);
                batch.operations.iter().map(|_| Err(share(&error))).collect()
            }
        };
        (batch.operations, answers)
    }

    /// Sends the operations of a batch one after the other, each as another attempt of the batch.
    async fn decide_each(
        self: &Arc<Self>,
        lane: &mut Lane,
        connection: &mut BatchConnection,
        batch: &mut Batch,
    ) -> Vec<Answer> {
        self.give_way(lane);
        let mut answers = Vec::with_capacity(batch.operations.len());
        for operation in &batch.operations {
            let (id, attempt) = (batch.id, batch.attempt + 1);
            let mut alone = Batch { id, attempt, wait: true, operations: vec![operation.clone()] };
            let result = self.send(lane, connection, &mut alone).await;
            batch.attempt = alone.attempt;
            answers.push(result.map(|mut outcomes| outcomes.remove(0)));
        }
        answers
    }

    /// Sends a batch until its outcome is known.
    async fn send(
        self: &Arc<Self>,
        lane: &mut Lane,
        connection: &mut BatchConnection,
        batch: &mut Batch,
    ) -> Result<Vec<BatchOutcome>, StoreError> {
        let give_up = Instant::now() + GIVE_UP_AFTER;
        let mut pause = RETRY_AFTER;
        loop {
            match self.store.apply(connection, batch).await {
                Err(error @ StoreError::Unavailable(_)) if Instant::now() + pause < give_up => {
                    if !self.failing.swap(true, Ordering::Relaxed) {
                        let error = &error as &dyn std::error::Error;
                        warn!(
                            error,
                            "the database did not answer a batch. The node retries batches until the \
                             database answers"
                        );
                    }
                }
                result => {
                    let answered = !matches!(result, Err(StoreError::Unavailable(_)));
                    if answered && self.failing.swap(false, Ordering::Relaxed) {
                        info!("the database answers batches again");
                    }
                    return result;
                }
            }
            self.give_way(lane);
            tokio::time::sleep(pause).await;
            pause = RETRY_AFTER_AT_MOST.min(pause * 2);
            batch.attempt += 1;
            // The batch must not return to its queue, because a batch with another id would not
            // find the effects of this one.
            batch.wait = true;
        }
    }

    /// A retried batch may wait for a long time, so it lets another quick batch start in its place.
    fn give_way(self: &Arc<Self>, lane: &mut Lane) {
        let mut queues = self.lock();
        if *lane == Lane::Quick && queues.give_way() {
            *lane = Lane::Late;
            self.start(&mut queues);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queues> {
        // No operation leaves the value inconsistent, so a panic in another thread is harmless.
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the number of quick lanes. A small batch costs more per operation than a large one, so
/// more lanes are not always faster. If a session of Postgres already uses a whole core, a second
/// session only makes both batches smaller.
fn quick_lanes() -> usize {
    let cores = available_parallelism().map_or(1, NonZero::get);
    (cores / 2).clamp(1, MOST_QUICK_LANES)
}

/// A batch in progress. Dropping this value lets the next batch take operations of its accounts.
struct InFlight<'a> {
    batcher: &'a Arc<Batcher>,
    lane: Lane,
    accounts: Vec<AccountId>,
}

impl<'a> InFlight<'a> {
    fn new(batcher: &'a Arc<Batcher>, lane: Lane, operations: &[Operation]) -> Self {
        let mut accounts: Vec<_> =
            operations.iter().map(|operation| operation.account_id).collect();
        accounts.dedup();
        Self { batcher, lane, accounts }
    }

    /// Ends the batch. Returns the decided operations of this batch, and the next batch of the
    /// lane.
    fn land(
        mut self,
        operations: Vec<Operation>,
        callers: Vec<Caller>,
        answers: Vec<Answer>,
    ) -> (Vec<Decided>, Vec<Waiting>) {
        let mut decided = Vec::with_capacity(answers.len());
        let mut locked: Vec<(AccountId, Vec<Waiting>)> = Vec::new();
        for ((operation, caller), answer) in operations.into_iter().zip(callers).zip(answers) {
            if !matches!(answer, Ok(BatchOutcome::Busy)) {
                decided.push(Decided { operation, caller, answer });
                continue;
            }
            let account_id = operation.account_id;
            let waiting = Waiting { operation, caller };
            match locked.last_mut() {
                Some((last, of_account)) if *last == account_id => of_account.push(waiting),
                _ => locked.push((account_id, vec![waiting])),
            }
        }
        let mut queues = self.batcher.lock();
        for account_id in std::mem::take(&mut self.accounts) {
            match locked.iter().position(|(other, _)| *other == account_id) {
                Some(place) => queues.put_back(account_id, locked.swap_remove(place).1),
                None => queues.rest(account_id),
            }
        }
        let next = queues.next(self.lane);
        self.batcher.start(&mut queues);
        (decided, next)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        // Accounts remain only after a panic, or when the runtime stops.
        if !self.accounts.is_empty() {
            let mut queues = self.batcher.lock();
            for account_id in std::mem::take(&mut self.accounts) {
                queues.rest(account_id);
            }
            queues.end(self.lane);
        }
    }
}

/// A decided operation, and the caller that waits for the answer.
struct Decided {
    operation: Operation,
    caller: Caller,
    answer: Answer,
}

impl Decided {
    fn tell(self) {
        count(&self.caller.tenant, &self.operation, &self.answer);
        // An error means that the caller has disconnected.
        let _ = self.caller.answer.send(self.answer);
    }
}

thread_local! {
    /// The counters by tenant, kind and outcome. Each thread fills its own cache, so that it looks
    /// up a counter only once.
    static COUNTERS: RefCell<HashMap<(TenantId, &'static str, &'static str), Counter>> =
        RefCell::default();
}

fn count(tenant: &Tenant, operation: &Operation, answer: &Answer) {
    let kind = operation.action.kind().as_str();
    let outcome = match answer {
        Ok(BatchOutcome::Done(Done { replayed: false, .. })) => "done",
        Ok(BatchOutcome::Declined(Decline { replayed: false, .. })) => "declined",
        Ok(BatchOutcome::Done(_) | BatchOutcome::Declined(_)) => "replayed",
        Ok(BatchOutcome::Refused(Refusal::IdempotencyMismatch)) => "idempotency_mismatch",
        Ok(BatchOutcome::Refused(_)) => "refused",
        Ok(BatchOutcome::Busy | BatchOutcome::Fenced) | Err(StoreError::Unavailable(_)) => {
            "unavailable"
        }
        Err(_) => "failed",
    };
    COUNTERS.with_borrow_mut(|counters| {
        let counter = counters.entry((tenant.id, kind, outcome)).or_insert_with(|| {
            metrics::counter!(
                "tollgate_operations_total",
                "tenant" => tenant.slug.to_string(),
                "environment" => tenant.environment.as_str(),
                "kind" => kind,
                "outcome" => outcome,
            )
        });
        counter.increment(1);
    });
}

/// Copies a failure, so that each caller of a batch gets a copy.
fn share(error: &Arc<StoreError>) -> StoreError {
    match **error {
        StoreError::Unavailable(_) => StoreError::Unavailable(Arc::clone(error).into()),
        StoreError::Refused(_) | StoreError::Internal(_) => {
            StoreError::Internal(Arc::clone(error).into())
        }
    }
}
