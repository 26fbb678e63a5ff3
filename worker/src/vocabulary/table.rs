//! Reads the built-in data.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result, bail};
use dicom_io::coded_concept::CodedConcept;
use dicom_io::seg::SegmentConcept;
use dicom_types::Modality;
use serde::Deserialize;

use super::{Class, TargetSet, Vocabulary, normalized};

const CLASSES: &str = include_str!("../../vocabulary/classes.csv");
const SYNONYMS: &str = include_str!("../../vocabulary/synonyms.csv");
const SETS: &str = include_str!("../../vocabulary/sets.toml");

/// One line of `classes.csv`; the README beside it explains the columns.
#[derive(Deserialize)]
struct Row {
    name: String,
    modality: String,
    property_category_code: String,
    property_category_scheme: String,
    property_category_meaning: String,
    property_type_code: String,
    property_type_scheme: String,
    property_type_meaning: String,
    modifier_code: String,
    modifier_scheme: String,
    modifier_meaning: String,
    anatomic_region_code: String,
    anatomic_region_scheme: String,
    anatomic_region_meaning: String,
    anatomic_region_modifier_code: String,
    anatomic_region_modifier_scheme: String,
    anatomic_region_modifier_meaning: String,
    alt_type_code: String,
    alt_type_scheme: String,
    alt_type_meaning: String,
    tier: String,
    confidence: String,
    lesion: String,
    rgb: String,
    region: String,
}

#[derive(Deserialize)]
struct Synonym {
    synonym: String,
    name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSet {
    title: String,
    modality: Vec<String>,
    orientation: String,
    targets: Vec<String>,
    #[serde(default)]
    lesions: Vec<String>,
    #[serde(default)]
    male: Vec<String>,
    #[serde(default)]
    female: Vec<String>,
}

/// Reads classes, synonyms and sets.
pub(super) fn read() -> Result<Vocabulary> {
    let mut classes = Vec::new();
    let mut by_name = HashMap::new();
    for row in csv::Reader::from_reader(CLASSES.as_bytes()).deserialize() {
        let row: Row = row.context("a line of classes.csv")?;
        let name = row.name.clone();
        let class = class(row).with_context(|| format!("class {name}"))?;
        let is_new = by_name.insert(normalized(&name), classes.len()).is_none();
        if !is_new {
            bail!("class {name} is listed twice");
        }
        classes.push(class);
    }
    for row in csv::Reader::from_reader(SYNONYMS.as_bytes()).deserialize() {
        let Synonym { synonym, name } = row.context("a line of synonyms.csv")?;
        let index = *by_name.get(&normalized(&name)).with_context(|| format!("class {name}"))?;
        if by_name.insert(normalized(&synonym), index).is_some() {
            bail!("synonym {synonym} is a prompt or another synonym");
        }
    }
    let raw: BTreeMap<String, RawSet> = toml::from_str(SETS).context("sets.toml")?;
    let sets = raw.into_iter().map(|(name, raw)| Ok((name, set(raw)?))).collect::<Result<_>>()?;
    Ok(Vocabulary { classes, by_name, sets })
}

fn class(row: Row) -> Result<Class> {
    let is_cautious = row.tier == "C";
    let own = code(&row.property_type_code, &row.property_type_scheme, &row.property_type_meaning)?;
    let alternative = code(&row.alt_type_code, &row.alt_type_scheme, &row.alt_type_meaning)?;
    let mut modifier = code(&row.modifier_code, &row.modifier_scheme, &row.modifier_meaning)?;
    if is_cautious && modifier.is_none() {
        // The narrower type named its side, the wider one does not.
        modifier = side(&row.name)?;
    }
    let category = code(
        &row.property_category_code,
        &row.property_category_scheme,
        &row.property_category_meaning,
    )?;
    let concept = SegmentConcept {
        property_category: category.context("no category")?,
        property_type: if is_cautious { alternative } else { own }.context("no type")?,
        property_type_modifier: modifier,
        anatomic_region: code(
            &row.anatomic_region_code,
            &row.anatomic_region_scheme,
            &row.anatomic_region_meaning,
        )?,
        anatomic_region_modifier: code(
            &row.anatomic_region_modifier_code,
            &row.anatomic_region_modifier_scheme,
            &row.anatomic_region_modifier_meaning,
        )?,
    };
    let modalities = row.modality.split('|').map(trained_modality).collect::<Result<_>>()?;
    let rgb = super::class::parse_rgb(&row.rgb).context("colour")?;
    let exact = row.confidence == "exact" && !is_cautious;
    let lesion = row.lesion == "yes";
    Ok(Class { name: row.name, modalities, concept, exact, rgb, lesion, region: row.region })
}

fn code(value: &str, scheme: &str, meaning: &str) -> Result<Option<CodedConcept>> {
    if value.is_empty() {
        return Ok(None);
    }
    Ok(Some(CodedConcept::new(value, scheme, meaning)?))
}

fn side(name: &str) -> Result<Option<CodedConcept>> {
    // CID 244
    match name.split_once(' ') {
        Some(("left", _)) => code("7771000", "SCT", "Left"),
        Some(("right", _)) => code("24028007", "SCT", "Right"),
        _ => Ok(None),
    }
}

fn trained_modality(word: &str) -> Result<Modality> {
    match word {
        "ct" => Ok(Modality::Ct),
        "mr" => Ok(Modality::Mr),
        "pet" => Ok(Modality::Pt),
        _ => bail!("modality {word}"),
    }
}

fn set(raw: RawSet) -> Result<TargetSet> {
    let modality = raw.modality.iter().map(|m| Ok(m.parse()?)).collect::<Result<_>>()?;
    Ok(TargetSet {
        title: raw.title,
        modality,
        orientation: raw.orientation,
        targets: raw.targets,
        lesions: raw.lesions,
        male: raw.male,
        female: raw.female,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_built_in_data() {
        let vocabulary = read().unwrap();

        assert_eq!(vocabulary.classes.len(), 451);
        assert_eq!(vocabulary.sets.len(), 14);
    }

    #[test]
    fn a_code_that_one_rough_table_holds_gives_way_to_a_wider_one() {
        let vocabulary = read().unwrap();

        let class = vocabulary.class("left anterior eyeball").unwrap();
        let lobe = &vocabulary.class("left lobe of liver").unwrap().concept;

        assert_eq!(class.concept.property_type.meaning(), "Eyeball");
        assert!(!class.exact);
        assert_eq!(lobe.property_type.meaning(), "Liver");
        assert_eq!(lobe.property_type_modifier.as_ref().unwrap().meaning(), "Left");
    }
}
