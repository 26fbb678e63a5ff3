//! What a database refuses, without repeating what it was told.

/// Why a database operation did not happen.
///
/// A database quotes values in its messages, so none of its text is carried: the code and the constraint say enough.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The address is none of `sqlite://PATH` and `postgres://…`, or has an option that is not understood.
    #[error("database address is neither sqlite://PATH nor a valid postgres://… address")]
    Address,
    /// The database cannot be reached, or the connection was lost on the way.
    #[error("no connection to the database")]
    Unreachable {
        /// What the operating system or the network said, where it said something.
        source: Option<std::io::Error>,
    },
    /// No connection became free in time.
    #[error("no database connection became free in time")]
    Busy,
    /// The database refused a statement.
    #[error("database refused a statement with code {code}{}", constraint.as_deref().map(|name| format!(" (constraint {name})")).unwrap_or_default())]
    Refused {
        /// SQLSTATE on PostgreSQL, extended result code on SQLite.
        code: String,
        /// The violated constraint, where the database names one.
        constraint: Option<String>,
        /// Whether the same statement may succeed when repeated: deadlock, serialisation, restart, busy file.
        transient: bool,
    },
    /// A stored value does not have the shape that this version expects.
    #[error("column {column} holds a value of another shape")]
    Shape {
        /// Name of the column.
        column: String,
    },
    /// A migration could not be applied.
    #[error("migration was not applied: {reason}")]
    Migration {
        /// What stood in the way.
        reason: String,
    },
}

impl DatabaseError {
    /// Whether the operation may succeed when it is tried again without a change.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Busy => true,
            Self::Refused { transient, .. } => *transient,
            Self::Address | Self::Shape { .. } | Self::Migration { .. } => false,
        }
    }
}

impl From<sqlx::Error> for DatabaseError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::Io(source) => Self::Unreachable { source: Some(source) },
            sqlx::Error::Database(refusal) => {
                let code = refusal.code().unwrap_or_default().into_owned();
                let transient = is_transient_code(&code);
                let constraint = refusal.constraint().map(str::to_owned);
                Self::Refused { code, constraint, transient }
            }
            sqlx::Error::PoolTimedOut => Self::Busy,
            sqlx::Error::Configuration(_) => Self::Address,
            sqlx::Error::ColumnNotFound(column) => Self::Shape { column },
            sqlx::Error::ColumnDecode { index, .. } => Self::Shape { column: index },
            _ => Self::Unreachable { source: None },
        }
    }
}

/// PostgreSQL: connection (08), silence in a transaction (25P03), rollback (40), resources (53), lock not to be had in
/// time (55P03), shutdown and restart (57P); SQLite: busy (5) and locked (6)
/// with their extended codes in the upper bytes.
fn is_transient_code(code: &str) -> bool {
    if code.len() == 5
        && ["08", "25P03", "40", "53", "55P03", "57P"].iter().any(|class| code.starts_with(class))
    {
        return true;
    }
    code.parse::<u32>().is_ok_and(|code| code < 10_000 && matches!(code & 0xff, 5 | 6))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_passing_refusals_from_lasting_ones() {
        for code in ["40P01", "57P01", "08006", "53300", "55P03", "25P03", "5", "261", "517"] {
            assert!(is_transient_code(code), "{code}");
        }
        for code in ["23505", "42P01", "22P02", "2067", "19", ""] {
            assert!(!is_transient_code(code), "{code}");
        }
    }
}
