//! Reads the database's clock, and moves the times of rows into the past.

use sqlx::AssertSqlSafe;
use time::OffsetDateTime;

use crate::harness::App;

pub async fn now(app: &App) -> OffsetDateTime {
    sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(&app.pool).await.expect("a time")
}

/// Moves the creation and the expiry of all links into the past.
pub async fn age_links(app: &App, by: &str) {
    shift(app, "dashboard_links", &["created_at", "expires_at"], by).await;
}

/// Moves the start, the last use and the end of all sessions into the past.
pub async fn age_sessions(app: &App, by: &str) {
    shift(app, "dashboard_sessions", &["created_at", "last_seen_at", "expires_at"], by).await;
}

/// Moves the last use of all sessions into the past.
pub async fn make_sessions_idle(app: &App, by: &str) {
    shift(app, "dashboard_sessions", &["last_seen_at"], by).await;
}

/// Moves the times of all sign-in messages into the past, but does not change their text.
pub async fn age_sign_ins(app: &App, by: &str) {
    shift(app, "dashboard_sign_ins", &["issued_at", "expires_at"], by).await;
}

async fn shift(app: &App, table: &str, columns: &[&str], by: &str) {
    let assignments: Vec<String> =
        columns.iter().map(|column| format!("{column} = {column} - interval '{by}'")).collect();
    let update = format!("UPDATE {table} SET {}", assignments.join(", "));
    let rows =
        sqlx::query(AssertSqlSafe(update)).execute(&app.pool).await.expect("the update succeeds");
    assert!(rows.rows_affected() > 0, "{table} has no row");
}
