//! Progress of long work: a bar on a terminal, log lines elsewhere.

use std::io::IsTerminal as _;
use std::time::Duration;

use dicom_types::SeriesInstanceUid;
use indicatif::{ProgressBar, ProgressStyle};
use prosector_model::Control;

const TEMPLATE: &str = "{spinner} {prefix} {msg:8} {wide_bar} window {pos}/{len} {elapsed}";

/// Progress of one series.
#[derive(Debug)]
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    series: String,
}

impl Progress {
    /// Starts with a series.
    pub(super) fn start(series: &SeriesInstanceUid) -> Self {
        let series = series.to_string();
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template(TEMPLATE).expect("a template without a typo");
            let bar = ProgressBar::new(0).with_style(style).with_prefix(series.clone());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Self { bar, series }
    }

    /// Names the stage that begins.
    pub(super) fn enter(&self, stage: &'static str) {
        if let Some(bar) = &self.bar {
            bar.set_message(stage);
        } else {
            tracing::info!(series.uid = self.series, stage.name = stage, "stage begins");
        }
    }

    /// A hand on the network that moves the bar.
    pub(super) fn control(&self) -> Control {
        let Some(bar) = self.bar.clone() else { return Control::default() };
        Control::with_progress(move |progress| {
            bar.set_length(progress.windows as u64);
            bar.set_position(progress.done as u64);
        })
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
