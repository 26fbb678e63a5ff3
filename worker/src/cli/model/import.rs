//! `prosector model import`

use std::fmt::Write as _;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context as _, Result};
use clap::Args;
use prosector_model::{ImportOptions, PromptModality, TextSource, import};

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
    let prompts: Vec<(String, PromptModality)> = Vocabulary::get()
        .trained()
        .map(|(prompt, modality)| (prompt.to_owned(), modality.into()))
        .collect();
    tracing::info!(prompts = prompts.len(), "importing; a large checkpoint takes minutes");
    let report = import(&ImportOptions {
        checkpoint: &arguments.checkpoint,
        text: text.map(|(checkpoint, tokenizer)| TextSource { checkpoint, tokenizer }),
        window: arguments.window.0,
        name,
        licence: &arguments.licence,
        prompts: &prompts,
        output: &arguments.output,
    })
    .context("nothing was imported")?;
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
}
