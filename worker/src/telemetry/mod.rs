//! Logging and metrics. No patient attribute ever reaches a log call or a label.

mod device;
mod metrics;

use anyhow::Result;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

use crate::config::{Log, LogFormat};

pub(crate) use device::{busy, device_text};
pub(crate) use metrics::{install as install_metrics, keep as keep_metrics};

/// Starts logging, once per process.
///
/// # Errors
/// When logging was already started.
pub(crate) fn start(log: &Log) -> Result<()> {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(&log.level))
        .with_span_events(FmtSpan::NONE)
        .with_writer(std::io::stderr);
    let started = match log.format {
        LogFormat::Json => builder.json().with_current_span(true).try_init(),
        LogFormat::Text => builder.with_ansi(is_terminal()).try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("cannot start logging: {error}"))
}

fn is_terminal() -> bool {
    std::io::IsTerminal::is_terminal(&std::io::stderr())
}
