//! Checks that the money of every account adds up. The check uses a limited amount of memory,
//! regardless of the length of a ledger.

use sqlx::{Executor as _, PgConnection};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    domain::account::AccountId,
    store::{Store, StoreError, transaction::Tx},
};

/// Number of accounts that one snapshot checks.
const ACCOUNTS_AT_ONCE: u16 = 1000;

/// Number of entries that one statement reads.
const ENTRIES_AT_ONCE: i64 = 10_000;

/// Settings of the check. Checking a long ledger takes longer than the statement timeout. Every
/// lookup must use a primary key, even if the statistics are outdated because the ledger has just
/// grown.
const SETTINGS: &str = "SET LOCAL statement_timeout = 0; SET LOCAL enable_seqscan = off; \
     SET LOCAL enable_bitmapscan = off; SET LOCAL enable_hashjoin = off; SET LOCAL jit = off";

/// A report of a running check.
pub enum LedgerCheck<'a> {
    /// A fault. `account` names the tenant and the account.
    Fault { account: &'a str, fault: &'a str },
    /// Number of ledger entries that were checked since the last report.
    Progress { entries: i64 },
}

/// An account that the check compares with its entries.
struct CheckedAccount {
    account_id: Uuid,
    name: String,
    balance: i64,
    last_seq: i64,
    last_entry_at: Option<OffsetDateTime>,
}

struct CheckedEntry {
    account_id: Uuid,
    seq: i64,
    kind: String,
    amount: i64,
    balance_after: i64,
    created_at: OffsetDateTime,
    /// Whether the purchase, credit or refund of the entry exists and matches.
    is_caused: bool,
}

impl Store {
    /// Counts the ledger entries of one account or of all accounts.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn count_ledger_entries(
        &self,
        account: Option<AccountId>,
    ) -> Result<i64, StoreError> {
        let _timer = self.timer("count_ledger_entries");
        let account_id = account.map(AccountId::uuid);
        self.read(|mut connection| async move {
            sqlx::query_scalar!(
                r#"SELECT /* ledger_check.count_ledger_entries */
                          coalesce(sum(last_seq), 0)::bigint AS "entries!" FROM accounts
                   WHERE account_id = $1 OR $1 IS NULL"#,
                account_id,
            )
            .fetch_one(&mut connection)
            .await
        })
        .await
    }

    /// Checks the entries of one account or of all accounts, and all related rows. The check reads
    /// each account in one snapshot, so a service may run at the same time. Returns the number of
    /// accounts.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn check_ledger(
        &self,
        account: Option<AccountId>,
        mut tell: impl FnMut(LedgerCheck<'_>),
    ) -> Result<usize, StoreError> {
        let _timer = self.timer("check_ledger");
        let only = account.map(AccountId::uuid);
        let mut first = only.unwrap_or(Uuid::nil());
        let mut checked = 0;
        loop {
            let mut tx = self.begin_ledger_snapshot().await?;
            let snapshot = tx.unlimited();
            let accounts = next_accounts(snapshot, first, only.unwrap_or(Uuid::max())).await?;
            let is_last = accounts.len() < usize::from(ACCOUNTS_AT_ONCE);
            // Together, the ranges of all snapshots cover every id, so the check also finds entries
            // without an account.
            let last = match accounts.last() {
                Some(account) if !is_last => account.account_id,
                _ => only.unwrap_or(Uuid::max()),
            };
            check_chains(snapshot, &accounts, first, last, &mut tell).await?;
            let faults = sqlx::query!(
                r#"SELECT /* ledger_check.check_ledger */
                          account_id AS "account_id!", fault AS "fault!"
                   FROM ledger_faults($1, $2)"#,
                first,
                last,
            )
            .fetch_all(snapshot)
            .await?;
            for row in faults {
                let name = name_of(&accounts, row.account_id);
                tell(LedgerCheck::Fault { account: &name, fault: &row.fault });
            }
            tx.rollback().await?;
            checked += accounts.len();
            if is_last {
                return Ok(checked);
            }
            first = Uuid::from_u128(last.as_u128() + 1);
        }
    }

    /// Begins a transaction whose statements all see the same state of the ledger. The transaction
    /// changes nothing, so the server may be a standby.
    pub(super) async fn begin_ledger_snapshot(&self) -> Result<Tx, StoreError> {
        let mut tx = self.begin().await?;
        tx.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY").await?;
        tx.execute(SETTINGS).await?;
        Ok(tx)
    }
}

async fn next_accounts(
    connection: &mut PgConnection,
    first: Uuid,
    last: Uuid,
) -> Result<Vec<CheckedAccount>, sqlx::Error> {
    sqlx::query_as!(
        CheckedAccount,
        r#"SELECT /* ledger_check.next_accounts */
                  account_id, t.slug || ' (' || t.environment || ') ' || a.external_id AS "name!",
                  balance, last_seq, last_entry_at
           FROM accounts a JOIN tenants t USING (tenant_id)
           WHERE account_id BETWEEN $1 AND $2 ORDER BY account_id LIMIT $3"#,
        first,
        last,
        i64::from(ACCOUNTS_AT_ONCE),
    )
    .fetch_all(connection)
    .await
}

async fn check_chains(
    connection: &mut PgConnection,
    accounts: &[CheckedAccount],
    first: Uuid,
    last: Uuid,
    tell: &mut impl FnMut(LedgerCheck<'_>),
) -> Result<(), StoreError> {
    let mut place = (first, 0);
    let mut accounts = accounts.iter();
    let mut chain = accounts.next().map(Chain::new);
    loop {
        let entries = next_entries(connection, place, last).await?;
        for entry in &entries {
            while let Some(ended) =
                chain.take_if(|chain| chain.account.account_id < entry.account_id)
            {
                ended.end(tell);
                chain = accounts.next().map(Chain::new);
            }
            match &mut chain {
                Some(chain) if chain.account.account_id == entry.account_id => {
                    chain.add(entry, tell);
                }
                _ => tell(LedgerCheck::Fault {
                    account: &entry.account_id.to_string(),
                    fault: &format!("entry {} has no account", entry.seq),
                }),
            }
        }
        tell(LedgerCheck::Progress { entries: i64::try_from(entries.len()).unwrap_or(i64::MAX) });
        match entries.last() {
            Some(entry) => place = (entry.account_id, entry.seq),
            None => break,
        }
    }
    for ended in chain.into_iter().chain(accounts.map(Chain::new)) {
        ended.end(tell);
    }
    Ok(())
}

async fn next_entries(
    connection: &mut PgConnection,
    (account_id, seq): (Uuid, i64),
    last: Uuid,
) -> Result<Vec<CheckedEntry>, sqlx::Error> {
    sqlx::query_as!(
        CheckedEntry,
        r#"SELECT /* ledger_check.next_entries */
                  e.account_id, e.seq, e.kind, e.amount, e.balance_after, e.created_at,
                  coalesce(CASE e.kind
                      WHEN 'purchase' THEN (
                          SELECT (p.seq, -p.amount, p.key_id) = (e.seq, e.amount, e.key_id)
                          FROM purchases p
                          WHERE p.account_id = e.account_id AND p.purchase_id = e.cause_id)
                      WHEN 'credit' THEN (
                          SELECT (c.seq, c.amount) = (e.seq, e.amount) FROM credits c
                          WHERE c.account_id = e.account_id AND c.credit_id = e.cause_id)
                      ELSE (
                          SELECT (r.seq, r.amount) = (e.seq, e.amount) FROM refunds r
                          WHERE r.account_id = e.account_id AND r.refund_id = e.cause_id)
                  END, false) AS "is_caused!"
           FROM ledger_entries e
           WHERE (e.account_id, e.seq) > ($1, $2) AND e.account_id <= $3
           ORDER BY e.account_id, e.seq LIMIT $4"#,
        account_id,
        seq,
        last,
        ENTRIES_AT_ONCE,
    )
    .fetch_all(connection)
    .await
}

fn name_of(accounts: &[CheckedAccount], account_id: Uuid) -> String {
    let found = accounts.iter().find(|account| account.account_id == account_id);
    found.map_or_else(|| account_id.to_string(), |account| account.name.clone())
}

/// The state of an account's entries up to the current entry.
struct Chain<'a> {
    account: &'a CheckedAccount,
    seq: i64,
    balance: i64,
    at: Option<OffsetDateTime>,
}

impl<'a> Chain<'a> {
    fn new(account: &'a CheckedAccount) -> Self {
        Self { account, seq: 0, balance: 0, at: None }
    }

    fn add(&mut self, entry: &CheckedEntry, tell: &mut impl FnMut(LedgerCheck<'_>)) {
        let CheckedEntry { seq, kind, amount, balance_after, created_at, .. } = entry;
        if self.seq.checked_add(1) != Some(*seq) {
            self.fault(tell, &format!("entry {seq} follows entry {}", self.seq));
        }
        if self.balance.checked_add(*amount) != Some(*balance_after) {
            let before = self.balance;
            self.fault(
                tell,
                &format!(
                    "entry {seq}: {before} plus {amount} is not its balance_after {balance_after}"
                ),
            );
        }
        if self.at.is_some_and(|at| at > *created_at) {
            self.fault(tell, &format!("entry {seq} has an earlier time than the previous entry"));
        }
        if !entry.is_caused {
            self.fault(tell, &format!("entry {seq} has no matching {kind}"));
        }
        (self.seq, self.balance, self.at) = (*seq, *balance_after, Some(*created_at));
    }

    fn end(self, tell: &mut impl FnMut(LedgerCheck<'_>)) {
        let CheckedAccount { balance, last_seq, last_entry_at, .. } = *self.account;
        if (balance, last_seq) != (self.balance, self.seq) {
            let (seq, sum) = (self.seq, self.balance);
            self.fault(
                tell,
                &format!(
                    "balance {balance} at seq {last_seq}, but the entries end with {sum} at seq {seq}"
                ),
            );
        }
        if last_entry_at != self.at {
            self.fault(tell, "last_entry_at is not the time of the newest entry");
        }
    }

    fn fault(&self, tell: &mut impl FnMut(LedgerCheck<'_>), fault: &str) {
        tell(LedgerCheck::Fault { account: &self.account.name, fault });
    }
}
