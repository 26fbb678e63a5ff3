//! Migrations: forward only, embedded, verified by every role and applied by `migrate` alone.

use sqlx::SqlSafeStr;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};

use super::sql::{Pool, values};
use super::{DatabaseError, Store};

/// Version, name, text for PostgreSQL, text for SQLite.
const MIGRATIONS: &[(i64, &str, &str, &str)] = &[
    (
        1,
        "foundation",
        include_str!("../../../migrations/postgres/0001_foundation.sql"),
        include_str!("../../../migrations/sqlite/0001_foundation.sql"),
    ),
    (
        2,
        "audit_views",
        include_str!("../../../migrations/postgres/0002_audit_views.sql"),
        include_str!("../../../migrations/sqlite/0002_audit_views.sql"),
    ),
    (
        3,
        "routing",
        include_str!("../../../migrations/postgres/0003_routing.sql"),
        include_str!("../../../migrations/sqlite/0003_routing.sql"),
    ),
    (
        20,
        "audit",
        include_str!("../../../migrations/postgres/0020_audit.sql"),
        include_str!("../../../migrations/sqlite/0020_audit.sql"),
    ),
    (
        21,
        "recall",
        include_str!("../../../migrations/postgres/0021_recall.sql"),
        include_str!("../../../migrations/sqlite/0021_recall.sql"),
    ),
    (
        40,
        "page_indexes",
        include_str!("../../../migrations/postgres/0040_page_indexes.sql"),
        include_str!("../../../migrations/sqlite/0040_page_indexes.sql"),
    ),
    (
        50,
        "storage_commitment",
        include_str!("../../../migrations/postgres/0050_storage_commitment.sql"),
        include_str!("../../../migrations/sqlite/0050_storage_commitment.sql"),
    ),
    (
        51,
        "delivery_forms",
        include_str!("../../../migrations/postgres/0051_delivery_forms.sql"),
        include_str!("../../../migrations/sqlite/0051_delivery_forms.sql"),
    ),
    (
        64,
        "backfill",
        include_str!("../../../migrations/postgres/0064_backfill.sql"),
        include_str!("../../../migrations/sqlite/0064_backfill.sql"),
    ),
    (
        67,
        "referring_results",
        include_str!("../../../migrations/postgres/0067_referring_results.sql"),
        include_str!("../../../migrations/sqlite/0067_referring_results.sql"),
    ),
    (
        68,
        "plausibility",
        include_str!("../../../migrations/postgres/0068_plausibility.sql"),
        include_str!("../../../migrations/sqlite/0068_plausibility.sql"),
    ),
    (
        70,
        "shadow_lane",
        include_str!("../../../migrations/postgres/0070_shadow_lane.sql"),
        include_str!("../../../migrations/sqlite/0070_shadow_lane.sql"),
    ),
    (
        71,
        "protocol_rules",
        include_str!("../../../migrations/postgres/0071_protocol_rules.sql"),
        include_str!("../../../migrations/sqlite/0071_protocol_rules.sql"),
    ),
    (
        74,
        "audit_forwarding",
        include_str!("../../../migrations/postgres/0074_audit_forwarding.sql"),
        include_str!("../../../migrations/sqlite/0074_audit_forwarding.sql"),
    ),
    (
        75,
        "event_by_association",
        include_str!("../../../migrations/postgres/0075_event_by_association.sql"),
        include_str!("../../../migrations/sqlite/0075_event_by_association.sql"),
    ),
];

/// Why a database is not one that this version can work with.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// Nothing was ever migrated, or not far enough.
    #[error(
        "database schema is at version {found}, this program needs {needed}: run `prosector migrate`"
    )]
    Behind {
        /// Highest version applied, 0 for an empty database.
        found: i64,
        /// The version that this program needs.
        needed: i64,
    },
    /// A migration was applied that has this version's number but another text.
    #[error("database migration {version} differs from the one that this program knows")]
    Altered {
        /// Number of the migration.
        version: i64,
    },
    /// The schema could not be read.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

impl Store {
    /// The schema version that this program needs.
    pub fn needed_schema_version() -> i64 {
        MIGRATIONS.last().map_or(0, |&(version, ..)| version)
    }

    /// Applies the migrations that are missing, each in a transaction, while nobody else migrates.
    ///
    /// # Errors
    /// [`DatabaseError::Migration`] where one fails or an applied one has changed.
    pub async fn migrate(&self) -> Result<(), DatabaseError> {
        match &self.pool {
            Pool::Postgres(pool) => migrator(|postgres, _| postgres).run(pool).await?,
            Pool::Sqlite { writer, .. } => migrator(|_, sqlite| sqlite).run(writer).await?,
        }
        Ok(())
    }

    /// Checks that the database has every migration that this program needs, unaltered.
    ///
    /// A schema that is further ahead passes: migrations suit the program that is still running.
    ///
    /// # Errors
    /// [`SchemaError`] names the version that is missing or altered.
    pub async fn verify_schema(&self) -> Result<(), SchemaError> {
        let needed = Self::needed_schema_version();
        if !self.has_migrations_table().await? {
            return Err(SchemaError::Behind { found: 0, needed });
        }
        let rows = self
            .pool
            .rows("select version, checksum from _sqlx_migrations order by version", values![])
            .await?;
        let mut applied = Vec::with_capacity(rows.len());
        for row in &rows {
            applied.push((row.get::<i64>("version")?, row.get::<Vec<u8>>("checksum")?));
        }
        let known = match &self.pool {
            Pool::Postgres(_) => migrations(|postgres, _| postgres),
            Pool::Sqlite { .. } => migrations(|_, sqlite| sqlite),
        };
        for migration in known {
            let found = applied.iter().find(|(version, _)| *version == migration.version);
            match found {
                None => {
                    let found = applied.last().map_or(0, |(version, _)| *version);
                    return Err(SchemaError::Behind { found, needed });
                }
                Some((version, checksum)) if checksum[..] != migration.checksum[..] => {
                    return Err(SchemaError::Altered { version: *version });
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    async fn has_migrations_table(&self) -> Result<bool, DatabaseError> {
        let statement = match &self.pool {
            Pool::Postgres(_) => {
                "select cast(count(*) as bigint) as found from pg_catalog.pg_class \
                 where oid = to_regclass('_sqlx_migrations')"
            }
            Pool::Sqlite { .. } => {
                "select count(*) as found from sqlite_master where name = '_sqlx_migrations'"
            }
        };
        let row = self.pool.row(statement, values![]).await?;
        Ok(row.map(|row| row.get::<i64>("found")).transpose()?.unwrap_or(0) > 0)
    }
}

fn migrations(text: fn(&'static str, &'static str) -> &'static str) -> Vec<Migration> {
    let migration = |&(version, name, postgres, sqlite): &(i64, &'static str, _, _)| {
        let text = text(postgres, sqlite).into_sql_str();
        Migration::new(version, name.into(), MigrationType::Simple, text, false)
    };
    MIGRATIONS.iter().map(migration).collect()
}

fn migrator(text: fn(&'static str, &'static str) -> &'static str) -> Migrator {
    let mut migrator = Migrator::with_migrations(migrations(text));
    migrator.set_ignore_missing(true);
    migrator
}

impl From<MigrateError> for DatabaseError {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::Execute(error) => error.into(),
            // The message speaks of versions and of our own statements; there is no data yet to repeat.
            other => Self::Migration { reason: other.to_string() },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_migration_file_is_embedded_for_both_databases() {
        let embedded: BTreeSet<String> = MIGRATIONS
            .iter()
            .map(|(version, name, ..)| format!("{version:04}_{name}.sql"))
            .collect();

        for backend in ["postgres", "sqlite"] {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations").join(backend);
            let found: BTreeSet<String> = std::fs::read_dir(folder)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            assert_eq!(found, embedded, "{backend}");
        }
    }
}
