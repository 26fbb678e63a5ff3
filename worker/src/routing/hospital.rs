//! The protocols of a large hospital, tried on headers as scanners of many vendors write them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use dicom_io::Attribute;
use dicom_types::{SeriesInstanceUid, StudyInstanceUid};

use super::facts::Plane;
use super::{
    Candidate, Change, GeometryFacts, LineReader, Outcome, Replay, SeriesFacts, decide_study, line,
};
use crate::config::{Packs, load};
use crate::protocol::Protocol;

/// Vendor, model, kernels soft and sharp.
const CT_SCANNERS: [(&str, &str, &str, &str); 5] = [
    ("SIEMENS", "SOMATOM Force", "Br40d", "Bl64d"),
    ("Siemens Healthineers", "NAEOTOM Alpha", "Qr40f", "Br68f"),
    ("GE MEDICAL SYSTEMS", "Revolution CT", "STANDARD", "LUNG"),
    ("Philips", "IQon - Spectral CT", "B", "YC"),
    ("Canon Medical Systems", "Aquilion ONE", "FC08", "FC52"),
];
/// Vendor, model, words for a T1, a T2 and a diffusion series.
const MR_SCANNERS: [(&str, &str, &str, &str, &str); 3] = [
    ("SIEMENS", "MAGNETOM Prisma", "t1_mprage_sag_p2_iso", "t2_tse_tra", "ep2d_dwi_b1000"),
    ("GE MEDICAL SYSTEMS", "SIGNA Premier", "Sag T1 BRAVO", "Ax T2 FSE", "Ax DWI b800"),
    ("Philips", "Ingenia Elition X", "3D T1 TFE", "T2W TSE", "DWI 3b ADC"),
];
const CT_PARTS: [(&str, &str, f64); 6] = [
    ("HEAD", "Schaedel", 160.0),
    ("CHEST", "Thorax", 330.0),
    ("ABDOMEN", "Abdomen", 450.0),
    ("PELVIS", "Becken", 280.0),
    ("WHOLEBODY", "Polytrauma", 1400.0),
    ("CSPINE", "HWS", 200.0),
];
const MR_PARTS: [&str; 6] = ["BRAIN", "LSPINE", "ABDOMEN", "PROSTATE", "KNEE", "HEART"];

struct Header {
    study: StudyInstanceUid,
    series: SeriesInstanceUid,
    facts: SeriesFacts,
}

/// Three hundred series in studies of five, the same every time.
fn headers() -> Vec<Header> {
    (0..300).map(header).collect()
}

fn header(number: usize) -> Header {
    let (study, member) = (number / 5, number % 5);
    let facts = if study % 3 == 2 { mr(study, member) } else { ct(study, member) };
    Header {
        study: format!("1.2.{study}").parse().unwrap(),
        series: format!("1.2.{study}.{member}").parse().unwrap(),
        facts,
    }
}

fn ct(study: usize, member: usize) -> SeriesFacts {
    // Every third study is an MR.
    let index = study / 3 * 2 + study % 3;
    let (vendor, model, soft, sharp) = CT_SCANNERS[index % 5];
    let (part, words, coverage_mm) = CT_PARTS[index % 6];
    let phase = ["nativ", "art.", "ven.", "ven.", "ven. MPR cor"][member];
    let kernel = if member == 3 { sharp } else { soft };
    let spacing = [5.0, 1.0, 1.5, 1.0, 3.0][member];
    let is_emergency = study.is_multiple_of(4);
    let (thickness, series_number) = (spacing.to_string(), (member + 2).to_string());
    let description = format!("{words} {phase} {thickness} {kernel}");
    let time = format!("{:02}{:02}00", study % 24, 10 + member);
    let age = format!("{:03}Y", 5 + study);
    let mut values = vec![
        ("Modality", vec!["CT"]),
        ("Manufacturer", vec![vendor]),
        ("ManufacturerModelName", vec![model]),
        ("BodyPartExamined", vec![part]),
        ("ConvolutionKernel", vec![kernel]),
        ("SliceThickness", vec![&thickness]),
        ("SeriesNumber", vec![&series_number]),
        ("SeriesDescription", vec![&description]),
        ("StudyDescription", vec![words]),
        ("PatientSex", vec![if study.is_multiple_of(2) { "M" } else { "F" }]),
        ("PatientAge", vec![&age]),
        ("AcquisitionTime", vec![&time]),
        ("AcquisitionDate", vec!["20260102"]),
    ];
    values.push(if member == 4 {
        ("ImageType", vec!["DERIVED", "SECONDARY", "MPR"])
    } else {
        ("ImageType", vec!["ORIGINAL", "PRIMARY", "AXIAL"])
    });
    if member > 0 {
        values.push(("ContrastBolusAgent", vec!["Iomeron 400"]));
    }
    if study.is_multiple_of(7) {
        values.push(("InstitutionalDepartmentName", vec!["Onkologie"]));
    }
    let plane = if member == 4 { Plane::Coronal } else { Plane::Axial };
    let mut facts = facts(&values, geometry(coverage_mm, spacing, 0.8, plane));
    facts.calling_ae_title = Some((if is_emergency { "CT_ER1" } else { "CT_2" }).parse().unwrap());
    let called = if study.is_multiple_of(11) { "PROSECTOR_RT" } else { "PROSECTOR" };
    facts.called_ae_title = Some(called.parse().unwrap());
    facts
}

fn mr(study: usize, member: usize) -> SeriesFacts {
    let index = study / 3;
    let (vendor, model, t1, t2, diffusion) = MR_SCANNERS[(index + index / 6) % 3];
    let part = MR_PARTS[index % 6];
    let is_pet = study % 10 == 5 && member == 4;
    let description = [t1, t2, diffusion, t2, t1][member];
    let (spacing, plane) = match (part, member) {
        ("LSPINE" | "KNEE", _) => (4.0, Plane::Sagittal),
        ("BRAIN", 0) => (1.0, Plane::Sagittal),
        (_, 3) => (4.0, Plane::Coronal),
        _ => (5.0, Plane::Axial),
    };
    let (thickness, series_number) = (spacing.to_string(), (member + 3).to_string());
    let is_t1 = matches!(member, 0 | 4);
    let values = vec![
        ("Modality", vec![if is_pet { "PT" } else { "MR" }]),
        ("Manufacturer", vec![vendor]),
        ("ManufacturerModelName", vec![model]),
        ("BodyPartExamined", vec![part]),
        ("SliceThickness", vec![&thickness]),
        ("SeriesNumber", vec![&series_number]),
        ("SeriesDescription", vec![description]),
        ("ImageType", vec!["ORIGINAL", "PRIMARY", "M", "NORM"]),
        ("MRAcquisitionType", vec![if member == 0 { "3D" } else { "2D" }]),
        ("EchoTime", vec![if is_t1 { "2.98" } else { "95" }]),
        ("RepetitionTime", vec![if is_t1 { "600" } else { "4500" }]),
        ("MagneticFieldStrength", vec![if study.is_multiple_of(2) { "3" } else { "1.5" }]),
        ("PatientSex", vec![if study.is_multiple_of(4) { "F" } else { "M" }]),
        ("AcquisitionTime", vec!["143000"]),
    ];
    let coverage_mm = if is_pet { 900.0 } else { 180.0 };
    let mut facts = facts(&values, geometry(coverage_mm, spacing, 0.9, plane));
    facts.calling_ae_title = Some("MR_1".parse().unwrap());
    facts
}

fn geometry(coverage_mm: f64, spacing: f64, pixel: f64, plane: Plane) -> GeometryFacts {
    let slices = (coverage_mm / spacing) as usize;
    GeometryFacts {
        slices,
        slice_spacing_mm: spacing,
        pixel_spacing_mm: pixel,
        coverage_mm: slices as f64 * spacing,
        plane,
        volume_l: (512.0 * pixel).powi(2) * coverage_mm / 1e6,
    }
}

fn facts(values: &[(&str, Vec<&str>)], geometry: GeometryFacts) -> SeriesFacts {
    let mut facts = SeriesFacts::new(geometry.slices);
    for (keyword, values) in values {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        facts.set(&Attribute::by_keyword(keyword).unwrap(), values);
    }
    facts.geometry = Some(geometry);
    facts
}

fn hospital() -> Vec<Protocol> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ops/config/hospital/prosector.toml");
    load(Some(&file), Packs::NotNeeded).unwrap().config.protocols
}

#[test]
fn every_header_of_a_hospital_is_taken_or_refused_with_a_reason() {
    let protocols = hospital();
    let headers = headers();
    let mut table: BTreeMap<&str, BTreeMap<String, u32>> = BTreeMap::new();
    for study in headers.chunks(5) {
        for (header, decisions) in study.iter().zip(decide_study(&protocols, &candidates(study))) {
            assert_eq!(decisions.len(), protocols.len());
            for (protocol, decision) in protocols.iter().zip(decisions) {
                let word = match decision.outcome {
                    Outcome::Matched => "taken".to_owned(),
                    Outcome::Chosen(reason) => {
                        assert!(
                            reason.contains("score") || reason.contains("acquisition"),
                            "{reason}"
                        );
                        "chosen".to_owned()
                    }
                    Outcome::Candidate(reason) => panic!("{}: {reason}", header.series),
                    Outcome::NotMatched(reason) => {
                        assert!(!reason.is_empty());
                        let is_other = reason.contains("is chosen");
                        if is_other { "another one chosen".to_owned() } else { kind(&reason) }
                    }
                };
                *table.entry(&protocol.name).or_default().entry(word).or_default() += 1;
            }
        }
    }
    let mut text = String::new();
    for (protocol, words) in &table {
        let _ = writeln!(text, "{protocol}");
        for (word, count) in words {
            let _ = writeln!(text, "    {count:3} {word}");
        }
    }
    let taken = |name: &str| {
        ["taken", "chosen"].iter().filter_map(|word| table[name].get(*word)).sum::<u32>()
    };
    for protocol in &protocols {
        let name = protocol.name.as_str();
        assert!(taken(name) > 0, "{name} takes nothing:\n{text}");
        assert_eq!(table[name].values().sum::<u32>(), 300, "{name}");
    }
}

/// The fact that a reason is about.
fn kind(reason: &str) -> String {
    let end = [" is ", ": "].iter().filter_map(|word| reason.find(word)).min();
    end.map_or(reason, |end| &reason[..end]).to_owned()
}

fn candidates(study: &[Header]) -> Vec<Candidate<'_>> {
    study
        .iter()
        .map(|header| Candidate { series_instance_uid: &header.series, facts: &header.facts })
        .collect()
}

#[test]
fn a_replay_of_the_recorded_headers_takes_what_the_headers_themselves_are_taken_for() {
    let protocols: Arc<[Protocol]> = hospital().into();
    let headers = headers();
    let reader = LineReader::new(&protocols);
    let mut lines = String::new();
    let mut taken: BTreeMap<(String, Change), u64> = BTreeMap::new();
    for study in headers.chunks(5) {
        for (header, decisions) in study.iter().zip(decide_study(&protocols, &candidates(study))) {
            let line = line(&header.study, &header.series, &header.facts, &protocols);
            assert!(!reader.lacks_something(&reader.read(&line).unwrap()));
            let _ = writeln!(lines, "{line}\t{{}}");
            for decision in decisions {
                if matches!(decision.outcome, Outcome::Matched | Outcome::Chosen(_)) {
                    *taken.entry((decision.protocol, Change::Added)).or_default() += 1;
                }
            }
        }
    }

    let tried = Replay::new(protocols, false).try_lines(&lines).unwrap();

    let amounts = tried.amounts.into_iter();
    let found: BTreeMap<(String, Change), u64> =
        amounts.map(|(key, amount)| (key, amount.series)).collect();
    assert_eq!((tried.series, tried.incomplete), (300, 0));
    assert_eq!(found, taken);
}
