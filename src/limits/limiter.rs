use std::{
    collections::{HashMap, HashSet, VecDeque},
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::Notify,
    task::JoinSet,
    time::{Instant, sleep, timeout, timeout_at},
};
use tracing::{debug, info, warn};

use super::{
    key_limits::{CurrentShare, Limit, Limits, ShareSource},
    limit_list::LimitLists,
    registry::Registry,
    share::Share,
};
use crate::{
    domain::rate_limit::{LimitLevel, RateLimit},
    store::{
        ChangeId, LimitRow, LimitWindow, MAX_RECALLED, ShareAsk, Store, StoreError, VerifiedLimits,
        WindowCursor, WindowTag,
    },
};

/// Maximum number of statements that request shares concurrently.
const WORKERS: usize = 2;

/// How long asks wait while a statement is under way. Starting and committing a statement costs
/// about as much as ten asks, so the workers gather asks.
const GATHER: Duration = Duration::from_millis(5);

/// Number of waiting asks that are sent immediately, even while another statement is under way.
const ENOUGH: usize = 32;

/// Maximum number of asks in one statement.
const MAX_BATCH: usize = 256;

/// Maximum number of returns in one statement.
const MAX_RETURNED: usize = 1000;

/// How long a request waits for shares that other nodes return.
const RECALL_TIMEOUT: Duration = Duration::from_millis(200);

/// How long a stopping node tries to return its shares.
const STOP_TIMEOUT: Duration = Duration::from_secs(8);

/// How often the node forgets shares whose windows are over, and deletes old rows.
const SWEEP_AFTER: Duration = Duration::from_secs(10);

/// The rate limits of a node: its shares, and the requests for further shares.
pub struct Limiter {
    store: Arc<Store>,
    since_boot: fn() -> Duration,
    lists: LimitLists,
    registry: Registry,
    queue: Mutex<VecDeque<Arc<Share>>>,
    queued: Notify,
    /// Number of statements under way that request shares.
    under_way: AtomicUsize,
    /// The windows whose shares this node recalls from the other nodes.
    recalling: Mutex<Recalling>,
    recall: Notify,
    /// The recalls of other nodes that this node has to answer.
    recalled: Mutex<Recalled>,
    answer: Notify,
}

/// A share, and the ask that returns its unspent calls.
type Return = (Arc<Share>, ShareAsk);

#[derive(Default)]
struct Recalling {
    waiting: Vec<Arc<Share>>,
    /// The windows of a recall that is waiting or under way.
    all: HashSet<WindowTag>,
}

#[derive(Default)]
struct Recalled {
    returns: Vec<Return>,
    /// Shares whose calls an earlier statement returns.
    returning: Vec<Arc<Share>>,
    recalls: Vec<ChangeId>,
}

impl Limiter {
    /// Creates a limiter without shares. `since_boot` returns this machine's time since boot.
    #[must_use]
    pub fn new(store: Arc<Store>, since_boot: fn() -> Duration) -> Arc<Self> {
        Arc::new(Self {
            store,
            since_boot,
            lists: LimitLists::default(),
            registry: Registry::new(),
            queue: Mutex::default(),
            queued: Notify::new(),
            under_way: AtomicUsize::new(0),
            recalling: Mutex::default(),
            recall: Notify::new(),
            recalled: Mutex::default(),
            answer: Notify::new(),
        })
    }

    /// Returns this node's shares of the limits that apply to a key. `None` if no limit applies.
    #[must_use]
    pub fn limits_of(self: &Arc<Self>, verified: &VerifiedLimits) -> Option<Arc<Limits>> {
        if verified.limits.is_empty() {
            return None;
        }
        let share = |(level, limit): &(LimitLevel, _)| self.share(verified, *level, limit);
        let shares = verified.limits.iter().map(share);
        let source = Arc::clone(self) as Arc<dyn ShareSource>;
        Some(Arc::new(Limits::new(source, self.lists.get(&verified.limits), shares)))
    }

    fn share(
        &self,
        verified: &VerifiedLimits,
        level: LimitLevel,
        limit: &RateLimit,
    ) -> CurrentShare {
        let VerifiedLimits { tenant, account, key, chain, generations, .. } = verified;
        let (account, holder, owner) = match level {
            LimitLevel::Key => (*account, *chain, *key),
            LimitLevel::Account => (*account, *account, *account),
            LimitLevel::Tenant => (tenant.uuid(), tenant.uuid(), tenant.uuid()),
        };
        let generation = match level {
            LimitLevel::Key => generations.key + generations.plan,
            LimitLevel::Account => generations.account + generations.plan,
            LimitLevel::Tenant => generations.tenant,
        };
        let name = limit.name.clone();
        let row = LimitRow { tenant: *tenant, account, holder, owner, name };
        CurrentShare { generation, share: self.registry.get(row) }
    }

    /// Runs the statements until the future is dropped.
    pub async fn run(self: Arc<Self>) -> Infallible {
        let mut tasks = JoinSet::new();
        for _ in 0..WORKERS {
            tasks.spawn(Arc::clone(&self).request_shares());
        }
        tasks.spawn(Arc::clone(&self).recall_shares());
        tasks.spawn(Arc::clone(&self).answer_recalls());
        tasks.spawn(Arc::clone(&self).sweep());
        // The tasks never return, so this waits until the set is dropped, unless one of them
        // panics.
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                std::panic::resume_unwind(error.into_panic());
            }
        }
        std::future::pending().await
    }

    /// Returns the calls that this node has not spent, as far as possible in a few seconds. Call it
    /// before the lease is released.
    pub async fn return_all(&self) {
        let mut returns = returns_of(self.registry.all(), self.now());
        returns.sort_by_key(|(_, ask)| std::cmp::Reverse(ask.returned));
        let left = returns.iter().filter(|(_, ask)| ask.returned > 0).count();
        match timeout(STOP_TIMEOUT, self.give_back(returns)).await {
            Ok(Ok(())) => {}
            _ => warn!(
                shares = left,
                "not all unspent calls of rate limits could be returned. The calls that were not \
                 returned count as made until their windows end"
            ),
        }
    }

    /// Begins to give back the calls that another node recalls. Returns `true` if this node has
    /// nothing to give back or to report, so that the caller acknowledges the recall. Otherwise
    /// this node acknowledges it after the statements that give the calls back.
    pub fn answer_recall(&self, tags: &[WindowTag], recall: Option<ChangeId>) -> bool {
        let shares = self.registry.with_tags(tags);
        // An earlier statement may still be returning calls.
        let returning: Vec<_> =
            shares.iter().filter(|share| share.is_returning()).cloned().collect();
        let returns = returns_of(shares, self.now());
        if returns.is_empty() && returning.is_empty() {
            return true;
        }
        let mut recalled = lock(&self.recalled);
        recalled.returns.extend(returns);
        recalled.returning.extend(returning);
        recalled.recalls.extend(recall);
        drop(recalled);
        self.answer.notify_one();
        false
    }

    /// Sends these returns.
    async fn give_back(&self, returns: Vec<Return>) -> Result<(), StoreError> {
        for batch in batches(returns) {
            let (shares, asks): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
            let returned = self.store.share_rate_limits(&asks).await;
            for (share, ask) in shares.iter().zip(&asks) {
                share.wake(ask);
            }
            returned?;
        }
        Ok(())
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// Returns the calls of a window that this node was given and has not spent.
    pub(super) fn unspent(&self, window: &LimitWindow) -> u32 {
        self.registry.unspent(window)
    }

    fn enqueue(&self, share: Arc<Share>) {
        let mut queue = lock(&self.queue);
        queue.push_back(share);
        let length = queue.len();
        drop(queue);
        // The first ask wakes a worker. Further asks wake it only when there are enough.
        if length == 1 || length == ENOUGH {
            self.queued.notify_one();
        }
    }

    fn enqueue_recall(&self, share: &Arc<Share>) {
        let mut recalling = lock(&self.recalling);
        if recalling.all.insert(share.row.tag()) {
            recalling.waiting.push(Arc::clone(share));
        }
        drop(recalling);
        self.recall.notify_one();
    }

    async fn request_shares(self: Arc<Self>) {
        let mut is_failing = false;
        loop {
            self.gather().await;
            let Some((batch, under_way)) = self.next_batch() else { continue };
            match self.request_batch(batch).await {
                Ok(()) if std::mem::take(&mut is_failing) => {
                    info!("shares of rate limits can be requested again");
                }
                Ok(()) => {}
                Err(error) => {
                    if !std::mem::replace(&mut is_failing, true) {
                        let error = &error as &dyn std::error::Error;
                        warn!(error, "no shares of rate limits can be requested");
                    }
                }
            }
            drop(under_way);
        }
    }

    /// Waits until there are enough asks for a statement, or until no other statement is under way.
    async fn gather(&self) {
        while lock(&self.queue).is_empty() {
            self.queued.notified().await;
        }
        let is_gathered =
            || self.under_way.load(Ordering::Relaxed) == 0 || lock(&self.queue).len() >= ENOUGH;
        let gathered = async {
            while !is_gathered() {
                self.queued.notified().await;
            }
        };
        // After the timeout, the worker sends the asks that it has.
        let _ = timeout(GATHER, gathered).await;
    }

    async fn request_batch(&self, shares: Vec<Arc<Share>>) -> Result<(), StoreError> {
        let sent = self.now();
        let asks = shares.into_iter().filter_map(|share| share.ask(sent).map(|ask| (share, ask)));
        let (shares, asks): (Vec<_>, Vec<_>) = asks.unzip();
        if asks.is_empty() {
            return Ok(());
        }
        let answers = self.store.share_rate_limits(&asks).await;
        let now = self.now();
        let by_window: Result<HashMap<_, _>, _> = answers
            .as_ref()
            .map(|answers| answers.iter().map(|answer| (answer.window(), answer)).collect());
        for (share, ask) in shares.into_iter().zip(&asks) {
            match &by_window {
                Ok(answers) => match answers.get(&ask.row.window()) {
                    Some(answer) => share.apply(ask, answer, sent, now),
                    None => share.begin_again(ask),
                },
                Err(_) => share.fail(ask),
            }
            if share.is_requested_again() {
                self.enqueue(share);
            }
        }
        answers.map(drop)
    }

    /// Takes shares with different windows from the queue, for a statement that begins now. `None`
    /// if the queue is empty.
    fn next_batch(&self) -> Option<(Vec<Arc<Share>>, UnderWay<'_>)> {
        let mut queue = lock(&self.queue);
        let (mut batch, mut tags) = (Vec::new(), HashSet::new());
        for _ in 0..queue.len() {
            if batch.len() == MAX_BATCH {
                break;
            }
            let Some(share) = queue.pop_front() else { break };
            if tags.insert(share.row.tag()) {
                batch.push(share);
            } else {
                queue.push_back(share);
            }
        }
        if !queue.is_empty() {
            // Another worker takes the rest.
            self.queued.notify_one();
        }
        (!batch.is_empty()).then(|| (batch, UnderWay::begin(self)))
    }

    async fn recall_shares(self: Arc<Self>) {
        let mut under_way = JoinSet::new();
        loop {
            self.recall.notified().await;
            while under_way.try_join_next().is_some() {}
            let shares = std::mem::take(&mut lock(&self.recalling).waiting);
            for shares in shares.chunks(MAX_RECALLED) {
                let tags: Vec<WindowTag> = shares.iter().map(|share| share.row.tag()).collect();
                // One recall is sent at a time, so that recalls leave connections to the statements
                // that request and return shares. The shares that lack calls in the meantime are in
                // the next recall.
                let deadline = Instant::now() + RECALL_TIMEOUT;
                let sent = timeout_at(deadline, self.store.recall_shares(&tags)).await;
                let returned = async move {
                    // If the recall was not sent, the requests ask the database once more.
                    if let Ok(Ok(returned)) = sent {
                        let _ = timeout_at(deadline, returned).await;
                    }
                };
                under_way.spawn(Arc::clone(&self).finish_recall(shares.to_vec(), tags, returned));
            }
        }
    }

    /// Waits until the other nodes and other shares of these windows have returned their calls, and
    /// wakes the waiting requests.
    async fn finish_recall(
        self: Arc<Self>,
        shares: Vec<Arc<Share>>,
        tags: Vec<WindowTag>,
        returned: impl Future<Output = ()>,
    ) {
        // Keys that replace each other by rotation have separate shares of one window.
        let is_asking = |share: &Arc<Share>| shares.iter().any(|other| Arc::ptr_eq(share, other));
        let siblings = self.registry.with_tags(&tags).into_iter();
        let siblings = returns_of(siblings.filter(|share| !is_asking(share)), self.now());
        // If this fails, the requests ask once more, and are refused if too few calls are left.
        let _ = tokio::join!(returned, self.give_back(siblings));
        let now = self.now();
        let mut recalling = lock(&self.recalling);
        for tag in &tags {
            recalling.all.remove(tag);
        }
        drop(recalling);
        for share in self.registry.with_tags(&tags) {
            share.finish_recall(now);
        }
    }

    async fn answer_recalls(self: Arc<Self>) {
        loop {
            let recalled = std::mem::take(&mut *lock(&self.recalled));
            let Recalled { returns, returning, recalls } = recalled;
            if returns.is_empty() && returning.is_empty() {
                self.answer.notified().await;
                continue;
            }
            if let Err(error) = self.give_back(returns).await {
                let error = &error as &dyn std::error::Error;
                warn!(error, "recalled calls of rate limits could not be returned");
            }
            for share in returning {
                let is_returned = async {
                    while share.is_returning() {
                        let seen = share.answers();
                        if share.is_returning() {
                            share.answer_after(seen).await;
                        }
                    }
                };
                // The other node does not wait longer.
                let _ = timeout(RECALL_TIMEOUT, is_returned).await;
            }
            if !recalls.is_empty()
                && let Err(error) = self.store.acknowledge_recalls(&recalls).await
            {
                let error = &error as &dyn std::error::Error;
                debug!(error, "a recall of rate limits could not be acknowledged");
            }
        }
    }

    async fn sweep(self: Arc<Self>) {
        let mut cursor = WindowCursor::default();
        loop {
            sleep(SWEEP_AFTER).await;
            let surplus = {
                let now = self.now();
                returns_of(self.registry.sweep(now), now)
            };
            // If this fails, the calls count as made until their windows end.
            let _ = self.give_back(surplus).await;
            match self.store.delete_old_windows(cursor.clone()).await {
                Ok(next) => cursor = next,
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    debug!(error, "old windows of rate limits could not be deleted");
                }
            }
        }
    }
}

/// A statement that requests shares. Dropping the value lets the other worker send its asks.
struct UnderWay<'a>(&'a Limiter);

impl<'a> UnderWay<'a> {
    fn begin(limiter: &'a Limiter) -> Self {
        limiter.under_way.fetch_add(1, Ordering::Relaxed);
        Self(limiter)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
        self.0.queued.notify_one();
    }
}

impl ShareSource for Limiter {
    fn now(&self) -> Duration {
        (self.since_boot)()
    }

    fn request(&self, limit: Limit<'_>, cost: Option<u32>) -> u64 {
        let (is_new, seen) = limit.share.request(limit.limit(), limit.generation, cost);
        if is_new {
            self.enqueue(Arc::clone(limit.share));
        }
        seen
    }

    fn recall_from_others<'a>(
        &'a self,
        share: &'a Arc<Share>,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(async move {
            let seen = share.answers();
            self.enqueue_recall(share);
            share.answer_after(seen).await;
        })
    }
}

/// Takes the unspent calls off these shares.
fn returns_of(shares: impl IntoIterator<Item = Arc<Share>>, now: Duration) -> Vec<Return> {
    shares.into_iter().filter_map(|share| share.recall(now).map(|ask| (share, ask))).collect()
}

/// Divides returns into statements. No two asks of a statement have the same window.
fn batches(returns: Vec<Return>) -> impl Iterator<Item = Vec<Return>> {
    let mut rounds: Vec<Vec<Return>> = Vec::new();
    let mut earlier: HashMap<WindowTag, usize> = HashMap::new();
    for item in returns {
        let round = earlier.entry(item.1.row.tag()).or_default();
        if rounds.len() == *round {
            rounds.push(Vec::new());
        }
        rounds[*round].push(item);
        *round += 1;
    }
    rounds.into_iter().flat_map(|round| {
        let mut rest = round.into_iter();
        std::iter::from_fn(move || {
            let batch: Vec<Return> = rest.by_ref().take(MAX_RETURNED).collect();
            (!batch.is_empty()).then_some(batch)
        })
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No operation leaves the value inconsistent, so a panic in another thread is harmless.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
