//! `prosector model import`

use std::fmt::Write as _;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::Result;
use clap::Args;
use prosector_model::{
    ImportError, ImportOptions, InferSizesError, PromptModality, TextKind, TextSource, import,
};

use super::{Outcome, UsageError, output};
use crate::vocabulary::Vocabulary;

/// What a pack says of its licence when the operator says nothing.
const UNKNOWN_LICENCE: &str =
    "not stated by the source; whoever imports the weights answers for their use";

#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    /// Segmentation checkpoint
    #[arg(long, value_name = "PTH")]
    checkpoint: PathBuf,
    /// Checkpoint of the text encoder that was trained with it
    #[arg(long, value_name = "PTH", requires = "tokenizer")]
    text_encoder: Option<PathBuf>,
    /// Tokenizer of the text encoder: vocab.txt, tokenizer.json, or a folder with one
    #[arg(long, value_name = "FILE|DIR", requires = "text_encoder")]
    tokenizer: Option<PathBuf>,
    /// Kind of the text encoder: ours, medcpt or basebert; the last two have the same tensors and must be told apart
    #[arg(long, value_name = "KIND", requires = "text_encoder")]
    text_kind: Option<KindArg>,
    /// Window of the network in voxels: to the right, to anterior, to superior
    #[arg(long, default_value = "288x288x96")]
    window: Window,
    /// Name of the pack [default: that of the output folder]
    #[arg(long)]
    name: Option<String>,
    /// What is known about the licence of the weights
    #[arg(long, default_value = UNKNOWN_LICENCE, value_name = "TEXT")]
    licence: String,
    /// Folder of the pack, which must not exist yet
    #[arg(long, value_name = "PACK")]
    output: PathBuf,
}

/// The manifest's word for a kind of text encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct KindArg(TextKind);

impl FromStr for KindArg {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let kind = TextKind::ALL.into_iter().find(|kind| kind.as_str() == text);
        kind.map(Self).ok_or("ours, medcpt or basebert")
    }
}

/// `288x288x96`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Window([usize; 3]);

impl FromStr for Window {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let sides: Option<Vec<usize>> = text.split('x').map(|side| side.parse().ok()).collect();
        let window = sides.and_then(|sides| <[usize; 3]>::try_from(sides).ok()).map(Self);
        window.ok_or_else(|| "three numbers with x between them, as in 288x288x96".to_owned())
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<Outcome> {
    let of_folder = arguments.output.file_name().and_then(|name| name.to_str());
    let Some(name) = arguments.name.as_deref().or(of_folder) else {
        return Err(UsageError("the output folder has no name; give one with --name".into()).into());
    };
    let text = arguments.text_encoder.as_deref().zip(arguments.tokenizer.as_deref());
    let kind = arguments.text_kind.map(|KindArg(kind)| kind);
    let prompts: Vec<(String, PromptModality)> = Vocabulary::get()
        .trained()
        .map(|(prompt, modality)| (prompt.to_owned(), modality.into()))
        .collect();
    tracing::info!(prompts = prompts.len(), "importing; a large checkpoint takes minutes");
    let report = import(&ImportOptions {
        checkpoint: &arguments.checkpoint,
        text: text.map(|(checkpoint, tokenizer)| TextSource { checkpoint, tokenizer, kind }),
        window: arguments.window.0,
        name,
        licence: &arguments.licence,
        prompts: &prompts,
        output: &arguments.output,
    })
    .map_err(explained)?;
    let mut summary = format!(
        "{name}: {} parameters, channels {:?}, {} prompts embedded\n",
        report.parameters, report.architecture.channels, report.prompts
    );
    for (reason, count) in &report.left_out {
        let _ = writeln!(summary, "left out: {count} tensors, {reason}");
    }
    if text.is_none() {
        summary.push_str("without text encoder the pack knows no prompt\n");
    }
    output::print(&summary)?;
    Ok(Outcome::Done)
}

/// Adds the flag that helps, where one does.
fn explained(error: ImportError) -> anyhow::Error {
    let is_unstated =
        matches!(&error, ImportError::Sizes { source: InferSizesError::UnstatedEncoder, .. });
    let what = if is_unstated {
        "nothing was imported; state the kind with --text-kind"
    } else {
        "nothing was imported"
    };
    anyhow::Error::new(error).context(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_window_and_refuses_anything_else() {
        assert_eq!("288x288x96".parse(), Ok(Window([288, 288, 96])));
        for text in ["", "288", "288x288", "288x288x96x1", "axbxc", "288 288 96", "-1x2x3"] {
            assert!(text.parse::<Window>().is_err(), "{text}");
        }
    }

    #[test]
    fn reads_a_kind_of_text_encoder_and_refuses_anything_else() {
        assert_eq!("basebert".parse(), Ok(KindArg(TextKind::BaseBert)));
        assert_eq!("MedCPT".parse::<KindArg>(), Err("ours, medcpt or basebert"));
    }
}
