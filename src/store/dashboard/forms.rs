use crate::{
    domain::{
        account::AccountId,
        session_token::{SessionId, SessionToken},
    },
    store::{Refusal, StoreError, connection::Connection},
};

/// Maximum number of keys that a session can create with forms.
const MAX_FORMS: i64 = 1000;

/// A form of a session. It can create one key.
#[derive(Clone, Copy, Debug)]
pub struct FormClaim<'a> {
    pub session: SessionId,
    /// The token in the form.
    pub form: &'a SessionToken,
}

impl FormClaim<'_> {
    /// Spends the form in the transaction that creates the key, so that a rollback undoes both.
    /// Call this under the account's lock. If a browser sends a form twice concurrently, the second
    /// request then finds the form spent. `account_id` is the account of the new key. A session of
    /// another account is refused like a closed session.
    pub(in crate::store) async fn spend(
        &self,
        connection: &mut Connection,
        account_id: AccountId,
    ) -> Result<(), StoreError> {
        let form = self.form.hash();
        let (account_id, session_id) = (account_id.uuid(), self.session.uuid());
        let row = sqlx::query!(
            r#"SELECT /* dashboard_forms.count */
                      EXISTS (SELECT FROM dashboard_forms
                              WHERE account_id = $1 AND session_id = $2
                                AND form_hash = $3) AS "spent!",
                      (SELECT count(*) FROM dashboard_forms
                       WHERE account_id = $1 AND session_id = $2) AS "forms!"
               FROM dashboard_sessions s
                    LEFT JOIN admin_keys maker ON maker.admin_key_id = s.admin_key_id
               WHERE account_id = $1 AND session_id = $2 AND maker.revoked_at IS NULL
               FOR KEY SHARE OF s"#,
            account_id,
            session_id,
            form.as_bytes(),
        )
        .fetch_optional(&mut *connection)
        .await?
        .ok_or(Refusal::SessionOver)?;
        if row.spent {
            return Err(Refusal::FormSpent.into());
        }
        if row.forms >= MAX_FORMS {
            return Err(Refusal::SessionOver.into());
        }
        sqlx::query!(
            "INSERT /* dashboard_forms.insert */
                    INTO dashboard_forms (account_id, session_id, form_hash) VALUES ($1, $2, $3)",
            account_id,
            session_id,
            form.as_bytes(),
        )
        .execute(connection)
        .await?;
        Ok(())
    }
}
