//! Who waits for whom: an account's purchases wait for each other here, and not in the database,
//! where each would hold a connection while it waits for the account's row.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{domain::account::AccountId, store::StoreError};

/// Operations of one account that wait at the most; a further one is a 503.
const MAX_WAITING: usize = 2000;

/// A queue for each account that anything waits for.
pub(super) struct Queues {
    accounts: Mutex<HashMap<AccountId, Arc<Semaphore>>>,
    /// Leaves connections of the pool to those who only ask.
    room: Arc<Semaphore>,
}

/// The right to be the one operation of an account. Dropping it lets the next one go.
pub(super) struct Turn {
    queues: Arc<Queues>,
    account: AccountId,
    place: Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)>,
}

impl Queues {
    /// `at_once` operations run at the same time, all accounts together.
    pub fn new(at_once: usize) -> Self {
        Self { accounts: Mutex::default(), room: Arc::new(Semaphore::new(at_once.max(1))) }
    }

    /// Waits for the account's turn, then for room. Who stops waiting has done nothing.
    pub async fn turn(self: &Arc<Self>, account: AccountId) -> Result<Turn, StoreError> {
        let queue = {
            let mut accounts = self.lock();
            let queue =
                accounts.entry(account).or_insert_with(|| Arc::new(Semaphore::new(1))).clone();
            // The map holds it, and each that waits or goes.
            if Arc::strong_count(&queue) > MAX_WAITING + 2 {
                return Err(StoreError::Unavailable("too many operations of one account".into()));
            }
            queue
        };
        // From here on the entry is given up when this is dropped, also while it waits.
        let mut turn = Turn { queues: Arc::clone(self), account, place: None };
        let closed = "a semaphore of a queue is never closed";
        let place = queue.acquire_owned().await.expect(closed);
        let room = Arc::clone(&self.room).acquire_owned().await.expect(closed);
        turn.place = Some((place, room));
        Ok(turn)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AccountId, Arc<Semaphore>>> {
        // The map is whole after each of its operations: a panic elsewhere harms nothing.
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.place = None;
        let mut accounts = self.queues.lock();
        // Under the lock nobody can join; the last one takes the queue away.
        if accounts.get(&self.account).is_some_and(|queue| Arc::strong_count(queue) == 1) {
            accounts.remove(&self.account);
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::domain::{
        account::{AccountFormat, ExternalId},
        id::TenantId,
    };

    fn account(name: &str) -> AccountId {
        let name = ExternalId::parse(name, AccountFormat::Any).expect("a good id");
        AccountId::derive(TenantId::from_uuid(Uuid::nil()), &name)
    }

    /// Polls once: `None` when it has to wait.
    async fn at_once<T>(future: impl Future<Output = T> + Unpin) -> Option<T> {
        tokio::select! {
            biased;
            value = future => Some(value),
            () = std::future::ready(()) => None,
        }
    }

    #[tokio::test]
    async fn an_account_waits_for_itself_alone() {
        let queues = Arc::new(Queues::new(2));
        let (a, b) = (account("a"), account("b"));
        let first = queues.turn(a).await.expect("it is free");
        let mut second = Box::pin(queues.turn(a));
        assert!(at_once(&mut second).await.is_none());
        let other = queues.turn(b).await.expect("it is free");
        drop(first);
        let second = second.await.expect("its turn has come");
        // There is room for two.
        let mut third = Box::pin(queues.turn(account("c")));
        assert!(at_once(&mut third).await.is_none());
        drop((second, other));
        drop(third.await.expect("there is room"));
        assert!(queues.lock().is_empty(), "no queue is left without anybody in it");
    }

    #[tokio::test]
    async fn who_stops_waiting_leaves_nothing_behind() {
        let queues = Arc::new(Queues::new(1));
        let first = queues.turn(account("a")).await.expect("it is free");
        let mut second = Box::pin(queues.turn(account("a")));
        assert!(at_once(&mut second).await.is_none());
        drop(second);
        drop(first);
        assert!(queues.lock().is_empty());
        assert!(queues.turn(account("a")).await.is_ok());
    }

    #[tokio::test]
    async fn a_queue_is_bounded() {
        let queues = Arc::new(Queues::new(1));
        let _first = queues.turn(account("a")).await.expect("it is free");
        let mut waiting = Vec::new();
        for _ in 0..MAX_WAITING {
            let mut next = Box::pin(queues.turn(account("a")));
            assert!(at_once(&mut next).await.is_none());
            waiting.push(next);
        }
        assert!(matches!(queues.turn(account("a")).await, Err(StoreError::Unavailable(_))));
    }
}
