use tokio::time::{Instant, sleep, timeout_at};
use uuid::Uuid;

use crate::{
    domain::{id::TenantId, rate_limit::LimitName, server::ServerId},
    store::{
        Store, StoreError,
        connection::Connection,
        error::is_lost_connection,
        primary::server_started_at,
        under_lease::{ASK_AGAIN_AFTER, no_lease},
        window_tag::{WindowTag, window_tag},
    },
};

/// The identity of a rate limit: its holder and its name.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct LimitRow {
    pub tenant: TenantId,
    /// The account. For the limit of a tenant, the id of the tenant.
    pub account: Uuid,
    /// The first key of a chain of rotations, the account, or the tenant. The keys of a chain share
    /// a window.
    pub holder: Uuid,
    /// The key, the account or the tenant whose settings define the limit.
    pub owner: Uuid,
    pub name: LimitName,
}

/// A node's request for a share of a rate limit.
#[derive(Clone, Debug)]
pub struct ShareAsk {
    pub row: LimitRow,
    /// The generation of the settings below.
    pub generation: i64,
    /// The calls that the limit allows in a window.
    pub calls: u32,
    /// The length of a window.
    pub seconds: u32,
    /// The calls that the node can use soon.
    pub wanted: u32,
    /// The smallest share that helps. With 0, the node only reports and returns calls.
    pub least: u32,
    /// The window that `spent` and `returned` belong to.
    pub number: Option<i64>,
    /// The calls that the node has spent since its last report. The number is negative if the node
    /// reported too many.
    pub spent: i32,
    /// The calls that the node returns.
    pub returned: u32,
}

/// The answer to a [`ShareAsk`].
#[derive(Clone, Debug)]
pub struct ShareAnswer {
    pub account: Uuid,
    pub holder: Uuid,
    pub name: String,
    /// The window. `None` if the settings have another generation.
    pub number: Option<i64>,
    /// The calls that the node was given.
    pub share: u32,
    /// The calls that all nodes were given in the window, without those that they returned.
    pub given: u32,
    /// The calls that all nodes have reported as spent.
    pub spent: u32,
    /// Microseconds until the window ends.
    pub ends_in: u64,
}

impl LimitRow {
    /// Returns the tag of the limit's window.
    #[must_use]
    pub fn tag(&self) -> WindowTag {
        window_tag(self.account, self.holder, self.name.as_str())
    }

    /// Returns the identity of the limit's window.
    #[must_use]
    pub fn window(&self) -> (Uuid, Uuid, &str) {
        (self.account, self.holder, self.name.as_str())
    }
}

impl ShareAnswer {
    /// Returns the identity of the window, as [`LimitRow::window`] does.
    #[must_use]
    pub fn window(&self) -> (Uuid, Uuid, &str) {
        (self.account, self.holder, &self.name)
    }
}

impl Store {
    /// Requests shares, and reports and returns calls, in one statement. No two asks may have the
    /// same window. If an ask has no answer, the row of its window no longer exists. Repeat the ask
    /// without the number of the window.
    ///
    /// If a server answers that did not grant the lease, or if the connection was closed, this
    /// method asks again. The calls that the lost answer contained count as spent. A return
    /// is never repeated, because its first attempt may have succeeded.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn share_rate_limits(
        &self,
        asks: &[ShareAsk],
    ) -> Result<Vec<ShareAnswer>, StoreError> {
        let _timer = self.timer("share_rate_limits");
        let deadline = Instant::now() + self.acquire_timeout();
        let mut asks = asks.to_vec();
        let attempts = async {
            loop {
                let wanted = match self.lease.get() {
                    Some(lease) => Some(lease.server(deadline).await.ok_or_else(no_lease)?),
                    None => None,
                };
                let connection = self.shares.acquire().await;
                let mut connection =
                    connection.map_err(|error| self.servers.no_connection(error))?;
                // If this future is dropped, the statement may still be running.
                connection.close_on_drop();
                match ask(&mut connection, &asks).await {
                    Ok((server, answers)) if wanted.is_none_or(|wanted| wanted == server) => {
                        connection.keep();
                        return Ok(answers);
                    }
                    Ok(_) => {}
                    Err(error) if is_lost_connection(&error) => {}
                    Err(error) => return Err(error.into()),
                }
                for ask in &mut asks {
                    (ask.spent, ask.returned) = (0, 0);
                }
                sleep(ASK_AGAIN_AFTER).await;
            }
        };
        let late = |_| Err(StoreError::Unavailable("the database did not answer in time".into()));
        timeout_at(deadline, attempts).await.unwrap_or_else(late)
    }
}

async fn ask(
    connection: &mut Connection,
    asks: &[ShareAsk],
) -> Result<(ServerId, Vec<ShareAnswer>), sqlx::Error> {
    let column = |get: fn(&ShareAsk) -> Uuid| asks.iter().map(get).collect::<Vec<_>>();
    let number = |get: fn(&ShareAsk) -> u32| {
        asks.iter().map(|ask| get(ask).cast_signed()).collect::<Vec<_>>()
    };
    let names: Vec<&str> = asks.iter().map(|ask| ask.row.name.as_str()).collect();
    let generations: Vec<i64> = asks.iter().map(|ask| ask.generation).collect();
    let numbers: Vec<Option<i64>> = asks.iter().map(|ask| ask.number).collect();
    let spent: Vec<i32> = asks.iter().map(|ask| ask.spent).collect();
    let rows = sqlx::query!(
        r#"SELECT /* rate_limits.share */
                  pg_postmaster_start_time() AS "server!", share.account_id AS "account_id?",
                  share.holder_id AS "holder_id?", share.name AS "name?",
                  share.number AS "number?", share.share AS "share?", share.given AS "given?",
                  share.spent AS "spent?", share.ends_in AS "ends_in?"
           FROM (SELECT) AS answer
                LEFT JOIN share_rate_limits($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
                    AS share ON true"#,
        &column(|ask| ask.row.tenant.uuid()),
        &column(|ask| ask.row.account),
        &column(|ask| ask.row.holder),
        &names as &[&str],
        &column(|ask| ask.row.owner),
        &generations,
        &number(|ask| ask.calls),
        &number(|ask| ask.seconds),
        &number(|ask| ask.wanted),
        &number(|ask| ask.least),
        &numbers as &[Option<i64>],
        &spent,
        &number(|ask| ask.returned),
    )
    .fetch_all(connection)
    .await?;
    let server = rows.first().map(|row| server_started_at(row.server));
    let unsigned = |number: Option<i32>| number.unwrap_or(0).max(0).unsigned_abs();
    let answers = rows.into_iter().filter_map(|row| {
        Some(ShareAnswer {
            account: row.account_id?,
            holder: row.holder_id?,
            name: row.name?,
            number: row.number,
            share: unsigned(row.share),
            given: unsigned(row.given),
            spent: unsigned(row.spent),
            ends_in: row.ends_in.unwrap_or(0).max(0).unsigned_abs(),
        })
    });
    Ok((server.ok_or(sqlx::Error::RowNotFound)?, answers.collect()))
}
