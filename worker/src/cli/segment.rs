//! `prosector segment`: files in, a folder per series out, without a service.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{ArgGroup, Args, ValueEnum};
use dicom_io::series::Stack;
use dicom_types::Modality;
use prosector_model::{Mode, OrientationCode};
use prosector_storage::TargetMeasurement;
use serde_json::{Value, json};

use super::model::open_pack;
use super::progress::Progress;
use super::table::{Format, Table};
use super::{Outcome, UsageError, output};
use crate::config::{Config, FieldPath, Loaded, Problems, suggest};
use crate::protocol::{Forms, PHANTOM_PACK, Protocol, Target, resolve};
use crate::segment::{
    JobIdentity, Order, Pipeline, ResultFiles, SeriesSource, find_files, moment_of, preview_png,
    segmenter_options, series_of, summary, write_result,
};

/// Name of the protocol in results of targets that were named on the command line.
const AD_HOC: &str = "command line";

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("what").required(true).args(["protocol", "targets"])))]
pub(super) struct Command {
    /// DICOM files, or folders of them
    #[arg(required = true, value_name = "INPUT")]
    inputs: Vec<PathBuf>,
    /// Protocol of the configuration whose targets, pack and orientation to use
    #[arg(long, value_name = "NAME")]
    protocol: Option<String>,
    /// What to look for: prompts, SNOMED CT codes, sets (`@ct_abdomen`), or any text
    #[arg(long = "target", value_name = "TEXT", num_args = 1..)]
    targets: Vec<String>,
    /// Model pack: a name in model.packs, a folder, or phantom [default: that of the protocol, else phantom]
    #[arg(long, value_name = "PACK")]
    model: Option<String>,
    /// What to tell the network that the scan is, in place of what the header says
    #[arg(long, value_enum, ignore_case = true)]
    modality: Option<ModalityArg>,
    /// Voxel order for the network; ASR for sagittal scans of the spine [default: that of the protocol, else RAS]
    #[arg(long, value_enum, ignore_case = true)]
    orientation: Option<OrientationArg>,
    /// How windows cover the volume: reference, the published tiling, or fast [default: that of the protocol, else
    /// reference]
    #[arg(long)]
    mode: Option<Mode>,
    /// Forms to write beside seg.dcm: seg, labelmap, sr, picture, rtstruct [default: those of the protocol, else seg]
    #[arg(long = "form", value_name = "FORM", num_args = 1..)]
    forms: Vec<String>,
    /// Folder that receives a folder per series
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// How to print the table of what was done
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ModalityArg {
    #[value(name = "CT")]
    Ct,
    #[value(name = "MR")]
    Mr,
    #[value(name = "PT")]
    Pt,
}

impl From<ModalityArg> for Modality {
    fn from(argument: ModalityArg) -> Self {
        match argument {
            ModalityArg::Ct => Self::Ct,
            ModalityArg::Mr => Self::Mr,
            ModalityArg::Pt => Self::Pt,
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum OrientationArg {
    #[value(name = "RAS")]
    Ras,
    #[value(name = "ASR")]
    Asr,
}

impl From<OrientationArg> for OrientationCode {
    fn from(argument: OrientationArg) -> Self {
        match argument {
            OrientationArg::Ras => Self::Ras,
            OrientationArg::Asr => Self::Asr,
        }
    }
}

pub(super) fn run(command: &Command, loaded: &Loaded) -> Result<Outcome> {
    let config = &loaded.config;
    let wanted = Wanted::new(command, config)?;
    let forms = wanted.forms(command)?;
    let name = command.model.as_deref().or(wanted.model()).unwrap_or(PHANTOM_PACK);
    let pack = open_pack(config, name)?;
    let files = find_files(&command.inputs)?;
    let series = series_of(dicom_io::series::read_stacks(&files));
    anyhow::ensure!(!series.is_empty(), "no DICOM file in the input");
    let pipeline = Pipeline::new(&pack, segmenter_options(config))
        .with_context(|| format!("cannot load model pack {name:?}"))?;
    let mut table = Table::new(&["series", "state", "target", "voxels", "volume_ml", "reason"]);
    let mut outcome = Outcome::Done;
    for source in &series {
        let uid = source.series_instance_uid.as_ref().map(ToString::to_string);
        match segment_series(source, command, &wanted, &forms, &pipeline) {
            Ok(found) => add_rows(&mut table, uid.as_deref(), &found),
            Err(error) => {
                outcome = Outcome::Failed;
                let reason = format!("{error:#}");
                tracing::error!(series.uid = uid, "not segmented: {reason}");
                let row = [json!(uid), json!("failed"), Value::Null, Value::Null, Value::Null];
                table.push(row.into_iter().chain([json!(reason)]).collect());
            }
        }
    }
    output::print(&table.render(command.format)?)?;
    Ok(outcome)
}

/// What to look for, from a protocol or from the command line.
enum Wanted<'a> {
    Protocol(&'a Protocol),
    Targets(Vec<Target>),
}

impl<'a> Wanted<'a> {
    fn new(command: &Command, config: &'a Config) -> Result<Self> {
        let Some(name) = &command.protocol else {
            return Ok(Self::Targets(targets(&command.targets)?));
        };
        let Some(protocol) = config.protocol(name) else {
            let names = config.protocols.iter().map(|protocol| protocol.name.as_str());
            let hint = suggest::hint(name, names);
            return Err(UsageError(format!("no protocol is called {name:?}{hint}")).into());
        };
        Ok(Self::Protocol(protocol))
    }

    fn model(&self) -> Option<&str> {
        match self {
            Self::Protocol(protocol) => Some(&protocol.model),
            Self::Targets(_) => None,
        }
    }

    /// What was asked for, else what the protocol says.
    fn forms(&self, command: &Command) -> Result<Forms> {
        if command.forms.is_empty() {
            return Ok(match self {
                Self::Protocol(protocol) => protocol.forms.clone(),
                Self::Targets(_) => Forms::default(),
            });
        }
        let mut problems = Problems::default();
        let forms = Forms::read(&command.forms, &FieldPath::root().key("--form"), &mut problems);
        let (errors, _) = problems.into_sorted();
        forms.filter(|_| errors.is_empty()).ok_or_else(|| {
            let reasons: Vec<String> = errors.iter().map(|e| e.message.clone()).collect();
            UsageError(format!("--form: {}", reasons.join("; "))).into()
        })
    }

    fn order(&self, command: &Command, stack: &Stack) -> Order {
        let mut order = match self {
            Self::Protocol(protocol) => Order::of_protocol(protocol, stack),
            Self::Targets(targets) => Order::ad_hoc(AD_HOC, targets, stack),
        };
        order.modality = command.modality.map(Into::into);
        if let Some(orientation) = command.orientation {
            order.orientation = orientation.into();
        }
        if let Some(mode) = command.mode {
            order.mode = mode;
        }
        order
    }
}

/// Resolves what the vocabulary knows and takes every other text as it is; a set or a code must be known.
fn targets(texts: &[String]) -> Result<Vec<Target>> {
    let mut targets: Vec<Target> = Vec::new();
    for text in texts {
        let resolved = match resolve(text) {
            Ok(resolved) => resolved,
            Err(error) if error.is_about_text() && !text.trim().is_empty() => {
                vec![Target::free_text(text.trim())]
            }
            Err(error) => return Err(UsageError(error.to_string()).into()),
        };
        for target in resolved {
            if targets.iter().all(|known| known.prompt != target.prompt) {
                targets.push(target);
            }
        }
    }
    Ok(targets)
}

fn add_rows(table: &mut Table, series: Option<&str>, measurements: &[TargetMeasurement]) {
    for measured in measurements {
        table.push(vec![
            json!(series),
            json!(if measured.voxel_count > 0 { "found" } else { "not found" }),
            json!(measured.prompt),
            json!(measured.voxel_count),
            json!((measured.volume_ml * 10.0).round() / 10.0),
            Value::Null,
        ]);
    }
}

/// Segments one series, writes its folder and gives back what was found.
fn segment_series(
    source: &SeriesSource,
    command: &Command,
    wanted: &Wanted<'_>,
    forms: &Forms,
    pipeline: &Pipeline,
) -> Result<Vec<TargetMeasurement>> {
    let left_out = source.left_out();
    let Some(stack) = source.volume() else {
        anyhow::bail!("no volume: {}", left_out.join("; "));
    };
    warn_of_rest(stack, &left_out);
    let order = wanted.order(command, stack);
    let job = JobIdentity {
        job_id: order.job_id(stack, &pipeline.pack().digest),
        created: moment_of(stack),
    };
    let progress = Progress::start(&stack.series_instance_uid);
    let enter = |stage| progress.enter(stage);
    let result = pipeline.run(stack, &order, forms, &job, &progress.control(), &enter)?;
    if result.encoded.overlap {
        tracing::warn!(
            series.uid = %stack.series_instance_uid,
            "targets overlap, which a label map cannot say: it is not written"
        );
    }
    enter("write");
    let preview = preview_png(&result.volume, stack.modality, &order, &result.masks)
        .context("cannot draw the preview")?;
    let summary = summary(stack, &order, &job, pipeline.pack(), &result, &left_out);
    let summary = serde_json::to_vec_pretty(&summary)?;
    let files =
        ResultFiles { objects: &result.encoded.objects, summary: &summary, preview: &preview };
    let folder = write_result(&command.output, &stack.series_instance_uid, &files)
        .with_context(|| format!("cannot write results to {}", command.output.display()))?;
    drop(progress);
    let duration: Duration = result.stages.iter().map(|(_, duration)| duration).sum();
    tracing::info!(
        series.uid = %stack.series_instance_uid,
        job.id = %job.job_id,
        duration_ms = duration.as_millis() as u64,
        "segmented into {}",
        folder.display()
    );
    Ok(result.encoded.measurements)
}

/// A series may hold more than the volume that is segmented, or less than a result needs: a person must hear of it.
fn warn_of_rest(stack: &Stack, left_out: &[String]) {
    let series = &stack.series_instance_uid;
    for reason in left_out {
        tracing::warn!(series.uid = %series, "left out: {reason}");
    }
    if stack.frame_of_reference_uid.is_none() {
        tracing::warn!(series.uid = %series, "no frame of reference, one is derived from the series");
    }
}
