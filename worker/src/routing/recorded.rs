//! The facts of a series as they are kept, so that rules can be tried on the past: one line of JSON each.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use dicom_io::Attribute;
use dicom_types::{AeTitle, SeriesInstanceUid, StudyInstanceUid};
use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde::{Deserialize, Serialize};

use super::{Candidate, GeometryFacts, SeriesFacts};
use crate::protocol::Protocol;

/// Attributes that are kept of every series. None of them names a patient.
pub(crate) const KEPT: &[&str] = &[
    "AcquisitionContrast",
    "AcquisitionDate",
    "AcquisitionTime",
    "AcquisitionType",
    "AnatomicalOrientationType",
    "BodyPartExamined",
    "Columns",
    "ContrastBolusAgent",
    "ContrastBolusAgentPhase",
    "ContrastBolusRoute",
    "ContrastBolusTotalDose",
    "ContrastBolusVolume",
    "ConvolutionKernel",
    "DiffusionBValue",
    "EchoTime",
    "EchoTrainLength",
    "ExposureTime",
    "FilterType",
    "FlipAngle",
    "GantryDetectorTilt",
    "ImageOrientationPatient",
    "ImageType",
    "InstitutionalDepartmentName",
    "InstitutionName",
    "InversionTime",
    "KVP",
    "Laterality",
    "LossyImageCompression",
    "MagneticFieldStrength",
    "Manufacturer",
    "ManufacturerModelName",
    "Modality",
    "MRAcquisitionType",
    "NumberOfFrames",
    "PatientAge",
    "PatientPosition",
    "PatientSex",
    "PhotometricInterpretation",
    "PixelSpacing",
    "ProtocolName",
    "ReceiveCoilName",
    "ReconstructionDiameter",
    "RepetitionTime",
    "RequestedProcedureDescription",
    "Rows",
    "SamplesPerPixel",
    "ScanningSequence",
    "ScanOptions",
    "SequenceName",
    "SequenceVariant",
    "SeriesDate",
    "SeriesDescription",
    "SeriesNumber",
    "SeriesTime",
    "SliceThickness",
    "SoftwareVersions",
    "SOPClassUID",
    "SpacingBetweenSlices",
    "SpiralPitchFactor",
    "StationName",
    "StudyDate",
    "StudyDescription",
    "StudyTime",
    "TimezoneOffsetFromUTC",
    "XRayTubeCurrent",
];

/// Attributes that rules may ask for and that are never kept: who the patient is, and who was involved.
fn is_identifying(attribute: &Attribute) -> bool {
    let keyword = attribute.keyword();
    let is_known = matches!(keyword, "PatientSize" | "PatientWeight") || KEPT.contains(&keyword);
    let of_patient = attribute.tag().0 == 0x0010;
    let words =
        ["Name", "ID", "Accession", "Address", "Physician", "Comments", "Identification", "Order"];
    let names_someone = words.iter().any(|word| keyword.contains(word));
    !is_known && (of_patient || names_someone)
}

/// A series with its facts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RecordedSeries {
    /// Its study.
    pub(crate) study_instance_uid: StudyInstanceUid,
    /// The series.
    pub(crate) series_instance_uid: SeriesInstanceUid,
    /// What routing knew of it.
    pub(crate) facts: SeriesFacts,
    /// Attributes beyond [`KEPT`] that were asked for, with or without a value.
    pub(crate) asked: Vec<String>,
}

impl RecordedSeries {
    /// The series as one that a protocol may take.
    pub(crate) fn candidate(&self) -> Candidate<'_> {
        Candidate { series_instance_uid: &self.series_instance_uid, facts: &self.facts }
    }
}

/// Every attribute that must be read for `protocols`, and those that are kept anyway; each once.
pub(crate) fn attributes_to_read(protocols: &[Protocol]) -> Vec<Attribute> {
    let kept = KEPT.iter().filter_map(|keyword| Attribute::by_keyword(keyword));
    let asked = protocols.iter().flat_map(Protocol::attributes);
    let by_keyword: BTreeMap<&str, Attribute> =
        kept.chain(asked).map(|attribute| (attribute.keyword(), attribute)).collect();
    by_keyword.into_values().collect()
}

#[derive(Serialize)]
struct Line<'a> {
    study: &'a str,
    series: &'a str,
    instances: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    calling: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    called: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    asked: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    geometry: Option<GeometryFacts>,
    values: BTreeMap<&'a str, OneOrMore<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum OneOrMore<'a> {
    One(&'a str),
    More(&'a [String]),
}

/// The line that is kept of a series, for rules that asked for the attributes of `protocols`.
pub(crate) fn line(
    study_instance_uid: &StudyInstanceUid,
    series_instance_uid: &SeriesInstanceUid,
    facts: &SeriesFacts,
    protocols: &[Protocol],
) -> String {
    let asked: BTreeMap<&str, Attribute> = protocols
        .iter()
        .flat_map(Protocol::attributes)
        .filter(|attribute| !KEPT.contains(&attribute.keyword()) && !is_identifying(attribute))
        .map(|attribute| (attribute.keyword(), attribute))
        .collect();
    let is_kept = |keyword: &str| KEPT.contains(&keyword) || asked.contains_key(keyword);
    let values = facts.values.iter().filter(|(keyword, _)| is_kept(keyword));
    let line = Line {
        study: study_instance_uid.as_str(),
        series: series_instance_uid.as_str(),
        instances: facts.instances,
        calling: facts.calling_ae_title.as_ref().map(AeTitle::as_str),
        called: facts.called_ae_title.as_ref().map(AeTitle::as_str),
        asked: asked.keys().copied().collect(),
        geometry: facts.geometry,
        values: values
            .map(|(keyword, values)| {
                let values = match values.as_slice() {
                    [one] => OneOrMore::One(one),
                    more => OneOrMore::More(more),
                };
                (*keyword, values)
            })
            .collect(),
    };
    serde_json::to_string(&line).expect("text, numbers and lists are JSON")
}

/// Keywords by their length: a line names many, and hardly two of those that are wanted are equally long.
#[derive(Debug)]
struct Keywords(Vec<Vec<&'static str>>);

impl Keywords {
    fn new(keywords: impl Iterator<Item = &'static str>) -> Self {
        let mut by_length: Vec<Vec<&'static str>> = Vec::new();
        for keyword in keywords {
            if by_length.len() <= keyword.len() {
                by_length.resize(keyword.len() + 1, Vec::new());
            }
            by_length[keyword.len()].push(keyword);
        }
        Self(by_length)
    }

    fn find(&self, text: &str) -> Option<&'static str> {
        self.0.get(text.len())?.iter().find(|keyword| **keyword == text).copied()
    }
}

/// Reads lines back, and of them the attributes that some protocols need.
#[derive(Debug)]
pub(crate) struct LineReader {
    wanted: Keywords,
    /// Wanted attributes that are not in every line.
    uncommon: Vec<&'static str>,
    /// Wanted attributes that are in no line.
    never: Vec<&'static str>,
}

impl LineReader {
    /// A reader for the attributes that `protocols` look at.
    pub(crate) fn new(protocols: &[Protocol]) -> Self {
        let wanted: HashMap<&'static str, Attribute> = protocols
            .iter()
            .flat_map(Protocol::attributes)
            .map(|attribute| (attribute.keyword(), attribute))
            .collect();
        let other = wanted.values().filter(|attribute| !KEPT.contains(&attribute.keyword()));
        let (never, uncommon): (Vec<_>, Vec<_>) = other.partition(|a| is_identifying(a));
        let keywords = |attributes: Vec<&Attribute>| {
            let mut keywords: Vec<_> = attributes.into_iter().map(Attribute::keyword).collect();
            keywords.sort_unstable();
            keywords
        };
        let (uncommon, never) = (keywords(uncommon), keywords(never));
        let wanted = Keywords::new(wanted.into_keys());
        Self { wanted, uncommon, never }
    }

    /// Wanted attributes that are never kept: rules about them cannot be tried on the past.
    pub(crate) fn never_kept(&self) -> &[&'static str] {
        &self.never
    }

    /// Whether the rules ask the series for something that was not read when it came.
    pub(crate) fn lacks_something(&self, series: &RecordedSeries) -> bool {
        !self.never.is_empty()
            || self
                .uncommon
                .iter()
                .any(|keyword| !series.asked.iter().any(|asked| asked == keyword))
    }

    /// Reads one line.
    ///
    /// # Errors
    /// When it is not one of ours.
    pub(crate) fn read(&self, line: &str) -> Result<RecordedSeries, serde_json::Error> {
        let mut deserializer = serde_json::Deserializer::from_str(line);
        let read = OfLine(&self.wanted).deserialize(&mut deserializer)?;
        deserializer.end()?;
        Ok(read)
    }
}

/// Reads the object of one line.
struct OfLine<'w>(&'w Keywords);

impl<'de> DeserializeSeed<'de> for OfLine<'_> {
    type Value = RecordedSeries;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for OfLine<'_> {
    type Value = RecordedSeries;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the record of a series")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut study: Option<&str> = None;
        let mut series: Option<&str> = None;
        let mut asked = Vec::new();
        let mut facts = SeriesFacts::default();
        while let Some(key) = map.next_key::<&str>()? {
            match key {
                "study" => study = Some(map.next_value()?),
                "series" => series = Some(map.next_value()?),
                "instances" => facts.instances = map.next_value()?,
                "calling" => facts.calling_ae_title = map.next_value::<Title>()?.0,
                "called" => facts.called_ae_title = map.next_value::<Title>()?.0,
                "asked" => asked = map.next_value()?,
                "geometry" => facts.geometry = map.next_value()?,
                "values" => facts.values = map.next_value_seed(Wanted(self.0))?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        let uid = |name| A::Error::missing_field(name);
        Ok(RecordedSeries {
            study_instance_uid: study.and_then(|s| s.parse().ok()).ok_or_else(|| uid("study"))?,
            series_instance_uid: series
                .and_then(|s| s.parse().ok())
                .ok_or_else(|| uid("series"))?,
            facts,
            asked,
        })
    }
}

/// An AE title; nothing where the text is none.
struct Title(Option<AeTitle>);

impl<'de> Deserialize<'de> for Title {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'_, str>::deserialize(deserializer)?;
        Ok(Self(text.parse().ok()))
    }
}

/// Takes the wanted attributes out of an object and passes over the rest.
struct Wanted<'w>(&'w Keywords);

impl<'de> DeserializeSeed<'de> for Wanted<'_> {
    type Value = BTreeMap<&'static str, Vec<String>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Wanted<'_> {
    type Value = BTreeMap<&'static str, Vec<String>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of attributes")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut values = BTreeMap::new();
        while let Some(keyword) = map.next_key::<&str>()? {
            if let Some(keyword) = self.0.find(keyword) {
                values.insert(keyword, map.next_value::<Texts>()?.0);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(values)
    }
}

/// One text, or a list of them.
struct Texts(Vec<String>);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OfTexts;

        impl<'de> Visitor<'de> for OfTexts {
            type Value = Texts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a list of texts")
            }

            fn visit_str<E>(self, text: &str) -> Result<Texts, E> {
                Ok(Texts(vec![text.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Texts, A::Error> {
                let mut texts = Vec::new();
                while let Some(text) = list.next_element()? {
                    texts.push(text);
                }
                Ok(Texts(texts))
            }
        }

        deserializer.deserialize_any(OfTexts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kept_attribute_is_in_the_dictionary_and_names_no_patient() {
        for keyword in KEPT {
            let attribute = Attribute::by_keyword(keyword).unwrap();
            assert_eq!(attribute.keyword(), *keyword);
            assert!(!is_identifying(&attribute), "{keyword}");
        }
        for keyword in
            ["PatientName", "PatientID", "AccessionNumber", "PatientBirthDate", "StudyID"]
        {
            assert!(is_identifying(&Attribute::by_keyword(keyword).unwrap()), "{keyword}");
        }
    }
}
