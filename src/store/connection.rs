//! Connections with a time limit for each statement. This process enforces the limit, because a
//! frozen server accepts every message without responding, and does not enforce its own limits.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::{Stream, future::BoxFuture, stream::BoxStream};
use sqlx::{
    Describe, Either, Execute, Executor, PgConnection, PgPool, Postgres, SqlStr,
    pool::PoolConnection,
    postgres::{PgQueryResult, PgRow, PgStatement, PgTypeInfo},
};
use tokio::{
    runtime::Handle,
    time::{Sleep, sleep, timeout},
};

use super::error::is_lost_connection;

/// A pool of connections that have a time limit for each statement.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    pool: PgPool,
    limit: Duration,
}

/// A connection of a pool. A statement, such as a COMMIT, fails if the response does not arrive
/// within the limit. The connection is then closed and not returned to the pool. Otherwise a late
/// response could be mistaken for the response to the next statement.
#[derive(Debug)]
pub(super) struct Connection {
    inner: PoolConnection<Postgres>,
    limit: Duration,
    is_lost: bool,
}

impl Pool {
    /// Wraps a pool. `limit` is the time limit for each statement.
    pub fn new(pool: PgPool, limit: Duration) -> Self {
        Self { pool, limit }
    }

    pub async fn acquire(&self) -> Result<Connection, sqlx::Error> {
        let inner = self.pool.acquire().await?;
        Ok(Connection { inner, limit: self.limit, is_lost: false })
    }

    /// Returns the inner pool, whose connections have no time limit for statements.
    pub fn unlimited(&self) -> &PgPool {
        &self.pool
    }

    /// Waits until the connections in use are returned, and closes all connections.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

impl Connection {
    /// Returns the inner connection without the time limit, for a slow statement.
    pub fn unlimited(&mut self) -> &mut PgConnection {
        &mut self.inner
    }

    /// Makes drop close the connection instead of returning it to the pool.
    pub fn close_on_drop(&mut self) {
        self.is_lost = true;
    }

    /// Whether drop will close the connection.
    pub fn is_lost(&self) -> bool {
        self.is_lost
    }

    /// Cancels [`close_on_drop`](Self::close_on_drop).
    pub fn keep(&mut self) {
        self.is_lost = false;
    }
}

impl Drop for Connection {
    /// Returns the connection to the pool. sqlx pings it first, without a time limit.
    fn drop(&mut self) {
        match Handle::try_current() {
            Ok(runtime) if !self.is_lost => {
                let (limit, returned) = (self.limit, self.inner.return_to_pool());
                // If this takes longer than the limit, the connection is dropped.
                runtime.spawn(async move { timeout(limit, returned).await.is_ok() });
            }
            _ => self.inner.close_on_drop(),
        }
    }
}

impl<'c> Executor<'c> for &'c mut Connection {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let Connection { inner, limit, is_lost } = self;
        let (limit, answer) = (*limit, (&mut **inner).fetch_many(query));
        Box::pin(Limited { answer, end: Box::pin(sleep(limit)), limit, is_lost })
    }

    fn fetch_optional<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let Connection { inner, limit, is_lost } = self;
        Box::pin(limited((&mut **inner).fetch_optional(query), *limit, is_lost))
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, sqlx::Error>>
    where
        'c: 'e,
    {
        let Connection { inner, limit, is_lost } = self;
        Box::pin(limited((&mut **inner).prepare_with(sql, parameters), *limit, is_lost))
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<Postgres>, sqlx::Error>>
    where
        'c: 'e,
    {
        let Connection { inner, limit, is_lost } = self;
        Box::pin(limited((&mut **inner).describe(sql), *limit, is_lost))
    }
}

async fn limited<T>(
    answer: BoxFuture<'_, Result<T, sqlx::Error>>,
    limit: Duration,
    is_lost: &mut bool,
) -> Result<T, sqlx::Error> {
    let answer = timeout(limit, answer).await;
    let answer = answer.unwrap_or_else(|_| Err(no_answer(limit)));
    *is_lost |= answer.as_ref().is_err_and(is_lost_connection);
    answer
}

/// The rows of a statement. The stream fails if the statement exceeds the time limit.
struct Limited<'a> {
    answer: BoxStream<'a, Result<Either<PgQueryResult, PgRow>, sqlx::Error>>,
    end: Pin<Box<Sleep>>,
    limit: Duration,
    is_lost: &'a mut bool,
}

impl Stream for Limited<'_> {
    type Item = Result<Either<PgQueryResult, PgRow>, sqlx::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = match self.answer.as_mut().poll_next(context) {
            Poll::Ready(next) => next,
            Poll::Pending => {
                ready!(self.end.as_mut().poll(context));
                Some(Err(no_answer(self.limit)))
            }
        };
        if let Some(Err(error)) = &next {
            *self.is_lost |= is_lost_connection(error);
        }
        Poll::Ready(next)
    }
}

fn no_answer(limit: Duration) -> sqlx::Error {
    let text = format!("the database did not answer within {limit:?}");
    sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, text))
}
