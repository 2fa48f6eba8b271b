//! Brings the schema of the database at `DATABASE_URL` up to date, as the service does when it starts.
//!
//! It compiles without the descriptions in `.sqlx/`, which are made with a database that it filled.

use sqlx::{Connection as _, PgConnection};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    #[expect(clippy::disallowed_methods, reason = "a script is configured by its environment")]
    let url = std::env::var("DATABASE_URL")?;
    let mut connection = PgConnection::connect(&url).await?;
    tollgate::schema::bring_up_to_date(&mut connection).await?;
    connection.close().await?;
    Ok(())
}
