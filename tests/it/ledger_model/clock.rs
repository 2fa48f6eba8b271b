//! Replaces the clock of the ledger with a clock that a test can set.

use sqlx::PgPool;
use time::{Date, Duration, OffsetDateTime};
use tollgate::domain::timestamp::Timestamp;

/// Makes the ledger of this database read the time from a table. The time changes only with
/// [`set`].
pub async fn stop(pool: &PgPool, now: Timestamp) {
    for statement in [
        "CREATE TABLE test_clock (now timestamptz NOT NULL)",
        "INSERT INTO test_clock VALUES ('-infinity')",
        "CREATE OR REPLACE FUNCTION ledger_now() RETURNS timestamptz
         LANGUAGE sql VOLATILE AS 'SELECT now FROM test_clock'",
    ] {
        sqlx::query(statement).execute(pool).await.expect("the clock is replaced");
    }
    set(pool, now).await;
}

pub async fn set(pool: &PgPool, now: Timestamp) {
    sqlx::query("UPDATE test_clock SET now = $1")
        .bind(OffsetDateTime::from(now))
        .execute(pool)
        .await
        .expect("the clock is set");
}

pub fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).expect("a time")
}

/// Returns the time `micros` microseconds later.
pub fn later(moment: Timestamp, micros: i64) -> Timestamp {
    Timestamp::from_unix_micros(moment.unix_micros() + micros).expect("a valid year")
}

/// Returns the day in UTC.
pub fn day_of(moment: Timestamp) -> Date {
    OffsetDateTime::from(moment).date()
}

/// Returns the first day of the month in UTC.
pub fn month_of(moment: Timestamp) -> Date {
    first_of_month(day_of(moment))
}

/// Returns the start of the next day in UTC.
pub fn next_day(moment: Timestamp) -> Timestamp {
    midnight(day_of(moment).next_day().expect("a valid year"))
}

/// Returns the start of the next month in UTC.
pub fn next_month(moment: Timestamp) -> Timestamp {
    // 31 days after the first of any month is in the next month.
    midnight(first_of_month(month_of(moment) + Duration::days(31)))
}

fn first_of_month(day: Date) -> Date {
    day.replace_day(1).expect("every month has a first day")
}

fn midnight(day: Date) -> Timestamp {
    Timestamp::try_from(day.midnight().assume_utc()).expect("a valid year")
}
