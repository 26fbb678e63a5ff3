//! `prosector model prompts`

use anyhow::{Context as _, Result};
use clap::Args;
use prosector_model::{Pack, PromptModality, TextEncoder};
use serde_json::{Value, json};

use super::{Format, Outcome, Table, output};

/// Modalities of series that can be segmented.
const MODALITIES: [PromptModality; 3] =
    [PromptModality::Ct, PromptModality::Mri, PromptModality::Pet];

#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    /// A name in model.packs, a folder, or phantom
    #[arg(value_name = "PACK")]
    pub(super) pack: String,
    /// Texts to look up
    #[arg(value_name = "TEXT", required = true)]
    texts: Vec<String>,
    /// How to print the table
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Fails when the pack cannot make a query of one of the texts in any modality.
pub(super) fn run(arguments: &Arguments, pack: &Pack) -> Result<Outcome> {
    let encoder = TextEncoder::load(pack).context("cannot load the text encoder of the pack")?;
    let mut table = Table::new(&["prompt", "modality", "source", "nearest_cached", "similarity"]);
    let mut outcome = Outcome::Done;
    for text in &arguments.texts {
        let mut is_known = false;
        for modality in MODALITIES {
            let row = look_up(pack, encoder.as_ref(), text, modality)?;
            is_known |= row[2] != "unknown";
            table.push(row);
        }
        if !is_known {
            outcome = Outcome::Failed;
        }
    }
    output::print(&table.render(arguments.format)?)?;
    Ok(outcome)
}

fn look_up(
    pack: &Pack,
    encoder: Option<&TextEncoder>,
    text: &str,
    modality: PromptModality,
) -> Result<Vec<Value>> {
    let (source, query) = match (pack.prompts().get(text, modality), encoder) {
        (Some(row), _) => ("cached", Some(row.to_vec())),
        (None, Some(encoder)) => {
            let query = encoder.embed(&text.to_lowercase(), modality);
            ("text encoder", Some(query.with_context(|| format!("cannot embed {text:?}"))?))
        }
        (None, None) => ("unknown", None),
    };
    let nearest = query.and_then(|query| nearest_cached(pack, &query, text, modality));
    let (nearest, similarity) = nearest.unzip();
    let similarity = similarity.map(|value| (value * 1000.0).round() / 1000.0);
    Ok(vec![
        json!(text),
        json!(modality.as_str()),
        json!(source),
        json!(nearest),
        json!(similarity),
    ])
}

/// The cached prompt whose embedding points most nearly the same way, `text` itself aside, and the cosine.
fn nearest_cached(
    pack: &Pack,
    query: &[f32],
    text: &str,
    modality: PromptModality,
) -> Option<(String, f64)> {
    let table = pack.prompts();
    let others = table.prompts(modality).filter(|known| *known != text.to_lowercase());
    let scored =
        others.filter_map(|known| Some((known, cosine(query, table.get(known, modality)?))));
    let best = scored.max_by(|a, b| a.1.total_cmp(&b.1))?;
    Some((best.0.to_owned(), best.1))
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |x: &[f32], y: &[f32]| -> f64 {
        x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt().max(f64::MIN_POSITIVE)
}
