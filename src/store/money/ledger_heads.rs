//! Lists the newest entry of each account, and checks whether the ledger still contains the entries
//! of an earlier list. The other checks of the ledger cannot detect that a failover lost all newest
//! entries.

use uuid::Uuid;

use crate::{
    domain::{
        account::AccountId,
        ledger_entry::{EntryCause, EntryKind},
        ledger_head::{HeadEntry, LedgerHead},
        tenant::{Environment, Slug},
    },
    store::{Refusal, Store, StoreError, external_ids::stored_account},
};

/// Number of accounts that one snapshot reads.
const ACCOUNTS_AT_ONCE: i64 = 1000;

struct HeadRow {
    account_id: Uuid,
    slug: String,
    environment: String,
    external_id: String,
    last_seq: i64,
    kind: Option<String>,
    cause_id: Option<Uuid>,
    balance_after: Option<i64>,
}

/// The ledger's current entry with the `seq` of an earlier head, if it exists.
struct ComparedRow {
    place: i64,
    last_seq: Option<i64>,
    kind: Option<String>,
    cause_id: Option<Uuid>,
    balance_after: Option<i64>,
}

impl HeadRow {
    fn into_head(self) -> Result<LedgerHead, StoreError> {
        let newest = entry(self.last_seq, self.kind.as_deref(), self.cause_id, self.balance_after)?;
        if newest.is_none() && self.last_seq > 0 {
            let account = self.account_id;
            let fault = format!("account {account} lacks this entry. Run tollgate ledger verify");
            return Err(StoreError::corrupt("accounts.last_seq", fault));
        }
        let slug = self.slug.parse::<Slug>();
        let environment = self.environment.parse::<Environment>();
        Ok(LedgerHead {
            tenant: slug.map_err(|error| StoreError::corrupt("tenants.slug", error))?,
            environment: environment
                .map_err(|error| StoreError::corrupt("tenants.environment", error))?,
            account: stored_account(&self.external_id)?,
            newest,
        })
    }
}

impl ComparedRow {
    /// Explains how the ledger differs from this earlier head. `None` if it still contains the
    /// head.
    fn fault(&self, head: &LedgerHead) -> Result<Option<String>, StoreError> {
        let Some(last_seq) = self.last_seq else {
            return Ok(Some("the account is missing".to_owned()));
        };
        let Some(HeadEntry { seq, cause, balance }) = head.newest else { return Ok(None) };
        let found = entry(seq, self.kind.as_deref(), self.cause_id, self.balance_after)?;
        Ok(match found {
            None => Some(format!(
                "entry {seq} ({cause}) is missing. The newest entry of the account is {last_seq}"
            )),
            Some(found) if found.cause != cause => {
                Some(format!("entry {seq} is {}, but was {cause}", found.cause))
            }
            Some(found) if found.balance != balance => Some(format!(
                "the balance after entry {seq} ({cause}) is {}, but was {balance}",
                found.balance
            )),
            Some(_) => None,
        })
    }
}

impl Store {
    /// Lists the heads of up to 1,000 accounts after this one, in the order of the accounts' ids,
    /// from one snapshot. An empty list means that there are no more accounts.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn list_ledger_heads(
        &self,
        after: Option<AccountId>,
    ) -> Result<Vec<(AccountId, LedgerHead)>, StoreError> {
        let _timer = self.timer("list_ledger_heads");
        let after = after.map_or(Uuid::nil(), AccountId::uuid);
        let mut tx = self.begin_ledger_snapshot().await?;
        // OFFSET makes Postgres look up each entry by its primary key, regardless of the
        // statistics.
        let rows = sqlx::query_as!(
            HeadRow,
            r#"SELECT /* ledger_heads.list_ledger_heads */
                      a.account_id AS "account_id!", t.slug AS "slug!",
                      t.environment AS "environment!", a.external_id AS "external_id!",
                      a.last_seq AS "last_seq!", e.kind AS "kind?", e.cause_id AS "cause_id?",
                      e.balance_after AS "balance_after?"
               FROM (SELECT account_id, tenant_id, external_id, last_seq FROM accounts
                     WHERE account_id > $1 ORDER BY account_id LIMIT $2) AS a
               JOIN tenants t USING (tenant_id)
               LEFT JOIN LATERAL (
                   SELECT kind, cause_id, balance_after FROM ledger_entries
                   WHERE account_id = a.account_id AND seq = a.last_seq OFFSET 0) AS e ON true
               ORDER BY a.account_id"#,
            after,
            ACCOUNTS_AT_ONCE,
        )
        .fetch_all(tx.unlimited())
        .await?;
        tx.rollback().await?;
        let head = |row: HeadRow| Ok((AccountId::from_uuid(row.account_id), row.into_head()?));
        rows.into_iter().map(head).collect()
    }

    /// Compares earlier heads with the ledger. For each head that the ledger no longer contains,
    /// returns the index and the fault.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn find_lost_heads(
        &self,
        heads: &[LedgerHead],
    ) -> Result<Vec<(usize, String)>, StoreError> {
        let _timer = self.timer("find_lost_heads");
        let mut account_ids = Vec::with_capacity(heads.len());
        for head in heads {
            account_ids.push(self.account_of(head).await?);
        }
        let seqs: Vec<i64> =
            heads.iter().map(|head| head.newest.map_or(0, |newest| newest.seq)).collect();
        let mut tx = self.begin_ledger_snapshot().await?;
        let rows = sqlx::query_as!(
            ComparedRow,
            r#"SELECT /* ledger_heads.find_lost_heads */
                      h.place AS "place!", a.last_seq AS "last_seq?", e.kind AS "kind?",
                      e.cause_id AS "cause_id?", e.balance_after AS "balance_after?"
               FROM unnest($1::uuid[], $2::bigint[])
                    WITH ORDINALITY AS h (account_id, seq, place)
               LEFT JOIN LATERAL (
                   SELECT last_seq FROM accounts WHERE account_id = h.account_id OFFSET 0
               ) AS a ON true
               LEFT JOIN LATERAL (
                   SELECT kind, cause_id, balance_after FROM ledger_entries
                   WHERE account_id = h.account_id AND seq = h.seq OFFSET 0) AS e ON true
               ORDER BY h.place"#,
            &account_ids,
            &seqs,
        )
        .fetch_all(tx.unlimited())
        .await?;
        tx.rollback().await?;
        let mut lost = Vec::new();
        for row in rows {
            let place = usize::try_from(row.place - 1).unwrap_or(usize::MAX);
            let head = heads.get(place);
            let head = head.ok_or_else(|| StoreError::corrupt("the position of a head", place))?;
            if let Some(fault) = row.fault(head)? {
                lost.push((place, fault));
            }
        }
        Ok(lost)
    }

    /// Returns the id of the head's account, which may not exist. If the tenant does not exist, no
    /// account has the returned id.
    async fn account_of(&self, head: &LedgerHead) -> Result<Uuid, StoreError> {
        match self.find_tenant(&head.tenant, head.environment).await {
            Ok(tenant) => Ok(tenant.account_id(&head.account)),
            Err(StoreError::Refused(Refusal::NotFound)) => Ok(Uuid::nil()),
            Err(error) => Err(error),
        }
    }
}

/// Builds the entry with this `seq` from the columns of a row. `None` if the entry does not exist.
fn entry(
    seq: i64,
    kind: Option<&str>,
    cause_id: Option<Uuid>,
    balance_after: Option<i64>,
) -> Result<Option<HeadEntry>, StoreError> {
    let (Some(kind), Some(cause_id), Some(balance)) = (kind, cause_id, balance_after) else {
        return Ok(None);
    };
    let kind = kind.parse::<EntryKind>();
    let kind = kind.map_err(|error| StoreError::corrupt("ledger_entries.kind", error))?;
    Ok(Some(HeadEntry { seq, cause: EntryCause::from_stored(kind, cause_id), balance }))
}
