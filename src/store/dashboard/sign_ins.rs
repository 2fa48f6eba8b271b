use time::OffsetDateTime;

use super::{
    client_networks::ClientNetworks,
    sessions::{DashboardSession, NewSession, delete_sessions_that_are_over, end},
    settings::wallet_sign_in,
};
use crate::{
    domain::{
        account::{AccountId, AccountStatus, ExternalId},
        audit::Origin,
        dashboard::{DashboardRights, SIGN_IN_SECONDS, SignInWay, WalletSignIn},
        session_token::SessionToken,
        tenant::Tenant,
        timestamp::Timestamp,
        tron_message::SignatureError,
    },
    store::{
        Refusal, Store, StoreError,
        accounts::account,
        clock::{now, stored_time},
        connection::Connection,
    },
};

// Every limit counts the sign-ins of one client or of its network. No limit counts all clients
// together for an address or a tenant, because strangers could use it up and lock the owner out.

/// Maximum number of sign-ins that one client can begin for one address within [`WINDOW_SECONDS`].
const MOST_OF_PAIR: i64 = 20;

/// Maximum number of sign-ins that one client can begin for all addresses within
/// [`WINDOW_SECONDS`]. A client is an IPv4 address or an IPv6 /64 network.
const MOST_OF_CLIENT: i64 = 40;

/// Maximum number of sign-ins of one IPv6 /56 network, which contains 256 /64 networks.
const MOST_OF_56: i64 = 4 * MOST_OF_CLIENT;

/// Maximum number of sign-ins of one IPv6 /48 network, which contains 256 /56 networks.
const MOST_OF_48: i64 = 16 * MOST_OF_CLIENT;

/// Period over which sign-ins count, in seconds. A row is kept for this period, whether or not its
/// nonce is spent. So a tenant has at most [`MOST_OF_CLIENT`] rows of an IPv4 address and
/// [`MOST_OF_48`] rows of an IPv6 /48 network.
const WINDOW_SECONDS: i64 = SIGN_IN_SECONDS;

/// Maximum number of expired rows that each insertion deletes. It is more than one, so that rows
/// are deleted faster than they are inserted.
const DELETED_AT_ONCE: i64 = 100;

/// The data that a sign-in is bound to. It must not change between the start and the end of the
/// sign-in.
#[derive(Clone, Copy, Debug)]
pub struct SignInAttempt<'a> {
    /// The TRON address of the account that the caller claims to own.
    pub address: &'a ExternalId,
    /// The nonce in the message.
    pub nonce: &'a SessionToken,
    /// The token in a cookie of the browser.
    pub browser: &'a SessionToken,
    /// The host in the message.
    pub host: &'a str,
}

/// The result of requesting a message to sign.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NewSignIn {
    Made {
        issued_at: Timestamp,
        expires_at: Timestamp,
    },
    /// The client or its network has begun too many sign-ins recently.
    TooMany {
        /// Time to wait, at least 1 second.
        retry_after_seconds: i64,
    },
}

/// The result of a sign-in.
#[derive(Clone, Debug)]
pub enum SignInOutcome {
    Open(DashboardSession),
    /// The signature is valid, but the address has no account, and the tenant does not allow
    /// sign-ins to create one.
    NoAccount,
    /// The nonce is unknown, spent or expired, or belongs to another browser, host or address.
    Spent,
    WrongSignature(SignatureError),
}

impl Store {
    /// Begins a sign-in, unless the client has begun too many in the last 5 minutes. A client can
    /// begin 20 for one address, and 40 in total. A client is an IPv4 address, or the first 64 bits
    /// of an IPv6 address. An IPv6 /56 network can begin 160, and a /48 network can begin 640.
    /// Sign-ins from other networks do not count. Concurrent sign-ins do not wait for each other,
    /// so they can exceed a limit by the number of connections.
    #[tracing::instrument(level = "debug", skip_all, fields(tenant = %tenant.slug))]
    pub async fn start_sign_in(
        &self,
        tenant: &Tenant,
        attempt: &SignInAttempt<'_>,
        origin: &Origin,
    ) -> Result<NewSignIn, StoreError> {
        let _timer = self.timer("start_sign_in");
        let networks = ClientNetworks::of(origin.address);
        let counted = Counted { tenant, address: attempt.address, networks: &networks };
        // A refused sign-in costs one read, without a transaction or a lock.
        let seen =
            self.read(|mut connection| async move { counted.look(&mut connection).await }).await?;
        if let Some(retry_after_seconds) = seen.wait()? {
            return Ok(NewSignIn::TooMany { retry_after_seconds });
        }
        let mut tx = self.begin().await?;
        let at = now(&mut tx).await?;
        delete_sign_ins_that_are_over(&mut tx, tenant, at).await?;
        let expires_at = end(at, SIGN_IN_SECONDS)?;
        let (nonce, browser) = (attempt.nonce.hash(), attempt.browser.hash());
        sqlx::query!(
            "INSERT /* sign_ins.start_sign_in */
                    INTO dashboard_sign_ins (tenant_id, nonce_hash, address, browser_hash, host,
                                          client, network_56, network_48, issued_at, expires_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
            tenant.id.uuid(),
            nonce.as_bytes(),
            attempt.address.as_str(),
            browser.as_bytes(),
            attempt.host,
            networks.client,
            networks.network_56,
            networks.network_48,
            OffsetDateTime::from(at),
            OffsetDateTime::from(expires_at),
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(NewSignIn::Made { issued_at: at, expires_at })
    }

    /// Ends a sign-in. This spends the nonce regardless of the result, unless the nonce was issued
    /// to another browser. `check` gets the moment when the message was issued, and verifies the
    /// signature. If the signature is valid, the transaction also opens the session. It also
    /// creates the account if the tenant's settings allow it.
    #[tracing::instrument(level = "debug", skip_all, fields(tenant = %tenant.slug))]
    pub async fn finish_sign_in(
        &self,
        tenant: &Tenant,
        attempt: &SignInAttempt<'_>,
        session: &SessionToken,
        origin: &Origin,
        check: impl FnOnce(Timestamp) -> Result<(), SignatureError> + Send,
    ) -> Result<SignInOutcome, StoreError> {
        let _timer = self.timer("finish_sign_in");
        let tenant = self.tenant_by_id(tenant.id).await?;
        let mut tx = self.begin().await?;
        let at = now(&mut tx).await?;
        let issued_at = spend(&mut tx, &tenant, attempt, at).await?;
        let outcome = match issued_at.map(check) {
            None => SignInOutcome::Spent,
            Some(Err(error)) => SignInOutcome::WrongSignature(error),
            Some(Ok(())) => match admit(&mut tx, &tenant, attempt.address, origin, at).await? {
                None => SignInOutcome::NoAccount,
                Some(account_status) => {
                    delete_sessions_that_are_over(&mut tx, at).await?;
                    let new = NewSession {
                        token: session.hash(),
                        way: SignInWay::Wallet,
                        admin_key: None,
                        rights: DashboardRights::ALL,
                        account: attempt.address,
                        account_status,
                        return_url: None,
                    };
                    // The session gets a later time, so that the audit trail lists the account
                    // first.
                    let at = now(&mut tx).await?;
                    SignInOutcome::Open(new.open(&mut tx, &tenant, origin, at).await?)
                }
            },
        };
        tx.commit().await?;
        Ok(outcome)
    }
}

/// The properties by which the limits count sign-ins.
#[derive(Clone, Copy)]
struct Counted<'a> {
    tenant: &'a Tenant,
    address: &'a ExternalId,
    networks: &'a ClientNetworks,
}

/// For each limit, the sign-in that must leave the period before another one may begin. `None`
/// means that the limit is not reached.
struct Seen {
    of_pair: Option<OffsetDateTime>,
    of_client: Option<OffsetDateTime>,
    of_network_56: Option<OffsetDateTime>,
    of_network_48: Option<OffsetDateTime>,
    /// The time by the database's clock when the sign-ins were counted.
    now: OffsetDateTime,
}

impl Counted<'_> {
    async fn look(&self, connection: &mut Connection) -> Result<Seen, sqlx::Error> {
        sqlx::query_as!(
            Seen,
            r#"SELECT /* sign_ins.look */
                      (SELECT issued_at FROM dashboard_sign_ins
                       WHERE tenant_id = $1 AND client = $3 AND address = $2
                         AND issued_at > clock.now - $6::bigint * interval '1 second'
                       ORDER BY issued_at DESC OFFSET $7 LIMIT 1) AS "of_pair?",
                      (SELECT issued_at FROM dashboard_sign_ins
                       WHERE tenant_id = $1 AND client = $3
                         AND issued_at > clock.now - $6::bigint * interval '1 second'
                       ORDER BY issued_at DESC OFFSET $8 LIMIT 1) AS "of_client?",
                      (SELECT issued_at FROM dashboard_sign_ins
                       WHERE tenant_id = $1 AND network_56 = $4
                         AND issued_at > clock.now - $6::bigint * interval '1 second'
                       ORDER BY issued_at DESC OFFSET $9 LIMIT 1) AS "of_network_56?",
                      (SELECT issued_at FROM dashboard_sign_ins
                       WHERE tenant_id = $1 AND network_48 = $5
                         AND issued_at > clock.now - $6::bigint * interval '1 second'
                       ORDER BY issued_at DESC OFFSET $10 LIMIT 1) AS "of_network_48?",
                      clock.now AS "now!"
               FROM (SELECT clock_timestamp() AS now) AS clock"#,
            self.tenant.id.uuid(),
            self.address.as_str(),
            self.networks.client,
            self.networks.network_56.as_deref(),
            self.networks.network_48.as_deref(),
            WINDOW_SECONDS,
            MOST_OF_PAIR - 1,
            MOST_OF_CLIENT - 1,
            MOST_OF_56 - 1,
            MOST_OF_48 - 1,
        )
        .fetch_one(connection)
        .await
    }
}

impl Seen {
    /// Returns the number of seconds until the next sign-in may begin. `None` means that it may
    /// begin now.
    fn wait(&self) -> Result<Option<i64>, StoreError> {
        // After this sign-in leaves the period, the period contains one fewer than the maximum.
        let of_networks = self.of_network_56.max(self.of_network_48);
        let leaving = self.of_pair.max(self.of_client).max(of_networks);
        let Some(leaving) = leaving else { return Ok(None) };
        let leaving = stored_time("dashboard_sign_ins.issued_at", leaving)?;
        let now = stored_time("clock_timestamp()", self.now)?;
        let free_at = end(leaving, WINDOW_SECONDS)?;
        let micros = free_at.unix_micros() - now.unix_micros();
        Ok(Some(micros / 1_000_000 + 1))
    }
}

/// Spends a nonce. Returns the time when it was issued, or `None` if the sign-in has expired or its
/// data has changed since the start. A request from another browser does not spend the nonce, so a
/// stranger who learns the nonce cannot invalidate the owner's message.
async fn spend(
    connection: &mut Connection,
    tenant: &Tenant,
    attempt: &SignInAttempt<'_>,
    at: Timestamp,
) -> Result<Option<Timestamp>, StoreError> {
    let (nonce, browser) = (attempt.nonce.hash(), attempt.browser.hash());
    let row = sqlx::query!(
        r#"UPDATE /* sign_ins.spend */ dashboard_sign_ins SET spent_at = $3
           WHERE tenant_id = $1 AND nonce_hash = $2 AND browser_hash = $5 AND spent_at IS NULL
           RETURNING issued_at, expires_at > $3 AND address = $4 AND host = $6 AS "fits!""#,
        tenant.id.uuid(),
        nonce.as_bytes(),
        OffsetDateTime::from(at),
        attempt.address.as_str(),
        browser.as_bytes(),
        attempt.host,
    )
    .fetch_optional(connection)
    .await?;
    match row {
        Some(row) if row.fits => {
            stored_time("dashboard_sign_ins.issued_at", row.issued_at).map(Some)
        }
        _ => Ok(None),
    }
}

/// Locks the account that signs in, and returns its status. Creates a missing account if the
/// settings allow it. Returns `None` if wallet sign-in is off or if there is no account.
async fn admit(
    connection: &mut Connection,
    tenant: &Tenant,
    account: &ExternalId,
    origin: &Origin,
    at: Timestamp,
) -> Result<Option<AccountStatus>, StoreError> {
    let policy = wallet_sign_in(connection, tenant).await?;
    match policy {
        WalletSignIn::Off => return Ok(None),
        WalletSignIn::Existing => {}
        WalletSignIn::Create => {
            account::ensure(connection, tenant, account, origin, at).await?;
        }
    }
    match account::lock(connection, AccountId::derive(tenant.id, account)).await {
        Ok(locked) => Ok(Some(locked.status)),
        Err(StoreError::Refused(Refusal::NotFound)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Deletes some of the tenant's expired rows. Skips rows that another transaction is deleting.
async fn delete_sign_ins_that_are_over(
    connection: &mut Connection,
    tenant: &Tenant,
    at: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query!(
        "DELETE /* sign_ins.delete_sign_ins_that_are_over */ FROM dashboard_sign_ins
         WHERE tenant_id = $1 AND nonce_hash IN (
             SELECT nonce_hash FROM dashboard_sign_ins WHERE tenant_id = $1 AND issued_at <= $2
             ORDER BY issued_at LIMIT $3 FOR UPDATE SKIP LOCKED)",
        tenant.id.uuid(),
        OffsetDateTime::from(end(at, -WINDOW_SECONDS)?),
        DELETED_AT_ONCE,
    )
    .execute(connection)
    .await?;
    Ok(())
}
