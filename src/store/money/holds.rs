use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    domain::{
        account::ExternalId,
        hold::HoldStatus,
        id::{HoldId, KeyId, PurchaseId},
        tenant::Tenant,
        text::Reference,
        timestamp::Timestamp,
    },
    store::{Refusal, Store, StoreError, clock::stored_time},
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
    /// The amount that was captured. The rest was released.
    pub captured: Option<i64>,
    pub purchase_id: Option<PurchaseId>,
}

impl Hold {
    /// The hold as it was when it was placed.
    #[must_use]
    pub fn as_made(self) -> Self {
        Self {
            status: HoldStatus::Open,
            closed_at: None,
            captured: None,
            purchase_id: None,
            ..self
        }
    }
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
    captured: Option<i64>,
    purchase_id: Option<Uuid>,
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
            captured: self.captured,
            purchase_id: self.purchase_id.map(PurchaseId::from_uuid),
        })
    }
}

impl Store {
    /// A hold. A hold whose time is up is returned as expired, even if it was not released yet.
    #[tracing::instrument(level = "debug", skip_all, fields(tenant = %tenant.slug, account_id = %tenant.account_id(account), hold_id = %id))]
    pub async fn find_hold(
        &self,
        tenant: &Tenant,
        account: &ExternalId,
        id: HoldId,
    ) -> Result<Hold, StoreError> {
        let _timer = self.timer("find_hold");
        let account_id = tenant.account_id(account);
        let row = self
            .read(|pool| async move {
                sqlx::query_as!(
                    HoldRow,
                    r#"SELECT /* holds.find_hold */ hold_id, key_id, amount, reference,
                              CASE WHEN due THEN 'expired' ELSE status END AS "status!", created_at,
                              expires_at, CASE WHEN due THEN expires_at ELSE closed_at END AS closed_at,
                              captured, purchase_id
                       FROM holds CROSS JOIN LATERAL (
                           SELECT status = 'open' AND expires_at <= ledger_now() AS due) AS state
                       WHERE account_id = $1 AND hold_id = $2"#,
                    account_id,
                    id.uuid(),
                )
                .fetch_optional(&pool)
                .await
            })
            .await?;
        row.ok_or(Refusal::NotFound)?.into_hold()
    }

    /// An account's holds, newest first, optionally only those with a status.
    #[tracing::instrument(level = "debug", skip_all, fields(tenant = %tenant.slug, account_id = %tenant.account_id(account)))]
    pub async fn list_holds(
        &self,
        tenant: &Tenant,
        account: &ExternalId,
        status: Option<HoldStatus>,
        before: Option<HoldId>,
        limit: i64,
    ) -> Result<Vec<Hold>, StoreError> {
        self.find_account(tenant, account).await?;
        let _timer = self.timer("list_holds");
        let account_id = tenant.account_id(account);
        let before = before.map_or(Uuid::max(), HoldId::uuid);
        // A status has an index. Holds that are due but not released yet belong to the expired
        // ones.
        let rows = match status.map(HoldStatus::as_str) {
            Some(status) => {
                self.read(|pool| async move {
                    sqlx::query_as!(
                        HoldRow,
                        r#"SELECT /* holds.list_holds_of_status */
                                  hold_id AS "hold_id!", key_id AS "key_id!", amount AS "amount!",
                                  reference, $3::text AS "status!", created_at AS "created_at!",
                                  expires_at AS "expires_at!", closed_at, captured, purchase_id
                           FROM ((SELECT hold_id, key_id, amount, reference, created_at, expires_at,
                                         closed_at, captured, purchase_id
                                  FROM holds
                                  WHERE account_id = $1 AND status = $3 AND hold_id < $2
                                    AND ($3 <> 'open' OR expires_at > (SELECT ledger_now()))
                                  ORDER BY hold_id DESC LIMIT $4)
                                 UNION ALL
                                 (SELECT hold_id, key_id, amount, reference, created_at, expires_at,
                                         expires_at, captured, purchase_id
                                  FROM holds
                                  WHERE account_id = $1 AND status = 'open' AND $3 = 'expired'
                                    AND hold_id < $2 AND expires_at <= (SELECT ledger_now())
                                  ORDER BY hold_id DESC LIMIT $4)) AS found
                           ORDER BY hold_id DESC LIMIT $4"#,
                        account_id,
                        before,
                        status,
                        limit,
                    )
                    .fetch_all(&pool)
                    .await
                })
                .await?
            }
            None => {
                self.read(|pool| async move {
                    sqlx::query_as!(
                        HoldRow,
                        r#"SELECT /* holds.list_holds */ hold_id, key_id, amount, reference,
                                  CASE WHEN due THEN 'expired' ELSE status END AS "status!",
                                  created_at, expires_at,
                                  CASE WHEN due THEN expires_at ELSE closed_at END AS closed_at,
                                  captured, purchase_id
                           FROM holds CROSS JOIN LATERAL (
                               SELECT status = 'open' AND expires_at <= ledger_now() AS due) AS state
                           WHERE account_id = $1 AND hold_id < $2
                           ORDER BY hold_id DESC LIMIT $3"#,
                        account_id,
                        before,
                        limit,
                    )
                    .fetch_all(&pool)
                    .await
                })
                .await?
            }
        };
        rows.into_iter().map(HoldRow::into_hold).collect()
    }

    /// Releases the expired holds of at most `limit` accounts. Skips locked accounts. Returns the
    /// number of accounts that had such holds.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn release_due_holds(&self, limit: i64) -> Result<usize, StoreError> {
        let _timer = self.timer("release_due_holds");
        let accounts = self
            .read(|pool| async move {
                sqlx::query_scalar!(
                    "SELECT /* holds.release_due_holds */ account_id FROM holds
                     WHERE status = 'open' AND expires_at <= (SELECT ledger_now())
                     GROUP BY account_id LIMIT $1",
                    limit,
                )
                .fetch_all(&pool)
                .await
            })
            .await?;
        let mut failure = None;
        for account_id in &accounts {
            // Every batch first releases expired holds. An empty one does nothing else, and
            // consults neither the maximums of open holds nor the scopes.
            let released = self
                .read(|pool| async move {
                    sqlx::query!(
                        "SELECT /* holds.release_of_account */
                                count(*) FROM ledger_apply($1, $1, 1, false, '{}', 0, 0, '{}')",
                        account_id,
                    )
                    .fetch_one(&pool)
                    .await
                })
                .await;
            match released {
                Ok(_) => {}
                Err(error @ StoreError::Unavailable(_)) => return Err(error),
                // One account that fails does not keep the others from being released.
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            Some(error) => Err(error),
            None => Ok(accounts.len()),
        }
    }
}
