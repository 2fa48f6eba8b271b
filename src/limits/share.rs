use std::{collections::VecDeque, sync::PoisonError, time::Duration};

use tokio::sync::Notify;

use super::cell::{ShareCell, Slot};
use crate::{
    auth::{
        lease::{DRIFT, micros},
        sync::{Mutex, MutexGuard},
    },
    domain::rate_limit::RateLimit,
    store::{LimitRow, ShareAnswer, ShareAsk},
};

/// How long a node remembers that nothing is left while other nodes may hold shares.
const REMEMBER: Duration = Duration::from_millis(250);

/// The longest time that a node remembers this after recalls that yielded no calls.
const REMEMBER_LONGEST: Duration = Duration::from_secs(8);

/// How long a node that was asked to return its calls requests none in advance. Otherwise it could
/// take calls that another node needs now.
const NOTHING_IN_ADVANCE: Duration = Duration::from_millis(250);

/// Number of ended slots of a window that are remembered. A call that was taken from an earlier one
/// and is not spent counts as spent.
const MAX_ENDED: usize = 4;

const SECOND: Duration = Duration::from_secs(1);

/// This node's share of one rate limit.
///
/// The database counts every call that it gave to a node as made, unless the node returns it. So
/// the calls that all nodes make never exceed the limit.
pub struct Share {
    pub row: LimitRow,
    pub cell: ShareCell,
    slow: Mutex<Slow>,
    /// Wakes the requests that wait for an answer from the database.
    answered: Notify,
}

/// The part of a share that only statements and waiting requests use.
#[derive(Default)]
struct Slow {
    /// The number of the slot's window. `None` before the first share.
    window: Option<i64>,
    /// The slots of the window that ended last, because the settings changed.
    ended: VecDeque<Slot>,
    /// The calls of the window that the node was given and has neither reported as spent nor
    /// returned. They are unspent, spent, or about to be returned.
    accounted: i64,
    /// Calls of the window that go back with the next statement.
    to_return: u32,
    demand: Option<Demand>,
    /// Whether the share is in the queue or in a statement.
    queued: bool,
    /// Number of answers, including failures.
    answers: u64,
    newest: Newest,
    recalled: Option<Duration>,
    /// When the node was last asked to return its calls of the window.
    returned: Option<Duration>,
    /// Number of recalls since the last share, or since the window began.
    fruitless_recalls: u32,
    /// Number of statements under way that return calls.
    returning: u32,
    rate: Rate,
}

/// The kind of the newest answer.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Newest {
    #[default]
    Share,
    /// The settings have changed since the key was read.
    Stale,
    /// The database gave no answer.
    Failed,
}

/// What the next statement requests.
#[derive(Clone, Debug)]
struct Demand {
    generation: i64,
    calls: u32,
    seconds: u32,
    /// The sum of the costs of the waiting requests.
    waiting: u64,
    /// The smallest number of calls that helps a waiting request, or 1 if none waits.
    least: u32,
}

/// Measures the calls of the last second.
#[derive(Default)]
struct Rate {
    began: Duration,
    in_this_second: u64,
    in_the_last_second: u64,
}

/// What a waiting request does after an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// Calls may have become available.
    TryAgain,
    /// The database has too few calls left, but other nodes may hold some.
    Recall,
    /// Too few calls are left.
    Refuse,
    /// The settings have changed since the key was read.
    ReadAgain,
    /// The database gave no answer.
    Unavailable,
}

impl Share {
    pub fn new(row: LimitRow) -> Self {
        let (cell, slow, answered) = (ShareCell::default(), Mutex::default(), Notify::new());
        Self { row, cell, slow, answered }
    }

    /// Puts back calls that were taken but not spent.
    pub fn put_back(&self, slot: Slot, cost: u32) {
        if self.cell.put_back(slot, cost) {
            return;
        }
        let mut slow = self.lock();
        // The slot ended. If only the settings have changed, its window still runs.
        if slow.ended.contains(&slot) {
            slow.to_return += cost;
            self.cell.set_known_until(0);
        }
    }

    /// Requests calls for a request that waits, or the next share if no request waits. Returns
    /// whether the share must be put into the queue, and the number of answers so far.
    pub fn request(&self, limit: &RateLimit, generation: i64, cost: Option<u32>) -> (bool, u64) {
        let mut slow = self.lock();
        let (calls, seconds) = (limit.calls.get(), limit.window.get());
        let (waiting, least) = (u64::from(cost.unwrap_or(0)), cost.unwrap_or(1));
        match &mut slow.demand {
            Some(demand) if demand.generation == generation => {
                demand.least = if demand.waiting == 0 { least } else { demand.least.min(least) };
                demand.waiting += waiting;
            }
            // A request with other settings is decided anew after the answer.
            demand => *demand = Some(Demand { generation, calls, seconds, waiting, least }),
        }
        self.cell.stop_requesting();
        (!std::mem::replace(&mut slow.queued, true), slow.answers)
    }

    /// Waits for an answer after the first `seen` ones.
    pub async fn answer_after(&self, seen: u64) {
        loop {
            let answered = self.answered.notified();
            if self.lock().answers > seen {
                return;
            }
            answered.await;
        }
    }

    /// Returns the ask for the next statement. It takes over the demand, and reports and returns
    /// calls. `None` if there is no demand.
    pub fn ask(&self, now: Duration) -> Option<ShareAsk> {
        let mut slow = self.lock();
        let Some(demand) = slow.demand.take() else {
            slow.queued = false;
            return None;
        };
        if slow.window.is_some() && demand.generation != self.cell.generation() {
            slow.end_slot(&self.cell);
        }
        let spent = slow.spent(&self.cell);
        slow.rate.add(spent, now);
        let soon = if slow.requests_in_advance(now) { slow.rate.in_a_second(now) } else { 0 };
        let wanted = demand.waiting.max(soon);
        let unspent = self.cell.unspent();
        let unspent = if demand.generation == self.cell.generation() { unspent } else { 0 };
        let returned = slow.take_returned();
        Some(ShareAsk {
            row: self.row.clone(),
            generation: demand.generation,
            calls: demand.calls,
            seconds: demand.seconds,
            wanted: u32::try_from(wanted).unwrap_or(u32::MAX).min(demand.calls),
            least: demand.least.saturating_sub(unspent).max(1),
            number: slow.window,
            spent,
            returned,
        })
    }

    /// Takes all unspent calls off the share. Returns the ask that returns them and reports the
    /// others as spent. `None` if there is nothing to return or to report.
    pub fn recall(&self, now: Duration) -> Option<ShareAsk> {
        let mut slow = self.lock();
        // The window may run in the database although this node considers it over. If it is over
        // there, the database ignores the return.
        slow.window?;
        slow.returned = Some(now);
        self.cell.stop_requesting();
        slow.demand.take_if(|demand| demand.waiting == 0);
        slow.to_return += self.cell.take_all();
        // The database gets calls back, so this node no longer knows how many are left.
        self.cell.set_known_until(0);
        let spent = slow.spent(&self.cell);
        if spent == 0 && slow.to_return == 0 {
            return None;
        }
        Some(ShareAsk {
            row: self.row.clone(),
            generation: self.cell.generation(),
            // An ask without `least` gets no share, so these numbers have no effect.
            calls: 1,
            seconds: 1,
            wanted: 0,
            least: 0,
            number: slow.window,
            spent,
            returned: slow.take_returned(),
        })
    }

    /// Applies the answer to an ask that was sent at `sent` and answered at `now`.
    pub fn apply(&self, ask: &ShareAsk, answer: &ShareAnswer, sent: Duration, now: Duration) {
        let mut slow = self.lock();
        slow.has_ended(ask);
        let Some(number) = answer.number else {
            self.answer(slow, Newest::Stale);
            return;
        };
        // The end is measured from before the ask was sent, so it is not too late. A 64th allows
        // for clocks that run at different rates, as in the lease.
        let ends = micros(sent) + answer.ends_in - answer.ends_in / u64::from(DRIFT);
        let is_new = slow.window != Some(number);
        if is_new {
            self.cell.end_slot();
            slow.ended.clear();
            (slow.fruitless_recalls, slow.returned) = (0, None);
            (slow.window, slow.accounted, slow.to_return) = (Some(number), 0, 0);
        }
        slow.accounted += i64::from(answer.share);
        self.cell.set_resets(micros(now) + answer.ends_in);
        if is_new {
            self.cell.begin(ask.generation, ends);
        } else if ask.generation != self.cell.generation() {
            // The answer is the newest one, so its generation is the newest known one.
            slow.end_slot(&self.cell);
            self.cell.begin(ask.generation, ends);
        }
        let left = ask.calls.saturating_sub(answer.given);
        self.cell.add(answer.share, ends, left, slow.requests_in_advance(now));
        if answer.share > 0 {
            slow.fruitless_recalls = 0;
        }
        // The calls that other nodes may hold.
        let others = i64::from(answer.given) - i64::from(answer.spent) - slow.accounted;
        self.cell.set_known_until(match (others <= 0, slow.remembers(now)) {
            (true, _) => self.cell.ends(),
            (false, true) => micros(now + slow.remember()),
            (false, false) => 0,
        });
        self.answer(slow, Newest::Share);
    }

    /// Records that an ask got no answer. The calls of the ask count as spent.
    pub fn fail(&self, ask: &ShareAsk) {
        let mut slow = self.lock();
        slow.has_ended(ask);
        self.answer(slow, Newest::Failed);
    }

    /// Wakes the waiting requests, because the row of the ask's window no longer exists. The next ask
    /// begins another window.
    pub fn begin_again(&self, ask: &ShareAsk) {
        let mut slow = self.lock();
        slow.has_ended(ask);
        if slow.window == ask.number {
            self.cell.end_slot();
            self.cell.begin(self.cell.generation(), 0);
            slow.ended.clear();
            (slow.window, slow.accounted, slow.to_return) = (None, 0, 0);
        }
        self.answer(slow, Newest::Share);
    }

    /// Wakes the waiting requests after a statement that returned calls.
    pub fn wake(&self, ask: &ShareAsk) {
        let mut slow = self.lock();
        slow.has_ended(ask);
        self.answer(slow, Newest::Share);
    }

    /// Whether a statement that returns calls of this share is under way.
    pub fn is_returning(&self) -> bool {
        self.lock().returning > 0
    }

    /// Returns the unspent calls if the share belongs to the window with this number.
    pub fn unspent_of(&self, number: i64) -> u32 {
        let slow = self.lock();
        if slow.window == Some(number) { self.cell.unspent() } else { 0 }
    }

    /// Whether calls were requested while a statement was under way. The caller then puts the share
    /// into the queue.
    pub fn is_requested_again(&self) -> bool {
        let mut slow = self.lock();
        slow.queued = slow.demand.is_some();
        slow.queued
    }

    /// Returns the number of answers so far.
    pub fn answers(&self) -> u64 {
        self.lock().answers
    }

    /// Records that all other nodes have returned what they did not spend, or that they did not
    /// answer in time.
    pub fn finish_recall(&self, now: Duration) {
        let mut slow = self.lock();
        slow.recalled = Some(now);
        slow.fruitless_recalls = slow.fruitless_recalls.saturating_add(1);
        self.answer(slow, Newest::Share);
    }

    /// Decides what a request does that needs `cost` calls, after an answer.
    pub fn next(&self, generation: i64, cost: u32, now: Duration) -> Next {
        let slow = self.lock();
        match slow.newest {
            Newest::Failed => return Next::Unavailable,
            Newest::Stale => return Next::ReadAgain,
            Newest::Share => {}
        }
        if self.cell.is_exhausted(generation, cost, now) {
            return Next::Refuse;
        }
        let is_over = self.cell.is_over(now) || self.cell.generation() != generation;
        let is_left = self.cell.left() + self.cell.unspent() >= cost;
        if is_over || is_left || slow.remembers(now) { Next::TryAgain } else { Next::Recall }
    }

    /// Whether a request of this generation lacks calls on this node.
    pub fn lacks(&self, generation: i64, cost: u32, now: Duration) -> bool {
        self.cell.generation() != generation || self.cell.unspent() < cost || self.cell.is_over(now)
    }

    /// Whether the share can be forgotten: its window is over, and no request waits.
    pub fn is_idle(&self, now: Duration) -> bool {
        let slow = self.lock();
        !slow.queued && slow.demand.is_none() && self.cell.is_over(now)
    }

    /// Records an answer and wakes the waiting requests.
    fn answer(&self, mut slow: MutexGuard<'_, Slow>, newest: Newest) {
        slow.answers += 1;
        slow.newest = newest;
        drop(slow);
        self.answered.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, Slow> {
        // No operation leaves the value inconsistent, so a panic in another thread is harmless.
        self.slow.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slow {
    /// Records that the statement with this ask has ended.
    fn has_ended(&mut self, ask: &ShareAsk) {
        self.returning -= u32::from(ask.returned > 0);
    }

    /// Ends the slot, because the settings have changed. The unspent calls go back.
    fn end_slot(&mut self, cell: &ShareCell) {
        let (slot, unspent) = cell.end_slot();
        self.ended.truncate(MAX_ENDED - 1);
        self.ended.push_front(slot);
        self.to_return += unspent;
    }

    /// Returns the calls that were spent since the last report. A call that was put back since then
    /// counts as negative.
    fn spent(&mut self, cell: &ShareCell) -> i32 {
        let unspent = i64::from(cell.unspent());
        let spent = self.accounted - unspent - i64::from(self.to_return);
        self.accounted = unspent + i64::from(self.to_return);
        i32::try_from(spent).unwrap_or(i32::MAX)
    }

    /// Returns how long the node remembers that nothing is left while other nodes may hold shares.
    /// The time doubles with each recall that yielded no calls.
    fn remember(&self) -> Duration {
        let doubled = REMEMBER * 2_u32.pow(self.fruitless_recalls.saturating_sub(1).min(8));
        doubled.min(REMEMBER_LONGEST)
    }

    /// Whether a recall was made so recently that another one is unlikely to yield calls.
    fn remembers(&self, now: Duration) -> bool {
        self.recalled.is_some_and(|at| now < at + self.remember())
    }

    fn requests_in_advance(&self, now: Duration) -> bool {
        self.returned.is_none_or(|at| now >= at + NOTHING_IN_ADVANCE)
    }

    fn take_returned(&mut self) -> u32 {
        let returned = std::mem::take(&mut self.to_return);
        self.returning += u32::from(returned > 0);
        self.accounted -= i64::from(returned);
        returned
    }
}

impl Rate {
    fn add(&mut self, calls: i32, now: Duration) {
        self.in_this_second += u64::from(calls.max(0).unsigned_abs());
        let elapsed = now.saturating_sub(self.began);
        if elapsed >= SECOND {
            let average =
                u128::from(self.in_this_second) * SECOND.as_micros() / elapsed.as_micros();
            self.in_the_last_second = u64::try_from(average).unwrap_or(u64::MAX);
            (self.began, self.in_this_second) = (now, 0);
        }
    }

    fn in_a_second(&self, now: Duration) -> u64 {
        let is_old = now.saturating_sub(self.began) >= SECOND;
        if is_old { 0 } else { self.in_the_last_second.max(self.in_this_second) }
    }
}
