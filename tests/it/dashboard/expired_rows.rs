//! When the service creates a session or a link, it deletes only a few expired rows. So a tenant
//! with many expired rows does not delay the sign-ins of another tenant.

use sqlx::AssertSqlSafe;

use super::visitor::Site;
use crate::harness::WALLET;

/// The number of expired rows that belong to TronAgg.
const EXPIRED: i64 = 50_000;

/// The maximum number of expired rows that the service deletes when it creates a row.
const PER_INSERT: i64 = 20;

/// Starts a site with two tenants, each with an account.
async fn site() -> Site {
    let site = Site::start().await;
    site.app.wallet("0").await;
    site.app.account(&site.app.tradetally, "user-1", "0").await;
    site
}

/// Inserts rows of TronAgg's account. Row `n` expired `n` seconds ago.
async fn insert_expired(site: &Site, sql: &'static str) {
    let insert = sqlx::query(sql).bind(EXPIRED).bind(WALLET).execute(&site.app.pool).await;
    assert_eq!(insert.expect("the rows are written").rows_affected(), EXPIRED.unsigned_abs());
}

/// Returns the number of expired rows, and whether they include the rows that expired first and
/// last.
async fn expired(site: &Site, table: &str) -> (i64, bool, bool) {
    let sql = format!(
        "SELECT count(*), coalesce(bool_or(token_hash = sha256('{EXPIRED}')), false),
                coalesce(bool_or(token_hash = sha256('1')), false)
         FROM {table} WHERE expires_at <= clock_timestamp()"
    );
    let row = sqlx::query_as(AssertSqlSafe(sql)).fetch_one(&site.app.pool).await;
    row.expect("the rows are counted")
}

/// Deletes all expired rows except the `number` rows that expired last.
async fn leave(site: &Site, table: &str, number: i64) {
    let sql = format!(
        "DELETE FROM {table} WHERE expires_at <= clock_timestamp() AND token_hash NOT IN (
             SELECT sha256(n::text::bytea) FROM generate_series(1, {number}) AS n)"
    );
    sqlx::query(AssertSqlSafe(sql)).execute(&site.app.pool).await.expect("the rows are deleted");
}

#[tokio::test]
async fn sign_in_deletes_a_bounded_number_of_expired_sessions() {
    let site = site().await;
    let table = "dashboard_sessions";
    insert_expired(
        &site,
        "INSERT INTO dashboard_sessions (account_id, session_id, tenant_id, token_hash, way,
                                         created_at, last_seen_at, expires_at)
         SELECT account_id, gen_random_uuid(), tenant_id, sha256(n::text::bytea), 'wallet', at, at,
                at
         FROM accounts CROSS JOIN generate_series(1, $1) AS n
              CROSS JOIN LATERAL (SELECT clock_timestamp() - n * interval '1 second' AS at) AS past
         WHERE external_id = $2",
    )
    .await;
    for sign_ins in 1..=3 {
        site.owner(&site.app.tradetally, "user-1").await;
        let left = EXPIRED - sign_ins * PER_INSERT;
        assert_eq!(
            expired(&site, table).await,
            (left, false, true),
            "the oldest rows are deleted first"
        );
    }
    leave(&site, table, 2 * PER_INSERT + 1).await;
    for left in [PER_INSERT + 1, 1, 0] {
        site.owner(&site.app.tradetally, "user-1").await;
        assert_eq!(expired(&site, table).await.0, left);
    }
}

#[tokio::test]
async fn creating_a_link_deletes_a_bounded_number_of_expired_links() {
    let site = site().await;
    let table = "dashboard_links";
    insert_expired(
        &site,
        "INSERT INTO dashboard_links (account_id, token_hash, tenant_id, created_at, expires_at)
         SELECT account_id, sha256(n::text::bytea), tenant_id, at, at
         FROM accounts CROSS JOIN generate_series(1, $1) AS n
              CROSS JOIN LATERAL (SELECT clock_timestamp() - n * interval '1 second' AS at) AS past
         WHERE external_id = $2",
    )
    .await;
    for links in 1..=3 {
        site.link(&site.app.tradetally, "user-1").await;
        let left = EXPIRED - links * PER_INSERT;
        assert_eq!(
            expired(&site, table).await,
            (left, false, true),
            "the oldest rows are deleted first"
        );
    }
    leave(&site, table, 2 * PER_INSERT + 1).await;
    for left in [PER_INSERT + 1, 1, 0] {
        site.link(&site.app.tradetally, "user-1").await;
        assert_eq!(expired(&site, table).await.0, left);
    }
}
