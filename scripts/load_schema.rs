//! Brings the schema of the database at `DATABASE_URL` up to date, as the service does when it starts.
//!
//! This program compiles without the query descriptions in `.sqlx/`, because sqlx generates them from
//! a database that this program has prepared.

use sqlx::{Connection as _, PgConnection};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    #[expect(clippy::disallowed_methods, reason = "a script reads its environment")]
    let url = std::env::var("DATABASE_URL")?;
    let mut connection = PgConnection::connect(&url).await?;
    tollgate::schema::bring_up_to_date(&mut connection).await?;
    connection.close().await?;
    Ok(())
}
