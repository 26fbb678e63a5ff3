//! `prosector migrate`: brings the schema of the store up to date.

use anyhow::{Context as _, Result};
use prosector_storage::Store;

use super::{Outcome, output};
use crate::config::Config;

pub(super) async fn run(config: &Config) -> Result<Outcome> {
    let store = Store::connect(config.store.url.expose(), &crate::serve::actor("migrate"))
        .await
        .with_context(|| format!("store.url: {}", config.store.url))?;
    store.migrate().await?;
    output::print(&format!("schema version {}\n", Store::needed_schema_version()))?;
    Ok(Outcome::Done)
}
