//! Batches of operations on balances. Each batch needs one call of a database function and one
//! commit.

use std::{collections::BTreeMap, sync::LazyLock, time::Duration};

use sqlx::PgConnection;
use tokio::time::timeout;

use super::{
    composites::{OperationRow, OutcomeRow},
    operations::{BatchOutcome, Operation},
};
use crate::{
    domain::{
        account::AccountId,
        hold::{MAX_OPEN_HOLDS, MAX_OPEN_HOLDS_OF_KEY},
        id::BatchId,
        scope::Scope,
    },
    store::{Store, StoreError, connection::Connection, error::is_lock_timeout, servers::Epoch},
};

/// Time limit of one attempt, including the wait for its connection. After this time, the node
/// sends the batch again.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);

/// Maximum number of operations in one batch.
pub const MAX_BATCH: usize = 500;

/// The scopes that imply [`Scope::purchases_write`]. A key needs one of them for every operation.
static PURCHASE_SCOPES: LazyLock<Vec<String>> = LazyLock::new(|| {
    Scope::purchases_write().implied_by().iter().map(ToString::to_string).collect()
});

/// Operations that are sent together. The operations of one account take effect in their order.
#[derive(Clone, Debug)]
pub struct Batch {
    pub id: BatchId,
    /// Number of the attempt. The first attempt has number 1, and the first retry has number 2.
    pub attempt: i32,
    /// Whether to wait for locked accounts, up to the lock timeout of the connection. Otherwise
    /// locked accounts are skipped.
    pub wait: bool,
    pub operations: Vec<Operation>,
}

/// The connection of a lane, which the lane opens for its first batch and uses for all later
/// batches. Postgres is faster in a session that has just run the same statement.
#[derive(Default)]
pub struct BatchConnection(Option<(Epoch, Connection)>);

impl Store {
    /// Applies a batch. After the commit, returns an outcome for each operation, in the order of
    /// the operations. After [`StoreError::Unavailable`], the outcome is unknown. In this case,
    /// send the same batch again, as its next attempt.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn apply(
        &self,
        connection: &mut BatchConnection,
        batch: &Batch,
    ) -> Result<Vec<BatchOutcome>, StoreError> {
        let _timer = self.timer("apply");
        let attempt = async {
            let epoch = self.servers.epoch();
            // If the connection was opened before the current session, it returns to the pool,
            // which closes it.
            let current = connection.0.take().filter(|(opened, _)| *opened == epoch);
            let current = match current {
                Some(current) => current,
                None => (epoch, self.batches.acquire().await?),
            };
            call(connection.0.insert(current).1.unlimited(), batch).await
        };
        let rows = timeout(ATTEMPT_TIMEOUT, attempt).await;
        if !matches!(rows, Ok(Ok(_)))
            && let Some((_, mut own)) = connection.0.take()
        {
            own.close_on_drop();
        }
        let rows = match rows {
            Ok(Err(error)) if batch.attempt == 1 && is_lock_timeout(&error) => {
                return Ok(vec![BatchOutcome::Busy; batch.operations.len()]);
            }
            rows => rows.map_err(|_| {
                StoreError::Unavailable("the database did not answer in time".into())
            })??,
        };
        let entries = rows.iter().filter_map(|row| row.entry(&batch.operations));
        self.acknowledged.add_entries(entries);
        let mut outcomes = vec![None; batch.operations.len()];
        for row in rows {
            let place = usize::try_from(row.place - 1).unwrap_or(usize::MAX);
            let slot = outcomes.get_mut(place);
            let slot = slot.ok_or_else(|| StoreError::corrupt("ledger_outcome.place", place))?;
            *slot = Some(row.into_outcome()?);
        }
        let missing = || StoreError::corrupt("ledger_outcome", "an operation without an outcome");
        outcomes.into_iter().map(|outcome| outcome.ok_or_else(missing)).collect()
    }
}

async fn call(
    connection: &mut PgConnection,
    batch: &Batch,
) -> Result<Vec<OutcomeRow>, sqlx::Error> {
    let mut of_accounts: BTreeMap<AccountId, Vec<(usize, &Operation)>> = BTreeMap::new();
    for (place, operation) in batch.operations.iter().enumerate() {
        of_accounts.entry(operation.account_id).or_default().push((place, operation));
    }
    if batch.attempt == 1 && of_accounts.len() > 1 {
        return call_for_all(connection, batch).await;
    }
    // A retry waits for locks. It sends one account at a time, so no account waits for the lock of
    // another account.
    let mut rows = Vec::with_capacity(batch.operations.len());
    for (account_id, operations) in of_accounts {
        let (places, operations): (Vec<_>, Vec<_>) = operations.into_iter().unzip();
        for row in call_for_one(connection, batch, account_id, &operations).await? {
            let place = usize::try_from(row.place - 1).ok().and_then(|place| places.get(place));
            let place = place.map_or(0, |place| i64::try_from(place + 1).unwrap_or(0));
            rows.push(OutcomeRow { place, ..row });
        }
    }
    Ok(rows)
}

async fn call_for_one(
    connection: &mut PgConnection,
    batch: &Batch,
    account_id: AccountId,
    operations: &[&Operation],
) -> Result<Vec<OutcomeRow>, sqlx::Error> {
    let operations: Vec<_> = operations.iter().copied().map(OperationRow::new).collect();
    sqlx::query_as!(
        OutcomeRow,
        r#"SELECT /* batches.call_for_one */
                  place AS "place!", result AS "result!", replayed, seq, balance_after, decided_at,
                  cause_id, required, available, spend_limit, spend_period, decided_for, reason
           FROM ledger_apply($1, $2, $3, $4, $5, $6, $7, $8)"#,
        account_id.uuid(),
        batch.id.uuid(),
        batch.attempt,
        batch.wait,
        operations as _,
        MAX_OPEN_HOLDS,
        MAX_OPEN_HOLDS_OF_KEY,
        &PURCHASE_SCOPES[..],
    )
    .fetch_all(connection)
    .await
}

async fn call_for_all(
    connection: &mut PgConnection,
    batch: &Batch,
) -> Result<Vec<OutcomeRow>, sqlx::Error> {
    let operations: Vec<_> = batch.operations.iter().map(OperationRow::new).collect();
    sqlx::query_as!(
        OutcomeRow,
        r#"SELECT /* batches.call_for_all */
                  place AS "place!", result AS "result!", replayed, seq, balance_after, decided_at,
                  cause_id, required, available, spend_limit, spend_period, decided_for, reason
           FROM ledger_apply_all($1, $2, $3, $4, $5, $6, $7)"#,
        batch.id.uuid(),
        batch.attempt,
        batch.wait,
        operations as _,
        MAX_OPEN_HOLDS,
        MAX_OPEN_HOLDS_OF_KEY,
        &PURCHASE_SCOPES[..],
    )
    .fetch_all(connection)
    .await
}
