use serde_json::json;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    domain::{
        account::{AccountId, ExternalId},
        audit::{AuditAction, AuditTarget},
        hold::{HoldStatus, VoidReason},
        id::{HoldId, KeyId, PurchaseId},
        tenant::Tenant,
        text::Reference,
        timestamp::Timestamp,
    },
    store::{
        AccountHandle, Refusal, Store, StoreError,
        clock::{now, stored_time},
        connection::Connection,
    },
};

/// A part of a balance that is or was reserved. Amounts are in minor units.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hold {
    pub id: HoldId,
    /// The key that placed the hold.
    pub key_id: KeyId,
    pub amount: i64,
    pub reference: Option<Reference>,
    pub status: HoldStatus,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    pub closed_at: Option<Timestamp>,
    /// The reason, if the hold was voided.
    pub void_reason: Option<VoidReason>,
    /// The amount that was captured. The rest was released.
    pub captured: Option<i64>,
    pub purchase_id: Option<PurchaseId>,
}

impl Hold {
    /// Returns the hold as it was when the key placed it.
    #[must_use]
    pub fn as_made(self) -> Self {
        Self {
            status: HoldStatus::Open,
            closed_at: None,
            void_reason: None,
            captured: None,
            purchase_id: None,
            ..self
        }
    }
}

/// A filter for lists of holds.
#[derive(Clone, Copy, Default, Debug)]
pub struct HoldFilter {
    pub status: Option<HoldStatus>,
    /// The key that placed the hold.
    pub key_id: Option<KeyId>,
}

struct HoldRow {
    hold_id: Uuid,
    key_id: Uuid,
    amount: i64,
    reference: Option<String>,
    status: String,
    created_at: OffsetDateTime,
    expires_at: OffsetDateTime,
    closed_at: Option<OffsetDateTime>,
    void_reason: Option<String>,
    captured: Option<i64>,
    purchase_id: Option<Uuid>,
}

/// Defines a query that returns [`HoldRow`]s. `$rest` follows the table `holds`. A hold whose time
/// has passed counts as expired, even if it is not released yet.
macro_rules! select_holds {
    ($name:literal, $rest:literal, $($argument:expr),* $(,)?) => {
        sqlx::query_as!(
            HoldRow,
            "SELECT /* " + $name
            + r#" */
                        hold_id, key_id, amount, reference,
                        CASE WHEN due THEN 'expired' ELSE status END AS "status!", created_at,
                        expires_at, CASE WHEN due THEN expires_at ELSE closed_at END AS closed_at,
                        void_reason, captured, purchase_id
                 FROM holds CROSS JOIN LATERAL (
                     SELECT status = 'open' AND expires_at <= ledger_now() AS due) AS state "#
            + $rest,
            $($argument),*
        )
    };
}

impl HoldRow {
    fn into_hold(self) -> Result<Hold, StoreError> {
        let time = |moment| stored_time("holds", moment);
        Ok(Hold {
            id: HoldId::from_uuid(self.hold_id),
            key_id: KeyId::from_uuid(self.key_id),
            amount: self.amount,
            reference: self.reference.map(Reference::from_stored),
            status: self
                .status
                .parse()
                .map_err(|error| StoreError::corrupt("holds.status", error))?,
            created_at: time(self.created_at)?,
            expires_at: time(self.expires_at)?,
            closed_at: self.closed_at.map(time).transpose()?,
            void_reason: self
                .void_reason
                .map(|reason| reason.parse::<VoidReason>())
                .transpose()
                .map_err(|error| StoreError::corrupt("holds.void_reason", error))?,
            captured: self.captured,
            purchase_id: self.purchase_id.map(PurchaseId::from_uuid),
        })
    }
}

impl Store {
    /// Reads a hold. If its time has passed, its status is expired, even if it is not released yet.
    #[tracing::instrument(level = "debug", skip_all, fields(tenant = %tenant.slug, account_id = %tenant.account_id(account), hold_id = %id))]
    pub async fn find_hold(
        &self,
        tenant: &Tenant,
        account: &ExternalId,
        id: HoldId,
    ) -> Result<Hold, StoreError> {
        let _timer = self.timer("find_hold");
        let account_id = AccountId::derive(tenant.id, account);
        let row = self
            .read(|mut connection| async move { select(&mut connection, account_id, id).await })
            .await?;
        row.ok_or(Refusal::NotFound)?.into_hold()
    }

    /// Lists an account's holds, newest first. The filter can select a status or a key.
    #[tracing::instrument(level = "debug", skip_all, fields(tenant = %tenant.slug, account_id = %tenant.account_id(account)))]
    pub async fn list_holds(
        &self,
        tenant: &Tenant,
        account: &ExternalId,
        filter: &HoldFilter,
        before: Option<HoldId>,
        limit: i64,
    ) -> Result<Vec<Hold>, StoreError> {
        self.find_account(tenant, account).await?;
        let _timer = self.timer("list_holds");
        let account_id = tenant.account_id(account);
        let before = before.map_or(Uuid::max(), HoldId::uuid);
        let key_id = filter.key_id.map(KeyId::uuid);
        // Each filter has its own statement, so that Postgres uses the matching index. Holds that
        // are due but not released yet count as expired.
        let rows = match (filter.status.map(HoldStatus::as_str), key_id) {
            (Some(status), key_id) => {
                self.read(|mut connection| async move {
                    sqlx::query_as!(
                        HoldRow,
                        r#"SELECT /* holds.list_holds_of_status */
                                  hold_id AS "hold_id!", key_id AS "key_id!", amount AS "amount!",
                                  reference, $3::text AS "status!", created_at AS "created_at!",
                                  expires_at AS "expires_at!", closed_at, void_reason, captured,
                                  purchase_id
                           FROM ((SELECT hold_id, key_id, amount, reference, created_at, expires_at,
                                         closed_at, void_reason, captured, purchase_id
                                  FROM holds
                                  WHERE account_id = $1 AND status = $3 AND hold_id < $2
                                    AND key_id = coalesce($5, key_id)
                                    AND ($3 <> 'open' OR expires_at > (SELECT ledger_now()))
                                  ORDER BY hold_id DESC LIMIT $4)
                                 UNION ALL
                                 (SELECT hold_id, key_id, amount, reference, created_at, expires_at,
                                         expires_at, void_reason, captured, purchase_id
                                  FROM holds
                                  WHERE account_id = $1 AND status = 'open' AND $3 = 'expired'
                                    AND hold_id < $2 AND key_id = coalesce($5, key_id)
                                    AND expires_at <= (SELECT ledger_now())
                                  ORDER BY hold_id DESC LIMIT $4)) AS found
                           ORDER BY hold_id DESC LIMIT $4"#,
                        account_id,
                        before,
                        status,
                        limit,
                        key_id,
                    )
                    .fetch_all(&mut connection)
                    .await
                })
                .await?
            }
            (None, Some(key_id)) => {
                self.read(|mut connection| async move {
                    select_holds!(
                        "holds.list_holds_of_key",
                        "WHERE account_id = $1 AND key_id = $2 AND hold_id < $3
                         ORDER BY hold_id DESC LIMIT $4",
                        account_id,
                        key_id,
                        before,
                        limit,
                    )
                    .fetch_all(&mut connection)
                    .await
                })
                .await?
            }
            (None, None) => {
                self.read(|mut connection| async move {
                    select_holds!(
                        "holds.list_holds",
                        "WHERE account_id = $1 AND hold_id < $2 ORDER BY hold_id DESC LIMIT $3",
                        account_id,
                        before,
                        limit,
                    )
                    .fetch_all(&mut connection)
                    .await
                })
                .await?
            }
        };
        rows.into_iter().map(HoldRow::into_hold).collect()
    }

    /// Releases the expired holds of at most `limit` accounts. Skips locked accounts. Returns the
    /// number of accounts that it found.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn release_due_holds(&self, limit: i64) -> Result<usize, StoreError> {
        let _timer = self.timer("release_due_holds");
        let accounts = self
            .read(|mut connection| async move {
                sqlx::query_scalar!(
                    "SELECT /* holds.release_due_holds */ account_id FROM holds
                     WHERE status = 'open' AND expires_at <= (SELECT ledger_now())
                     GROUP BY account_id LIMIT $1",
                    limit,
                )
                .fetch_all(&mut connection)
                .await
            })
            .await?;
        let mut failure = None;
        for account_id in &accounts {
            // Every batch first releases expired holds. An empty batch does nothing else, so it
            // ignores the limits on open holds and the scopes.
            let released = self
                .read(|mut connection| async move {
                    sqlx::query!(
                        "SELECT /* holds.release_of_account */
                                count(*) FROM ledger_apply($1, $1, 1, false, '{}', 0, 0, '{}')",
                        account_id,
                    )
                    .fetch_one(&mut connection)
                    .await
                })
                .await;
            match released {
                Ok(_) => {}
                Err(error @ StoreError::Unavailable(_)) => return Err(error),
                // If one account fails, the loop still releases the holds of the others.
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            Some(error) => Err(error),
            None => Ok(accounts.len()),
        }
    }
}

impl AccountHandle<'_> {
    /// Voids a hold for the tenant's backend or the account's owner. A voided hold stays unchanged,
    /// so a repeated call has no effect. The account may be suspended.
    #[tracing::instrument(level = "debug", skip_all, fields(tenant = %self.tenant.slug, account_id = %self.id.uuid(), hold_id = %id))]
    pub async fn void_hold(&self, id: HoldId, reason: VoidReason) -> Result<Hold, StoreError> {
        let _timer = self.store.timer("void_hold");
        let (mut tx, _) = self.begin().await?;
        let stored = select(&mut tx, self.id, id).await?.ok_or(Refusal::NotFound)?.into_hold()?;
        match stored.status {
            HoldStatus::Open => {}
            HoldStatus::Voided => return Ok(stored),
            status @ (HoldStatus::Captured | HoldStatus::Expired) => {
                return Err(Refusal::HoldNotOpen { status }.into());
            }
        }
        sqlx::query!(
            "SELECT /* holds.void */
                    voided_amount FROM ledger_void_holds($1, ARRAY[$2::uuid], $3)",
            self.id.uuid(),
            id.uuid(),
            reason.as_str(),
        )
        .fetch_one(&mut *tx)
        .await?;
        let hold = select(&mut tx, self.id, id).await?.ok_or(Refusal::NotFound)?.into_hold()?;
        if hold.status != HoldStatus::Voided {
            // The hold expired after it was read.
            return Err(Refusal::HoldNotOpen { status: hold.status }.into());
        }
        let at = now(&mut tx).await?;
        let currency = &self.tenant.policy.currency;
        let detail = json!({
            "key_id": hold.key_id,
            "amount": currency.format(hold.amount),
            "currency": currency.code(),
            "reference": hold.reference.as_ref().map(Reference::as_str),
        });
        let target = Some(AuditTarget::Hold(id));
        self.record(&mut tx, AuditAction::HoldVoid, target, detail, at).await?;
        tx.commit().await?;
        Ok(hold)
    }
}

/// Reads one hold of an account.
async fn select(
    connection: &mut Connection,
    account_id: AccountId,
    id: HoldId,
) -> Result<Option<HoldRow>, sqlx::Error> {
    select_holds!(
        "holds.select",
        "WHERE account_id = $1 AND hold_id = $2",
        account_id.uuid(),
        id.uuid(),
    )
    .fetch_optional(connection)
    .await
}
