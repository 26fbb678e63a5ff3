//! `prosector model evaluate`: how well a pack does on series whose segmentation is known.

mod manifest;
mod reference;

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;
use dicom_types::Mask;
use prosector_model::{Agreement, Mode, Pack, SegmentRequest, Segmenter};
use serde_json::{Value, json};

use super::{Format, Outcome, Table, output};
use crate::cli::progress::Progress;
use crate::config::Config;
use crate::protocol::resolve;
use crate::segment::{SeriesSource, find_files, segmenter_options, series_of};
use crate::vocabulary::Vocabulary;
use manifest::{Case, Manifest};

/// Region of targets that the vocabulary does not know.
const NO_REGION: &str = "other";

#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    /// A name in model.packs, a folder, or phantom
    #[arg(value_name = "PACK")]
    pub(super) pack: String,
    /// TOML file that lists series and their reference segmentations
    #[arg(long, value_name = "MANIFEST")]
    cases: PathBuf,
    /// How windows cover the volume: reference, the published tiling, or fast
    #[arg(long, default_value_t)]
    mode: Mode,
    /// A row for each case and target in place of the means
    #[arg(long)]
    details: bool,
    /// How to print the table
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// What came of one target of one case.
struct Score {
    case: String,
    prompt: String,
    agreement: Agreement,
}

/// Fails when a case cannot be evaluated; the others are evaluated all the same.
pub(super) fn run(arguments: &Arguments, config: &Config, pack: &Pack) -> Result<Outcome> {
    let manifest = Manifest::read(&arguments.cases)?;
    let segmenter =
        Segmenter::new(pack, segmenter_options(config)).context("cannot load the model pack")?;
    let mut scores = Vec::new();
    let mut outcome = Outcome::Done;
    for case in &manifest.cases {
        match evaluate(case, &segmenter, arguments.mode, manifest.tolerance_mm) {
            Ok(found) => scores.extend(found),
            Err(error) => {
                outcome = Outcome::Failed;
                tracing::error!("case {}: {error:#}", case.name);
            }
        }
    }
    let table = if arguments.details { details(&scores) } else { means(&scores) };
    output::print(&table.render(arguments.format)?)?;
    Ok(outcome)
}

fn evaluate(
    case: &Case,
    segmenter: &Segmenter,
    mode: Mode,
    tolerance_mm: f64,
) -> Result<Vec<Score>> {
    let files = find_files(std::slice::from_ref(&case.series))?;
    let series = series_of(dicom_io::series::read_stacks(&files));
    let mut volumes = series.iter().filter_map(|source| source.volume());
    let Some(stack) = volumes.next() else {
        let reasons: Vec<String> = series.iter().flat_map(SeriesSource::reasons).collect();
        anyhow::bail!("{} holds no volume: {}", case.series.display(), reasons.join("; "));
    };
    if let Some(other) = volumes.next() {
        anyhow::bail!(
            "{} holds more than one series: {} and {}",
            case.series.display(),
            stack.series_instance_uid,
            other.series_instance_uid
        );
    }
    let truths = case.reference.read(stack)?;
    let prompts: Vec<String> = truths.iter().map(|(label, _)| prompt_of(label)).collect();
    let prompts: Vec<&str> = prompts.iter().map(String::as_str).collect();
    let progress = Progress::start(&stack.series_instance_uid);
    progress.enter("load");
    let volume = stack.load()?;
    progress.enter("infer");
    let request = SegmentRequest {
        volume: &volume,
        modality: case.modality.unwrap_or(stack.modality),
        orientation: case.orientation,
        prompts: &prompts,
        mode,
    };
    let masks = segmenter.segment(&request, &progress.control())?.masks;
    progress.enter("measure");
    let measure = |found: &Mask, truth: &Mask| {
        Agreement::measure(found, truth, &stack.geometry, tolerance_mm)
    };
    Ok(prompts
        .iter()
        .zip(&masks)
        .zip(&truths)
        .map(|((prompt, found), (_, truth))| Score {
            case: case.name.clone(),
            prompt: (*prompt).to_owned(),
            agreement: measure(found, truth),
        })
        .collect())
}

/// The prompt that a label means: a synonym or a code of the vocabulary names one, any other text is its own.
fn prompt_of(label: &str) -> String {
    match resolve(label).as_deref() {
        Ok([target]) => target.prompt.clone(),
        _ => label.to_lowercase(),
    }
}

fn details(scores: &[Score]) -> Table {
    let mut table = Table::new(&["case", "class", "region", "dice", "nsd"]);
    for score in scores {
        table.push(vec![
            json!(score.case),
            json!(score.prompt),
            json!(region(&score.prompt)),
            rounded(score.agreement.dice),
            rounded(score.agreement.nsd),
        ]);
    }
    table
}

/// Means over the cases of each class, over the classes of each region, and over all classes: as the paper's tables
/// have them, a class that many cases show weighs no more than another.
fn means(scores: &[Score]) -> Table {
    let mut classes: BTreeMap<&str, Vec<Agreement>> = BTreeMap::new();
    for score in scores {
        classes.entry(&score.prompt).or_default().push(score.agreement);
    }
    let classes: Vec<(&str, usize, Agreement)> = classes
        .into_iter()
        .map(|(prompt, agreements)| (prompt, agreements.len(), mean(&agreements)))
        .collect();
    let mut regions: BTreeMap<&str, Vec<Agreement>> = BTreeMap::new();
    for (prompt, _, agreement) in &classes {
        regions.entry(region(prompt)).or_default().push(*agreement);
    }
    let mut table = Table::new(&["of", "name", "region", "cases", "classes", "dice", "nsd"]);
    let mut row =
        |of: &str, name: &str, region: Value, counts: [Value; 2], agreement: Agreement| {
            let [cases, classes] = counts;
            let [dice, nsd] = [agreement.dice, agreement.nsd].map(rounded);
            table.push(vec![json!(of), json!(name), region, cases, classes, dice, nsd]);
        };
    for (prompt, cases, agreement) in &classes {
        row("class", prompt, json!(region(prompt)), [json!(cases), Value::Null], *agreement);
    }
    for (name, agreements) in &regions {
        row("region", name, Value::Null, [Value::Null, json!(agreements.len())], mean(agreements));
    }
    if !classes.is_empty() {
        let all: Vec<Agreement> = classes.iter().map(|(_, _, agreement)| *agreement).collect();
        row("all", "all", Value::Null, [Value::Null, json!(all.len())], mean(&all));
    }
    table
}

fn mean(agreements: &[Agreement]) -> Agreement {
    let over = |value: fn(&Agreement) -> f64| {
        agreements.iter().map(value).sum::<f64>() / agreements.len() as f64
    };
    Agreement { dice: over(|a| a.dice), nsd: over(|a| a.nsd) }
}

fn region(prompt: &str) -> &'static str {
    Vocabulary::get().class(prompt).map_or(NO_REGION, |class| &class.region)
}

fn rounded(value: f64) -> Value {
    json!((value * 1e4).round() / 1e4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_weigh_classes_alike_whatever_the_number_of_cases() {
        let score = |case: &str, prompt: &str, dice: f64| Score {
            case: case.to_owned(),
            prompt: prompt.to_owned(),
            agreement: Agreement { dice, nsd: dice / 2.0 },
        };
        let scores = [
            score("a", "liver", 0.8),
            score("b", "liver", 1.0),
            score("c", "liver", 0.9),
            score("a", "spleen", 0.5),
            score("a", "something of one's own", 0.1),
        ];

        let table = means(&scores).render(Format::Csv).unwrap();

        insta::assert_snapshot!(table, @r"
        of,name,region,cases,classes,dice,nsd
        class,liver,abdomen,3,,0.9,0.45
        class,something of one's own,other,1,,0.1,0.05
        class,spleen,abdomen,1,,0.5,0.25
        region,abdomen,,,2,0.7,0.35
        region,other,,,1,0.1,0.05
        all,all,,,3,0.5,0.25
        ");
    }
}
