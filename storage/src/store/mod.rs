//! The database behind one handle: PostgreSQL in production, SQLite as the embedded default.
//!
//! Owns the connections, the seam between the two databases and the schema. What is stored is the business of the
//! modules beside this one, each of which adds its operations to [`Store`].

mod error;
pub(crate) mod instant;
mod schema;
pub(crate) mod sql;

use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

pub use error::DatabaseError;
pub use schema::SchemaError;

use sql::{Pool, Transaction, values};

/// How long an operation waits for a connection, and SQLite for another process that writes.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long PostgreSQL waits for a process that has begun a transaction and says nothing more. One that is stopped, or
/// whose machine is gone, must not keep the ledger's head, which every other process needs.
const SILENCE: &str = "5s";
/// How long a statement waits for a row that another transaction holds.
const LOCK_PATIENCE: &str = "20s";
const POSTGRES_CONNECTIONS: u32 = 12;
const SQLITE_READERS: u32 = 4;

/// Rows: studies, jobs, deliveries and the ledger. Cheap to clone.
///
/// Every operation is one transaction. Cancelling an operation's future before it returns leaves either all of it or
/// nothing behind.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) pool: Pool,
    pub(crate) actor: String,
}

impl Store {
    /// Connects to `sqlite://PATH` (the file is created; there are no options) or `postgres://…`.
    ///
    /// `actor` names the process in the ledger (role and host, say). No schema is made or checked: see
    /// [`Store::migrate`] and [`Store::verify_schema`].
    ///
    /// # Errors
    /// [`DatabaseError::Address`] for another scheme, [`DatabaseError::Unreachable`] where nothing answers.
    pub async fn connect(url: &str, actor: &str) -> Result<Self, DatabaseError> {
        let pool = if let Some(path) = url.strip_prefix("sqlite://") {
            connect_sqlite(Path::new(path)).await?
        } else if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            let options = PgConnectOptions::from_str(url).map_err(|_| DatabaseError::Address)?;
            let options = options.application_name("prosector").options([
                ("idle_in_transaction_session_timeout", SILENCE),
                ("lock_timeout", LOCK_PATIENCE),
            ]);
            let pool = PgPoolOptions::new()
                .max_connections(POSTGRES_CONNECTIONS)
                .acquire_timeout(PATIENCE)
                .connect_with(options)
                .await?;
            Pool::Postgres(pool)
        } else {
            return Err(DatabaseError::Address);
        };
        Ok(Self { pool, actor: actor.to_owned() })
    }

    /// The same store for what `actor` does: a person, say. The ledger names whoever acts.
    #[must_use]
    pub fn acting_as(&self, actor: &str) -> Self {
        Self { pool: self.pool.clone(), actor: actor.to_owned() }
    }

    /// Checks that the database answers.
    ///
    /// # Errors
    /// The reason why it does not.
    pub async fn ping(&self) -> Result<(), DatabaseError> {
        self.pool.row("select 1 as one", values![]).await.map(drop)
    }

    /// Closes all connections, waiting for those in use.
    pub async fn close(&self) {
        match &self.pool {
            Pool::Postgres(pool) => pool.close().await,
            Pool::Sqlite { writer, readers } => {
                readers.close().await;
                writer.close().await;
            }
        }
    }

    pub(crate) async fn begin(&self) -> Result<Transaction, DatabaseError> {
        self.pool.begin(&self.actor).await
    }
}

async fn connect_sqlite(path: &Path) -> Result<Pool, DatabaseError> {
    let has_options = path.to_string_lossy().contains('?');
    if path.as_os_str().is_empty() || has_options {
        return Err(DatabaseError::Address);
    }
    if let Some(folder) = path.parent() {
        tokio::fs::create_dir_all(folder)
            .await
            .map_err(|source| DatabaseError::Unreachable { source: Some(source) })?;
    }
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(PATIENCE)
        .foreign_keys(true);
    let writer = SqlitePoolOptions::new()
        .max_connections(1)
        .acquire_timeout(PATIENCE * 3)
        .connect_with(options.clone())
        .await?;
    let readers = SqlitePoolOptions::new()
        .max_connections(SQLITE_READERS)
        .acquire_timeout(PATIENCE)
        .connect_with(options.pragma("query_only", "on"))
        .await?;
    Ok(Pool::Sqlite { writer, readers })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Event, EventKind};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_process_that_stops_in_a_transaction_does_not_stop_the_others() {
        let url = tokio::task::spawn_blocking(|| {
            test_harness::postgres::shared().create_database().unwrap()
        });
        let url = url.await.unwrap();
        let stopped = Store::connect(&url, "stopped").await.unwrap();
        stopped.migrate().await.unwrap();
        let mut transaction = stopped.begin().await.unwrap();
        let held = "select seq from ledger_head for update";
        transaction.rows(held, values![]).await.unwrap();
        let other = Store::connect(&url, "other").await.unwrap();

        other.record(Event::new(EventKind::ServiceStarted)).await.unwrap();

        let late = Event::new(EventKind::ServiceStopped);
        transaction.record(late.clone());
        let error = transaction.commit().await.unwrap_err();
        assert!(error.is_transient(), "{error:?}");
        stopped.record(late).await.unwrap();
        let verdict = other.verify_ledger(None).await.unwrap();
        assert_eq!((verdict.sound, verdict.defect), (2, None));
    }
}
