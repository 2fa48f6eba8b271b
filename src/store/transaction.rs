use std::ops::{Deref, DerefMut};

use sqlx::Executor as _;
use tokio::runtime::Handle;

use super::{connection::Connection, turns::Turn};

/// A transaction on one of the pool's connections, and the turn that allows the use of the
/// connection. Dropping this value rolls the transaction back.
pub(super) struct Tx {
    /// `None` only during the drop.
    held: Option<Held>,
    is_open: bool,
}

struct Held {
    connection: Connection,
    _turn: Turn,
}

impl Tx {
    /// Wraps the transaction that was begun on this connection.
    pub(super) fn begun(connection: Connection, turn: Turn) -> Self {
        Self { held: Some(Held { connection, _turn: turn }), is_open: true }
    }

    pub(super) async fn commit(self) -> Result<(), sqlx::Error> {
        self.commit_and_keep().await.map(drop)
    }

    /// Commits, and keeps the connection to the server that committed.
    pub(super) async fn commit_and_keep(mut self) -> Result<Committed, sqlx::Error> {
        self.execute("COMMIT").await?;
        self.is_open = false;
        Ok(Committed(self))
    }

    pub(super) async fn rollback(mut self) -> Result<(), sqlx::Error> {
        self.execute("ROLLBACK").await?;
        self.is_open = false;
        Ok(())
    }

    /// Makes drop close the connection instead of returning it to the pool, because the connection
    /// may be lost.
    fn close_on_drop(&mut self) {
        self.is_open = false;
        if let Some(held) = &mut self.held {
            held.connection.close_on_drop();
        }
    }
}

impl Deref for Tx {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.held.as_ref().expect("only drop takes it").connection
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.held.as_mut().expect("only drop takes it").connection
    }
}

impl Drop for Tx {
    fn drop(&mut self) {
        let Some(mut held) = self.held.take().filter(|_| self.is_open) else { return };
        if held.connection.is_lost() {
            return;
        }
        let Ok(runtime) = Handle::try_current() else {
            held.connection.close_on_drop();
            return;
        };
        // The turn ends once the connection has returned to the pool.
        runtime.spawn(async move {
            if held.connection.execute("ROLLBACK").await.is_err() {
                held.connection.close_on_drop();
            }
        });
    }
}

/// The connection of a committed transaction, and the turn that allows the use of the connection.
pub(super) struct Committed(Tx);

impl Committed {
    /// Closes the connection, which may be lost.
    pub(super) fn close(mut self) {
        self.0.close_on_drop();
    }
}

impl Deref for Committed {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.0
    }
}

impl DerefMut for Committed {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.0
    }
}
