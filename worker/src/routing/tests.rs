use std::fmt::Write as _;

use dicom_types::GridGeometry;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::facts::Plane;
use super::*;
use crate::config::{FieldPath, Problems};
use dicom_io::Attribute;

fn condition(table: &Value) -> Condition {
    let mut problems = Problems::default();
    let table = table.as_object().unwrap();
    let condition = Condition::read(table, &FieldPath::root(), &mut problems);
    condition.unwrap_or_else(|| panic!("{:?}", problems.into_sorted().0))
}

fn facts(values: &[(&str, &[&str])]) -> SeriesFacts {
    let mut facts = SeriesFacts::new(40);
    for (keyword, values) in values {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        facts.set(&Attribute::by_keyword(keyword).unwrap(), values);
    }
    facts.calling_ae_title = Some("CT1".parse().unwrap());
    facts.geometry = Some(GeometryFacts {
        slices: 40,
        slice_spacing_mm: 2.5,
        pixel_spacing_mm: 0.8,
        coverage_mm: 100.0,
        plane: Plane::Axial,
        volume_l: 12.0,
    });
    facts
}

fn chest_ct() -> SeriesFacts {
    facts(&[
        ("Modality", &["CT"]),
        ("BodyPartExamined", &["CHEST"]),
        ("ImageType", &["ORIGINAL", "PRIMARY", "AXIAL"]),
        ("SeriesDescription", &["Doe John thin chest"]),
        ("PatientAge", &["045Y"]),
        ("PatientSex", &["M"]),
        ("SliceThickness", &["2.50"]),
        ("StudyTime", &["093015.250"]),
    ])
}

#[test]
fn each_form_of_condition_holds_where_it_should() {
    let facts = chest_ct();
    let holding = [
        json!({}),
        json!({ "modality": "CT" }),
        json!({ "Modality": "ct" }),
        json!({ "body_part_examined": ["ABDOMEN", "CHEST"] }),
        json!({ "image_type": "AXIAL" }),
        json!({ "image_type": { "not": "LOCALIZER" } }),
        json!({ "image_type": { "all": ["ORIGINAL", "AXIAL"] } }),
        json!({ "series_description": "*CHEST*" }),
        json!({ "series_description": { "glob": "*thin*" } }),
        json!({ "series_description": { "regex": "ch.st$" } }),
        json!({ "slice_thickness": 2.5 }),
        json!({ "slice_thickness": { "max": 3 } }),
        json!({ "slice_thickness": ["5", 2.5] }),
        json!({ "patient_age": { "min": 18, "max": 70 } }),
        json!({ "patient_age": "045Y" }),
        json!({ "study_time": { "min": "0800", "max": "0930" } }),
        json!({ "contrast_bolus_agent": { "present": false } }),
        json!({ "contrast_bolus_agent": { "not": "*" } }),
        json!({ "instances": { "min": 20 } }),
        json!({ "instances": 40, "slices": { "max": 40 } }),
        json!({ "plane": ["axial", "oblique"], "coverage_mm": { "min": 100 } }),
        json!({ "calling_ae_title": "CT*" }),
        json!({ "not": { "modality": "MR" } }),
        json!({ "not": [{ "modality": "MR" }, { "modality": "PT" }] }),
        json!({ "any": [{ "modality": "MR" }, { "body_part_examined": "CHEST" }] }),
        json!({ "all": [{ "modality": "CT" }, { "pixel_spacing_mm": { "max": 1.0 } }] }),
    ];

    for table in holding {
        assert_eq!(condition(&table).check(&facts), Ok(()), "{table}");
    }
}

#[test]
fn a_condition_that_does_not_hold_says_why() {
    let facts = chest_ct();
    let failing = [
        json!({ "modality": "MR" }),
        json!({ "modality": ["MR", "PT"], "body_part_examined": "HEAD" }),
        json!({ "image_type": { "not": "AXIAL" } }),
        json!({ "series_description": "*abdomen*" }),
        json!({ "series_description": { "regex": "^T1" } }),
        json!({ "contrast_bolus_agent": { "present": true } }),
        json!({ "protocol_name": "Abdomen" }),
        json!({ "slice_thickness": { "min": 3, "max": 5 } }),
        json!({ "patient_age": { "max": 17 } }),
        json!({ "patient_sex": "F" }),
        json!({ "study_time": { "min": "1800" } }),
        json!({ "instances": { "min": 50 } }),
        json!({ "plane": "sagittal" }),
        json!({ "calling_ae_title": "ct1" }),
        json!({ "called_ae_title": "PROSECTOR" }),
        json!({ "not": { "modality": "CT", "plane": "axial" } }),
        json!({ "any": [{ "modality": "MR" }, { "slice_spacing_mm": { "max": 1 } }] }),
    ];
    let mut table = String::new();
    for failing in failing {
        let reason = condition(&failing).check(&facts).unwrap_err();
        let _ = writeln!(table, "{failing}\n    {reason}");
    }

    insta::assert_snapshot!(table);
}

#[test]
fn a_reason_repeats_nothing_of_the_patient() {
    let facts = facts(&[
        ("PatientName", &["SENTINEL"]),
        ("PatientID", &["SENTINEL"]),
        ("PatientBirthDate", &["SENTINEL"]),
        ("PatientSex", &["SENTINEL"]),
        ("AccessionNumber", &["SENTINEL"]),
        ("StudyDate", &["SENTINEL"]),
        ("StudyDescription", &["SENTINEL"]),
        ("InstitutionName", &["SENTINEL"]),
        ("ReferringPhysicianName", &["SENTINEL"]),
    ]);

    for keyword in [
        "patient_name",
        "patient_id",
        "patient_birth_date",
        "patient_sex",
        "accession_number",
        "study_date",
        "study_description",
        "institution_name",
        "referring_physician_name",
    ] {
        let other = match keyword {
            "patient_birth_date" | "study_date" => "1901",
            "patient_sex" => "F",
            _ => "other",
        };
        let reason = condition(&json!({ keyword: other })).check(&facts).unwrap_err();
        assert!(!reason.contains("SENTINEL"), "{reason}");
    }
}

#[test]
fn a_series_without_volume_has_no_geometry_to_match() {
    let mut facts = chest_ct();
    facts.geometry = None;

    let reason = condition(&json!({ "slices": { "min": 2 } })).check(&facts).unwrap_err();

    assert_eq!(reason, "number of slices is absent, not 2 or more");
}

#[test]
fn planes_are_named_by_their_normal() {
    let plane =
        |steps| GeometryFacts::from(&GridGeometry::new([2, 2, 2], [0.0; 3], steps).unwrap()).plane;
    let (x, y, z) = ([1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]);

    assert_eq!(plane([z, y, x]), Plane::Axial);
    assert_eq!(plane([y, z, x]), Plane::Coronal);
    assert_eq!(plane([x, z, y]), Plane::Sagittal);
    assert_eq!(plane([[0.7, 0.0, 0.7], y, [0.7, 0.0, -0.7]]), Plane::Oblique);
}

fn words() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec("[A-C]{1,2}", 0..4)
}

fn with_body_part(values: &[String]) -> SeriesFacts {
    let mut facts = SeriesFacts::new(1);
    facts.set(&Attribute::by_keyword("ImageType").unwrap(), values.to_vec());
    facts
}

proptest! {
    #[test]
    fn not_is_the_opposite(values in words(), word in "[A-C]{1,2}") {
        let facts = with_body_part(&values);
        let plain = condition(&json!({ "image_type": word }));
        let negated = condition(&json!({ "image_type": { "not": word } }));
        let excluded = condition(&json!({ "not": { "image_type": word } }));

        let holds = plain.check(&facts).is_ok();

        prop_assert_eq!(holds, values.contains(&word));
        prop_assert_eq!(negated.check(&facts).is_ok(), !holds);
        prop_assert_eq!(excluded.check(&facts).is_ok(), !holds);
    }

    #[test]
    fn a_list_is_any_of_its_members(values in words(), list in prop::collection::vec("[A-C]{1,2}", 1..4)) {
        let facts = with_body_part(&values);
        let alternatives: Vec<Value> = list.iter().map(|w| json!({ "image_type": w })).collect();

        let by_list = condition(&json!({ "image_type": list })).check(&facts).is_ok();
        let by_any = condition(&json!({ "any": alternatives })).check(&facts).is_ok();

        prop_assert_eq!(by_list, list.iter().any(|word| values.contains(word)));
        prop_assert_eq!(by_list, by_any);
    }

    #[test]
    fn a_range_holds_between_its_ends(count in 0usize..100, min in 0u32..100, more in 0u32..50) {
        let max = min + more;
        let facts = SeriesFacts::new(count);
        let range = condition(&json!({ "instances": { "min": min, "max": max } }));

        prop_assert_eq!(range.check(&facts).is_ok(), (min..=max).contains(&(count as u32)));
    }

    #[test]
    fn a_pattern_of_stars_finds_what_it_surrounds(before in "[a-z ]{0,5}", core in "[a-z{}\\[\\]!]{1,5}", after in "[a-z ]{0,5}") {
        let text = format!("{before}{core}{after}").trim().to_owned();
        let mut facts = SeriesFacts::new(1);
        facts.set(&Attribute::by_keyword("SeriesDescription").unwrap(), vec![text.clone()]);

        let pattern = condition(&json!({ "series_description": format!("*{}*", core.trim()) }));

        prop_assert!(pattern.check(&facts).is_ok(), "{:?} in {:?}", core, text);
    }

    #[test]
    fn any_table_is_read_or_refused_with_a_reason(
        key in "[a-z_]{1,20}|modality|rows|instances|any|not|plane|study_time",
        text in ".{0,10}",
        number in any::<f64>(),
        inner in "equal|glob|regex|min|max|present|not|all|any|[a-z]{1,6}",
    ) {
        for value in [json!(text), json!(number), json!([text, number]), json!({ &inner: text }),
            json!({ &inner: number }), json!({ &inner: [text] }), json!([{ &inner: number }])] {
            let mut problems = Problems::default();
            let table = json!({ &key: value });
            let read = Condition::read(table.as_object().unwrap(), &FieldPath::root(), &mut problems);
            prop_assert_eq!(read.is_none(), problems.any());
        }
    }
}

fn protocol(definition: &Value) -> Protocol {
    let mut whole = json!({
        "name": "p", "match": { "modality": "CT" }, "model": "phantom", "targets": ["liver"], "destinations": [],
    });
    whole.as_object_mut().unwrap().extend(definition.as_object().unwrap().clone());
    Protocol::of_definition(&whole.to_string()).unwrap()
}

/// A CT study as scanners make it: one acquisition in several reconstructions, a second phase, a scout-like remnant.
fn reconstructions() -> Vec<(dicom_types::SeriesInstanceUid, SeriesFacts)> {
    let row = |number: usize, kernel: &str, thickness: &str, words: &str, plane, image: &str| {
        let spacing: f64 = thickness.parse().unwrap();
        let number_text = number.to_string();
        let time = format!("10{:02}00", number % 4);
        let mut facts = facts(&[
            ("Modality", &["CT"]),
            ("ImageType", &[image, "PRIMARY", "AXIAL"]),
            ("ConvolutionKernel", &[kernel]),
            ("SliceThickness", &[thickness]),
            ("SeriesDescription", &[words]),
            ("SeriesNumber", &[&number_text]),
            ("AcquisitionDate", &["20260102"]),
            ("AcquisitionTime", &[&time]),
        ]);
        let slices = (400.0 / spacing) as usize;
        facts.geometry = Some(GeometryFacts {
            slices,
            slice_spacing_mm: spacing,
            pixel_spacing_mm: 0.8,
            coverage_mm: slices as f64 * spacing,
            plane,
            volume_l: 60.0,
        });
        (format!("1.2.3.{number}").parse().unwrap(), facts)
    };
    vec![
        row(2, "Br40d", "5", "Abdomen nativ 5.0", Plane::Axial, "ORIGINAL"),
        row(3, "Br40d", "1", "Abdomen ven. 1.0", Plane::Axial, "ORIGINAL"),
        row(4, "Br64", "1", "Abdomen ven. 1.0 Knochen", Plane::Axial, "ORIGINAL"),
        row(5, "Br40d", "3", "Abdomen ven. cor", Plane::Coronal, "DERIVED"),
        row(6, "Br40d", "1", "Abdomen art. 1.0", Plane::Axial, "ORIGINAL"),
        row(7, "Br40d", "5", "Abdomen ven. MIP", Plane::Axial, "DERIVED"),
    ]
}

fn chosen(protocol: &Protocol, study: &[(dicom_types::SeriesInstanceUid, SeriesFacts)]) -> String {
    let candidates: Vec<Candidate<'_>> = study
        .iter()
        .map(|(series_instance_uid, facts)| Candidate { series_instance_uid, facts })
        .collect();
    let index = pick(protocol, &candidates).unwrap();
    candidates[index].series_instance_uid.to_string()
}

#[test]
fn a_choice_names_its_reasons() {
    let study = reconstructions();
    let candidates: Vec<Candidate<'_>> = study
        .iter()
        .map(|(series_instance_uid, facts)| Candidate { series_instance_uid, facts })
        .collect();
    let protocols = [
        protocol(&json!({ "name": "best", "choose": "best" })),
        protocol(&json!({ "name": "first", "choose": "first" })),
        protocol(
            &json!({ "name": "arterial", "choose": "best", "prefer": [{ "contrast_phase": "arterial" }] }),
        ),
        protocol(&json!({ "name": "all" })),
    ];
    let mut table = String::new();
    for (member, decisions) in candidates.iter().zip(decide_study(&protocols, &candidates)) {
        let _ = writeln!(table, "{}", member.series_instance_uid);
        for decision in decisions {
            let _ = writeln!(table, "    {}: {:?}", decision.protocol, decision.outcome);
        }
    }

    insta::assert_snapshot!(table);
}

proptest! {
    #[test]
    fn the_choice_is_the_same_in_any_order(
        study in Just(reconstructions()).prop_shuffle(),
        dropped in 0usize..6,
        choose in "first|best",
    ) {
        let whole = chosen(&protocol(&json!({ "choose": choose })), &study);
        let sorted = {
            let mut study = study.clone();
            study.sort_by(|a, b| a.0.cmp(&b.0));
            chosen(&protocol(&json!({ "choose": choose })), &study)
        };
        prop_assert_eq!(&whole, &sorted);

        // What is not chosen may as well be absent.
        let mut fewer = study;
        if fewer[dropped].0.as_str() != whole {
            fewer.remove(dropped);
            prop_assert_eq!(chosen(&protocol(&json!({ "choose": choose })), &fewer), whole);
        }
    }

    #[test]
    fn what_holds_is_what_gives_no_reason_against_it(
        values in words(), list in prop::collection::vec("[A-C*?]{1,2}", 1..4), number in 0usize..60, max in 1u32..60,
    ) {
        let mut facts = with_body_part(&values);
        facts.instances = number;
        for table in [json!({ "image_type": list }), json!({ "image_type": { "not": list } }),
            json!({ "instances": { "max": max } }), json!({ "any": [{ "image_type": list }, { "instances": max }] }),
            json!({ "not": { "image_type": list, "instances": { "min": max } } })] {
            let condition = condition(&table);
            prop_assert_eq!(condition.holds(&facts), condition.check(&facts).is_ok(), "{}", table);
        }
    }

    #[test]
    fn facts_are_read_back_as_they_were(values in words(), count in 0usize..2000, text in ".{0,20}") {
        let mut facts = with_body_part(&values);
        facts.set(&Attribute::by_keyword("SeriesDescription").unwrap(), vec![text]);
        facts.instances = count;
        facts.calling_ae_title = Some("CT1".parse().unwrap());
        facts.geometry = chest_ct().geometry;
        let wanted = [protocol(&json!({ "match": { "image_type": "A", "series_description": "b" } }))];
        let (study, series) = ("1.2".parse().unwrap(), "1.2.3".parse().unwrap());

        let line = line(&study, &series, &facts, &wanted);
        let read = LineReader::new(&wanted).read(&line).unwrap();

        prop_assert!(!line.contains(['\n', '\t']));
        prop_assert_eq!(read.facts, facts);
        prop_assert_eq!((read.study_instance_uid, read.series_instance_uid), (study, series));
    }
}

#[test]
fn what_identifies_a_patient_is_not_kept_even_where_a_rule_asks_for_it() {
    let facts = facts(&[
        ("PatientID", &["SENTINEL"]),
        ("AccessionNumber", &["SENTINEL"]),
        ("BurnedInAnnotation", &["NO"]),
    ]);
    let rule = json!({ "match": { "patient_id": "A*", "accession_number": "1", "burned_in_annotation": "NO" } });
    let protocols = [protocol(&rule)];

    let line = line(&"1.2".parse().unwrap(), &"1.2.3".parse().unwrap(), &facts, &protocols);

    assert!(!line.contains("SENTINEL"), "{line}");
    assert!(line.contains("BurnedInAnnotation"), "{line}");
    assert_eq!(LineReader::new(&protocols).never_kept(), ["AccessionNumber", "PatientID"]);
}

#[test]
fn a_time_of_day_may_run_over_midnight() {
    let at = |time: &str| facts(&[("AcquisitionTime", &[time])]);
    let night = condition(&json!({ "time_of_day": { "min": "22:00", "max": "06:00" } }));
    let day = condition(&json!({ "time_of_day": { "min": "07:30", "max": "18:00" } }));

    for (time, is_night, is_day) in [
        ("230000", true, false),
        ("055959.5", true, false),
        ("0600", true, false),
        ("0601", false, false),
        ("12", false, true),
        ("180030", false, true),
        ("1801", false, false),
    ] {
        assert_eq!((night.holds(&at(time)), day.holds(&at(time))), (is_night, is_day), "{time}");
    }
    assert!(!night.holds(&facts(&[])));
}
