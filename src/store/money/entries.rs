use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    domain::{
        account::{AccountId, ExternalId},
        id::{AdminKeyId, KeyId},
        ledger_entry::{EntryCause, EntryKind, SortOrder},
        tenant::Tenant,
        text::Reference,
        timestamp::Timestamp,
    },
    store::{
        Store, StoreError, accounts::account::LockedAccount, clock::stored_time,
        connection::Connection,
    },
};

/// One line of an account's statement.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LedgerEntry {
    /// The number of the entry. The entries of an account have the numbers 1, 2, 3, … without gaps.
    pub seq: i64,
    /// The amount in minor units. It is positive if the entry raises the balance, and negative if
    /// it lowers the balance.
    pub amount: i64,
    pub balance_after: i64,
    /// The purchase, credit or refund that caused the entry. Its type determines the kind of the
    /// entry.
    pub cause: EntryCause,
    pub key_id: Option<KeyId>,
    pub admin_key_id: Option<AdminKeyId>,
    /// The reference of the cause.
    pub reference: Option<Reference>,
    pub created_at: Timestamp,
}

/// Restricts a list of entries. `None` matches every entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct EntryFilter {
    /// The beginning of the period, inclusive.
    pub from: Option<Timestamp>,
    /// The end of the period, exclusive.
    pub to: Option<Timestamp>,
    pub key_id: Option<KeyId>,
    pub kind: Option<EntryKind>,
}

/// A part of a statement: the entries with `after < seq <= last`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EntryRange {
    pub after: i64,
    pub last: i64,
}

/// A balance at an earlier time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BalanceThen {
    /// The seq of the newest entry at that time. 0 if there was none.
    pub seq: i64,
    /// The balance in minor units.
    pub balance: i64,
}

struct EntryRow {
    seq: i64,
    kind: String,
    amount: i64,
    balance_after: i64,
    cause_id: Uuid,
    key_id: Option<Uuid>,
    admin_key_id: Option<Uuid>,
    reference: Option<String>,
    created_at: OffsetDateTime,
}

impl EntryRow {
    fn into_entry(self) -> Result<LedgerEntry, StoreError> {
        let kind = self.kind.parse::<EntryKind>();
        let kind = kind.map_err(|error| StoreError::corrupt("ledger_entries.kind", error))?;
        Ok(LedgerEntry {
            seq: self.seq,
            amount: self.amount,
            balance_after: self.balance_after,
            cause: EntryCause::from_stored(kind, self.cause_id),
            key_id: self.key_id.map(KeyId::from_uuid),
            admin_key_id: self.admin_key_id.map(AdminKeyId::from_uuid),
            reference: self.reference.map(Reference::from_stored),
            created_at: stored_time("ledger_entries.created_at", self.created_at)?,
        })
    }
}

impl Store {
    /// Finds the range of an account's entries within the period of a filter. The range does not
    /// include entries that are added later.
    #[tracing::instrument(level = "debug", skip_all, fields(tenant = %tenant.slug, account_id = %tenant.account_id(account)))]
    pub async fn find_entry_range(
        &self,
        tenant: &Tenant,
        account: &ExternalId,
        filter: &EntryFilter,
    ) -> Result<EntryRange, StoreError> {
        self.find_account(tenant, account).await?;
        let _timer = self.timer("find_entry_range");
        let account_id = tenant.account_id(account);
        let [from, to] = [filter.from, filter.to].map(|moment| moment.map(OffsetDateTime::from));
        let row = self
            .read(|mut connection| async move {
                sqlx::query!(
                    r#"SELECT /* ledger.find_entry_range */ CASE WHEN $2::timestamptz IS NULL THEN 0
                                   ELSE ledger_seq_before(account_id, $2) END AS "after!",
                              CASE WHEN $3::timestamptz IS NULL THEN last_seq
                                   ELSE ledger_seq_before(account_id, $3) END AS "last!"
                       FROM accounts WHERE account_id = $1"#,
                    account_id,
                    from,
                    to,
                )
                .fetch_one(&mut connection)
                .await
            })
            .await?;
        Ok(EntryRange { after: row.after, last: row.last })
    }

    /// Lists a part of an account's statement. `range` already takes the filter's period into
    /// account.
    #[tracing::instrument(level = "debug", skip_all, fields(tenant = %tenant.slug, account_id = %tenant.account_id(account)))]
    pub async fn list_ledger_entries(
        &self,
        tenant: &Tenant,
        account: &ExternalId,
        filter: &EntryFilter,
        range: EntryRange,
        order: SortOrder,
        limit: i64,
    ) -> Result<Vec<LedgerEntry>, StoreError> {
        let _timer = self.timer("list_ledger_entries");
        let account_id = tenant.account_id(account);
        let key_id = filter.key_id.map(KeyId::uuid);
        let kind = filter.kind.map(EntryKind::as_str);
        let ascending = order == SortOrder::OldestFirst;
        let EntryRange { after, last } = range;
        let rows = self
            .read(|mut connection| async move {
                sqlx::query_as!(
                    EntryRow,
                    r#"SELECT /* ledger.list_ledger_entries */
                              e.seq AS "seq!", e.kind AS "kind!", e.amount AS "amount!",
                              e.balance_after AS "balance_after!", e.cause_id AS "cause_id!",
                              e.key_id, e.admin_key_id, e.reference, e.created_at AS "created_at!"
                       FROM ledger_statement($1, $2, $3, $4, $5, $6, $7) AS e"#,
                    account_id,
                    after,
                    last,
                    key_id,
                    kind,
                    ascending,
                    limit,
                )
                .fetch_all(&mut connection)
                .await
            })
            .await?;
        rows.into_iter().map(EntryRow::into_entry).collect()
    }

    /// Finds the balance of an account at a time. Entries with exactly that time count. Without a
    /// time, finds the current balance.
    #[tracing::instrument(level = "debug", skip_all, fields(tenant = %tenant.slug, account_id = %tenant.account_id(account)))]
    pub async fn find_balance_then(
        &self,
        tenant: &Tenant,
        account: &ExternalId,
        at: Option<Timestamp>,
    ) -> Result<BalanceThen, StoreError> {
        self.find_account(tenant, account).await?;
        let _timer = self.timer("find_balance_then");
        let account_id = tenant.account_id(account);
        let row = self
            .read(|mut connection| async move {
                sqlx::query!(
                    r#"SELECT /* ledger.find_balance_then */ seq AS "seq!", coalesce((
                           SELECT balance_after FROM ledger_entries e
                           WHERE e.account_id = $1 AND e.seq = newest.seq), 0) AS "balance!"
                       FROM ledger_seq_before(
                           $1, coalesce($2::timestamptz + interval '1 microsecond', 'infinity'))
                           AS newest (seq)"#,
                    account_id,
                    at.map(OffsetDateTime::from),
                )
                .fetch_one(&mut connection)
                .await
            })
            .await?;
        Ok(BalanceThen { seq: row.seq, balance: row.balance })
    }
}

/// Returns the time by the ledger's clock, or the time of the account's newest entry if that is
/// later. So `created_at` never decreases as `seq` grows.
pub(in crate::store) async fn next_moment(
    connection: &mut Connection,
    account: &LockedAccount,
) -> Result<Timestamp, StoreError> {
    let now = sqlx::query_scalar!(r#"SELECT /* ledger.next_moment */ ledger_now() AS "now!""#)
        .fetch_one(connection)
        .await?;
    let now = stored_time("ledger_now()", now)?;
    Ok(account.last_entry_at.map_or(now, |last| last.max(now)))
}

/// Appends an entry that is not a purchase, and changes the balance by its amount. SQL functions
/// append purchases. No other code changes a balance.
pub(in crate::store) async fn append(
    connection: &mut Connection,
    account_id: AccountId,
    entry: &LedgerEntry,
) -> Result<(), StoreError> {
    sqlx::query!(
        "INSERT /* ledger.append */
                INTO ledger_entries (account_id, seq, kind, amount, balance_after, cause_id,
                                     key_id, admin_key_id, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        account_id.uuid(),
        entry.seq,
        entry.cause.kind().as_str(),
        entry.amount,
        entry.balance_after,
        entry.cause.uuid(),
        entry.key_id.map(KeyId::uuid),
        entry.admin_key_id.map(AdminKeyId::uuid),
        OffsetDateTime::from(entry.created_at),
    )
    .execute(&mut *connection)
    .await?;
    let moved = sqlx::query!(
        "UPDATE /* ledger.move_balance */
                accounts SET balance = balance + $2, last_seq = last_seq + 1, last_entry_at = $5
         WHERE account_id = $1 AND last_seq + 1 = $3 AND balance + $2 = $4",
        account_id.uuid(),
        entry.amount,
        entry.seq,
        entry.balance_after,
        OffsetDateTime::from(entry.created_at),
    )
    .execute(connection)
    .await?
    .rows_affected();
    // The lock should make this impossible. This check is a second protection of the invariant.
    if moved != 1 {
        return Err(StoreError::corrupt("accounts", "the balance changed despite the lock"));
    }
    Ok(())
}
