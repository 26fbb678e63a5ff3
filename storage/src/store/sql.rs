//! The one place where the two databases look the same: statements, values, rows, transactions.

use dicom_types::Phi;
use sqlx::{AssertSqlSafe, Postgres, Row as _, SqlSafeStr, Sqlite};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::digest::Sha256Digest;
use crate::provenance::{Event, append};

use super::DatabaseError;
use super::instant::{from_text, to_micros, to_text};

/// A statement with numbered parameters (`$1`), which both databases understand.
pub(crate) enum Statement {
    /// The same text for both.
    Shared(&'static str),
    /// A text for each.
    Each { postgres: &'static str, sqlite: &'static str },
    /// Put together from fixed pieces and parameter numbers; never from values.
    Built(String),
    /// The same, in so few shapes that connections keep them prepared.
    Kept(String),
}

impl From<&'static str> for Statement {
    fn from(text: &'static str) -> Self {
        Self::Shared(text)
    }
}

impl From<String> for Statement {
    fn from(text: String) -> Self {
        Self::Built(text)
    }
}

/// A statement whose last select locks its rows for this transaction and passes over those that another one holds.
/// SQLite needs neither: it has one writing transaction at a time.
///
/// A select with a limit goes into a materialised table expression: PostgreSQL may run a subquery in `in (…)` once for
/// each row of the outer statement, and then the limit bounds nothing.
macro_rules! locking {
    ($before:expr, $after:expr) => {
        $crate::store::sql::Statement::Each {
            postgres: concat!($before, " for update skip locked ", $after),
            sqlite: concat!($before, " ", $after),
        }
    };
}
pub(crate) use locking;

impl Statement {
    fn postgres(self) -> (sqlx::SqlStr, bool) {
        match self {
            Self::Shared(text) | Self::Each { postgres: text, .. } => (text.into_sql_str(), true),
            Self::Built(text) => (AssertSqlSafe(text).into_sql_str(), false),
            Self::Kept(text) => (AssertSqlSafe(text).into_sql_str(), true),
        }
    }

    fn sqlite(self) -> (sqlx::SqlStr, bool) {
        match self {
            Self::Shared(text) | Self::Each { sqlite: text, .. } => (text.into_sql_str(), true),
            Self::Built(text) => (AssertSqlSafe(text).into_sql_str(), false),
            Self::Kept(text) => (AssertSqlSafe(text).into_sql_str(), true),
        }
    }
}

/// A value to bind. PostgreSQL gets its native type, SQLite text, integers and blobs.
#[derive(Clone)]
pub(crate) enum Value {
    Text(Option<String>),
    Integer(Option<i64>),
    Real(f64),
    Uuid(Option<Uuid>),
    Time(Option<OffsetDateTime>),
    Bytes(Vec<u8>),
    Json(serde_json::Value),
}

macro_rules! value_from {
    ($($type:ty, $name:ident => $value:expr;)*) => {
        $(impl From<$type> for Value {
            fn from($name: $type) -> Self {
                $value
            }
        })*
    };
}

value_from! {
    &str, text => Self::Text(Some(text.to_owned()));
    String, text => Self::Text(Some(text));
    &String, text => Self::Text(Some(text.clone()));
    Option<String>, text => Self::Text(text);
    Option<&str>, text => Self::Text(text.map(str::to_owned));
    &Phi<String>, text => Self::Text(Some(text.expose().clone()));
    i64, number => Self::Integer(Some(number));
    u64, number => Self::Integer(Some(number as i64));
    u32, number => Self::Integer(Some(i64::from(number)));
    Option<i64>, number => Self::Integer(number);
    f64, number => Self::Real(number);
    Uuid, id => Self::Uuid(Some(id));
    Option<Uuid>, id => Self::Uuid(id);
    OffsetDateTime, time => Self::Time(Some(time));
    Option<OffsetDateTime>, time => Self::Time(time);
    Sha256Digest, digest => Self::Bytes(digest.as_bytes().to_vec());
    &Sha256Digest, digest => Self::Bytes(digest.as_bytes().to_vec());
    serde_json::Value, json => Self::Json(json);
}

/// Makes a list of values to bind, in the order of the parameters.
macro_rules! values {
    ($($value:expr),* $(,)?) => {
        vec![$($crate::store::sql::Value::from($value)),*]
    };
}
pub(crate) use values;

/// `($1, $2), ($3, $4)`: places for `rows` rows of `width` values, starting after `offset` parameters.
pub(crate) fn places(offset: usize, rows: usize, width: usize) -> String {
    let mut text = String::with_capacity(rows * width * 6);
    for row in 0..rows {
        text.push_str(if row == 0 { "(" } else { ", (" });
        for column in 0..width {
            if column > 0 {
                text.push_str(", ");
            }
            text.push('$');
            text.push_str(&(offset + row * width + column + 1).to_string());
        }
        text.push(')');
    }
    text
}

/// A row of either database.
pub(crate) enum Row {
    Postgres(sqlx::postgres::PgRow),
    Sqlite(sqlx::sqlite::SqliteRow),
}

/// What can be read from a column.
pub(crate) trait Column: Sized {
    fn read(row: &Row, column: &str) -> Result<Self, DatabaseError>;
}

impl Row {
    /// The value of `column`; a nullable column is read as an `Option`.
    pub(crate) fn get<T: Column>(&self, column: &str) -> Result<T, DatabaseError> {
        T::read(self, column)
    }

    /// The text that stands for a time or a UUID: as it is stored on SQLite, which keeps both as text, and in the same
    /// form on PostgreSQL.
    pub(crate) fn stored_text<T>(
        &self,
        column: &str,
        text: impl Fn(T) -> String,
    ) -> Result<Option<String>, DatabaseError>
    where
        Option<T>: Column,
    {
        match self {
            Self::Postgres(_) => Ok(self.get::<Option<T>>(column)?.map(text)),
            Self::Sqlite(row) => Ok(row.try_get_unchecked(column)?),
        }
    }

    /// The value of a text column, parsed.
    pub(crate) fn parse<T: std::str::FromStr>(&self, column: &str) -> Result<T, DatabaseError> {
        let text: String = self.get(column)?;
        text.parse().map_err(|_| shape(column))
    }

    /// The value of a nullable text column, parsed.
    pub(crate) fn parse_optional<T: std::str::FromStr>(
        &self,
        column: &str,
    ) -> Result<Option<T>, DatabaseError> {
        let text: Option<String> = self.get(column)?;
        text.map(|text| text.parse().map_err(|_| shape(column))).transpose()
    }
}

pub(crate) fn shape(column: &str) -> DatabaseError {
    DatabaseError::Shape { column: column.to_owned() }
}

macro_rules! native_column {
    ($($type:ty),*) => {
        $(
            impl Column for $type {
                fn read(row: &Row, column: &str) -> Result<Self, DatabaseError> {
                    Ok(match row {
                        Row::Postgres(row) => row.try_get(column)?,
                        Row::Sqlite(row) => row.try_get_unchecked(column)?,
                    })
                }
            }
            impl Column for Option<$type> {
                fn read(row: &Row, column: &str) -> Result<Self, DatabaseError> {
                    Ok(match row {
                        Row::Postgres(row) => row.try_get(column)?,
                        Row::Sqlite(row) => row.try_get_unchecked(column)?,
                    })
                }
            }
        )*
    };
}
native_column!(String, i64, f64, Vec<u8>);

macro_rules! text_column {
    ($($type:ty, $parse:expr;)*) => {
        $(
            impl Column for $type {
                fn read(row: &Row, column: &str) -> Result<Self, DatabaseError> {
                    <Option<$type>>::read(row, column)?.ok_or_else(|| shape(column))
                }
            }
            impl Column for Option<$type> {
                fn read(row: &Row, column: &str) -> Result<Self, DatabaseError> {
                    match row {
                        Row::Postgres(row) => Ok(row.try_get(column)?),
                        Row::Sqlite(row) => {
                            let text: Option<String> = row.try_get_unchecked(column)?;
                            let parse: fn(&str) -> Option<$type> = $parse;
                            text.map(|text| parse(&text).ok_or_else(|| shape(column))).transpose()
                        }
                    }
                }
            }
        )*
    };
}
text_column! {
    Uuid, |text| text.parse().ok();
    OffsetDateTime, from_text;
    serde_json::Value, |text| serde_json::from_str(text).ok();
}

impl Column for bool {
    fn read(row: &Row, column: &str) -> Result<Self, DatabaseError> {
        match row {
            Row::Postgres(row) => Ok(row.try_get(column)?),
            Row::Sqlite(row) => Ok(row.try_get_unchecked::<i64, _>(column)? != 0),
        }
    }
}

impl Column for Sha256Digest {
    fn read(row: &Row, column: &str) -> Result<Self, DatabaseError> {
        let bytes: Vec<u8> = row.get(column)?;
        bytes.as_slice().try_into().map_err(|_| shape(column))
    }
}

type PostgresQuery = sqlx::query::Query<'static, Postgres, sqlx::postgres::PgArguments>;
type SqliteQuery = sqlx::query::Query<'static, Sqlite, sqlx::sqlite::SqliteArguments>;

fn postgres_query(statement: Statement, values: Vec<Value>) -> PostgresQuery {
    let (text, persistent) = statement.postgres();
    let query = sqlx::query(text).persistent(persistent);
    values.into_iter().fold(query, |query, value| match value {
        Value::Text(text) => query.bind(text),
        Value::Integer(number) => query.bind(number),
        Value::Real(number) => query.bind(number),
        Value::Uuid(id) => query.bind(id),
        Value::Time(time) => query.bind(time),
        Value::Bytes(bytes) => query.bind(bytes),
        Value::Json(json) => query.bind(json),
    })
}

fn sqlite_query(statement: Statement, values: Vec<Value>) -> SqliteQuery {
    let (text, persistent) = statement.sqlite();
    let query = sqlx::query(text).persistent(persistent);
    values.into_iter().fold(query, |query, value| match value {
        Value::Text(text) => query.bind(text),
        Value::Integer(number) => query.bind(number),
        Value::Real(number) => query.bind(number),
        Value::Uuid(id) => query.bind(id.map(|id| id.to_string())),
        Value::Time(time) => query.bind(time.map(to_text)),
        Value::Bytes(bytes) => query.bind(bytes),
        Value::Json(json) => query.bind(json.to_string()),
    })
}

/// Connections to one database.
#[derive(Debug, Clone)]
pub(crate) enum Pool {
    /// PostgreSQL.
    Postgres(sqlx::PgPool),
    /// SQLite: one connection writes, so that no writer ever finds the file busy because of another one of ours.
    Sqlite { writer: sqlx::SqlitePool, readers: sqlx::SqlitePool },
}

impl Pool {
    /// Begins a writing transaction. Its time is the database's.
    pub(crate) async fn begin(&self, actor: &str) -> Result<Transaction, DatabaseError> {
        let (inner, now) = match self {
            Self::Postgres(pool) => {
                let mut inner = pool.begin().await?;
                let now: OffsetDateTime =
                    sqlx::query_scalar("select clock_timestamp()").fetch_one(&mut *inner).await?;
                (Inner::Postgres(inner), now)
            }
            Self::Sqlite { writer, .. } => {
                let inner = writer.begin_with("begin immediate").await?;
                (Inner::Sqlite(inner), OffsetDateTime::now_utc())
            }
        };
        Ok(Transaction { inner, now: to_micros(now), actor: actor.to_owned(), events: Vec::new() })
    }

    /// The database's time, in whole microseconds.
    pub(crate) async fn now(&self) -> Result<OffsetDateTime, DatabaseError> {
        let now = match self {
            Self::Postgres(pool) => {
                sqlx::query_scalar("select clock_timestamp()").fetch_one(pool).await?
            }
            Self::Sqlite { .. } => OffsetDateTime::now_utc(),
        };
        Ok(to_micros(now))
    }

    /// Rows of a reading statement outside a transaction.
    pub(crate) async fn rows(
        &self,
        statement: impl Into<Statement>,
        values: Vec<Value>,
    ) -> Result<Vec<Row>, DatabaseError> {
        Ok(match self {
            Self::Postgres(pool) => {
                let rows = postgres_query(statement.into(), values).fetch_all(pool).await?;
                rows.into_iter().map(Row::Postgres).collect()
            }
            Self::Sqlite { readers, .. } => {
                let rows = sqlite_query(statement.into(), values).fetch_all(readers).await?;
                rows.into_iter().map(Row::Sqlite).collect()
            }
        })
    }

    /// The only row of a reading statement, if there is one.
    pub(crate) async fn row(
        &self,
        statement: impl Into<Statement>,
        values: Vec<Value>,
    ) -> Result<Option<Row>, DatabaseError> {
        Ok(self.rows(statement, values).await?.into_iter().next())
    }
}

enum Inner {
    Postgres(sqlx::Transaction<'static, Postgres>),
    Sqlite(sqlx::Transaction<'static, Sqlite>),
}

/// A writing transaction. Dropped without [`Transaction::commit`], it leaves nothing behind.
pub(crate) struct Transaction {
    inner: Inner,
    now: OffsetDateTime,
    actor: String,
    events: Vec<Event>,
}

impl Transaction {
    /// The database's time at the beginning, in whole microseconds.
    pub(crate) fn now(&self) -> OffsetDateTime {
        self.now
    }

    /// Whether a statement may change two tables at once.
    pub(crate) fn is_postgres(&self) -> bool {
        matches!(self.inner, Inner::Postgres(_))
    }

    /// Executes a statement and returns how many rows it touched.
    pub(crate) async fn execute(
        &mut self,
        statement: impl Into<Statement>,
        values: Vec<Value>,
    ) -> Result<u64, DatabaseError> {
        Ok(match &mut self.inner {
            Inner::Postgres(inner) => postgres_query(statement.into(), values)
                .execute(&mut **inner)
                .await?
                .rows_affected(),
            Inner::Sqlite(inner) => {
                sqlite_query(statement.into(), values).execute(&mut **inner).await?.rows_affected()
            }
        })
    }

    /// The rows that a statement selects or returns.
    pub(crate) async fn rows(
        &mut self,
        statement: impl Into<Statement>,
        values: Vec<Value>,
    ) -> Result<Vec<Row>, DatabaseError> {
        Ok(match &mut self.inner {
            Inner::Postgres(inner) => {
                let rows = postgres_query(statement.into(), values).fetch_all(&mut **inner).await?;
                rows.into_iter().map(Row::Postgres).collect()
            }
            Inner::Sqlite(inner) => {
                let rows = sqlite_query(statement.into(), values).fetch_all(&mut **inner).await?;
                rows.into_iter().map(Row::Sqlite).collect()
            }
        })
    }

    /// The only row that a statement selects or returns, if there is one.
    pub(crate) async fn row(
        &mut self,
        statement: impl Into<Statement>,
        values: Vec<Value>,
    ) -> Result<Option<Row>, DatabaseError> {
        Ok(self.rows(statement, values).await?.into_iter().next())
    }

    /// Notes what happened; it joins the ledger when this transaction commits.
    pub(crate) fn record(&mut self, event: Event) {
        self.events.push(event);
    }

    /// Appends the noted events to the ledger and commits.
    ///
    /// The ledger's head is locked last and therefore shortly, and always in the same order.
    pub(crate) async fn commit(mut self) -> Result<(), DatabaseError> {
        let events = std::mem::take(&mut self.events);
        if !events.is_empty() {
            let actor = self.actor.clone();
            append(&mut self, &actor, &events).await?;
        }
        match self.inner {
            Inner::Postgres(inner) => inner.commit().await?,
            Inner::Sqlite(inner) => inner.commit().await?,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_number_their_parameters_row_by_row() {
        assert_eq!(places(0, 2, 3), "($1, $2, $3), ($4, $5, $6)");
        assert_eq!(places(2, 1, 1), "($3)");
    }
}
