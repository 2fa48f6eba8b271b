//! The database's clock, which decides, and rows that were made earlier than they were.

use sqlx::AssertSqlSafe;
use time::OffsetDateTime;

use crate::harness::App;

pub async fn now(app: &App) -> OffsetDateTime {
    sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(&app.pool).await.expect("a time")
}

/// As if all links had been made so much earlier.
pub async fn age_links(app: &App, by: &str) {
    shift(app, "dashboard_links", &["created_at", "expires_at"], by).await;
}

/// As if all sessions had been opened so much earlier, and used so much earlier last.
pub async fn age_sessions(app: &App, by: &str) {
    shift(app, "dashboard_sessions", &["created_at", "last_seen_at", "expires_at"], by).await;
}

/// As if no session had been used for so long.
pub async fn leave_sessions(app: &App, by: &str) {
    shift(app, "dashboard_sessions", &["last_seen_at"], by).await;
}

/// As if all messages had been given out so much earlier. What they say stays.
pub async fn age_sign_ins(app: &App, by: &str) {
    shift(app, "dashboard_sign_ins", &["issued_at", "expires_at"], by).await;
}

async fn shift(app: &App, table: &str, columns: &[&str], by: &str) {
    let moved: Vec<String> =
        columns.iter().map(|column| format!("{column} = {column} - interval '{by}'")).collect();
    let update = format!("UPDATE {table} SET {}", moved.join(", "));
    let rows = sqlx::query(AssertSqlSafe(update)).execute(&app.pool).await.expect("it is moved");
    assert!(rows.rows_affected() > 0, "there is a row in {table}");
}
