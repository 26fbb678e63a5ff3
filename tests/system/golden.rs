//! The network's answers end to end, as DICOM series through `prosector segment`: those of the reference, and those of
//! an independent implementation where the reference's own cases do not reach.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use serde_json::Value;
use test_harness::{prosector, python};

/// A series to segment, and what must come of it.
struct Case<'a> {
    /// The volume before preparation.
    volume: &'a Path,
    /// Probabilities on the stored grid.
    expected: &'a Path,
    orientation: &'a str,
    targets: &'a [&'a str],
    /// Modality of the series, where it is another than that of the case, which the command is told then.
    written_as: Option<(&'a str, &'a str)>,
}

/// Cases of the reference: volume, expected probabilities, orientation, targets.
const REFERENCE: [(&str, &str, &str, &[&str]); 2] = [
    (
        "pre_ct_lps.safetensors",
        "e2e_ct_lps.safetensors",
        "RAS",
        &["Liver", "left kidney", "Spleen"],
    ),
    ("pre_mr_asr.safetensors", "e2e_mr_asr.safetensors", "ASR", &["Brain Tumor", "heart"]),
];

/// The window of the published networks.
const PUBLISHED_WINDOW: &str = "288x288x96";

/// Golden vectors that lie in the repository.
fn own_golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/sat/golden")
}

#[test]
#[ignore = "needs the folder of PROSECTOR_TEST_SAT"]
fn masks_of_the_miniature_checkpoint_are_those_of_the_reference() {
    let sat = test_harness::material("PROSECTOR_TEST_SAT").unwrap();
    let golden = sat.join("golden");
    let folder = tempfile::tempdir().unwrap();
    let names =
        ["tiny_nano_checkpoint.pth", "tiny_text_ours_checkpoint.pth", "tiny_text_ours_vocab.txt"];
    import(folder.path(), &names.map(|name| golden.join(name)), PUBLISHED_WINDOW);

    for (volume, expected, orientation, targets) in REFERENCE {
        let (volume, expected) = (&*golden.join(volume), &*golden.join(expected));
        compare(folder.path(), &Case { volume, expected, orientation, targets, written_as: None });
    }
}

#[test]
fn a_checkpoint_made_by_rule_gives_the_masks_of_the_reference() {
    let golden = own_golden();
    let folder = tempfile::tempdir().unwrap();
    let paths = [golden.as_os_str(), folder.path().as_os_str()];
    python::check("sat_cases.py", &["checkpoints".as_ref(), paths[0], paths[1]]).unwrap();
    import_made(folder.path(), PUBLISHED_WINDOW);

    let (volume, expected, orientation, targets) = REFERENCE[1];
    let (volume, expected) = (&*golden.join(volume), &*golden.join(expected));
    compare(folder.path(), &Case { volume, expected, orientation, targets, written_as: None });
}

/// Gantry tilt of both signs, oblique, coronal, sagittal, mirrored, one window and many, CT, MR and PET.
#[test]
fn masks_of_any_geometry_are_those_of_an_independent_implementation() {
    let golden = own_golden();
    let folder = tempfile::tempdir().unwrap();
    let paths = [golden.as_os_str(), folder.path().as_os_str()];
    let made = python::check("sat_cases.py", &["make".as_ref(), paths[0], paths[1]]).unwrap();
    let made: Value = serde_json::from_str(&made).unwrap();
    import_made(folder.path(), made["window"].as_str().unwrap());
    let targets: Vec<&str> =
        made["prompts"].as_array().unwrap().iter().map(|prompt| prompt.as_str().unwrap()).collect();

    let cases = made["cases"].as_array().unwrap();
    for case in cases {
        let text = |key: &str| case[key].as_str().unwrap();
        let file = |kind: &str| folder.path().join(format!("{}.{kind}.safetensors", text("name")));
        compare(
            folder.path(),
            &Case {
                volume: &file("pre"),
                expected: &file("e2e"),
                orientation: text("orientation"),
                targets: &targets,
                written_as: case["written_as"].as_str().map(|written| (written, text("modality"))),
            },
        );
    }

    // Every way in which a resampled grid is placed, and volumes of one window and of several.
    for rule in ["corner", "centre", "unchanged"] {
        assert!(cases.iter().any(|case| case["rule"] == rule), "no case is placed by {rule}");
    }
    for is_large in [false, true] {
        assert!(cases.iter().any(|case| (case["windows"].as_u64() > Some(1)) == is_large));
    }
}

fn import_made(folder: &Path, window: &str) {
    let text = own_golden().join("tiny_text_ours_vocab.txt");
    import(folder, &[folder.join("network.pth"), folder.join("text.pth"), text], window);
}

/// Imports checkpoint, text encoder and tokenizer as the pack `miniature`.
fn import(folder: &Path, files: &[PathBuf; 3], window: &str) {
    let [checkpoint, text, tokenizer] =
        files.each_ref().map(|file| file.to_string_lossy().into_owned());
    let output = prosector::run_in(
        folder,
        &[
            "model",
            "import",
            "--checkpoint",
            &checkpoint,
            "--text-encoder",
            &text,
            "--tokenizer",
            &tokenizer,
            "--window",
            window,
            "--output",
            "miniature",
        ],
    )
    .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Writes the case as a DICOM series, segments it and compares the masks.
fn compare(folder: &Path, case: &Case<'_>) {
    let name = case.expected.file_stem().unwrap();
    let series = folder.join(name).join("series");
    let mut arguments: Vec<&OsStr> =
        vec!["write".as_ref(), case.volume.as_os_str(), series.as_os_str()];
    if let Some((modality, _)) = case.written_as {
        arguments.push(modality.as_ref());
    }
    python::check("golden_series.py", &arguments).unwrap();
    let output = folder.join(name).join("output");
    segment(folder, &series, &output, case);

    let segmentation = only_segmentation(&output);
    let said = python::check(
        "golden_series.py",
        &[
            "compare".as_ref(),
            segmentation.as_os_str(),
            case.volume.as_os_str(),
            case.expected.as_os_str(),
        ],
    )
    .unwrap_or_else(|error| panic!("{}: {error:#}", name.display()));
    eprintln!("{}: {}", name.display(), said.trim());
}

fn segment(folder: &Path, series: &Path, output: &Path, case: &Case<'_>) {
    let (series, output) = (series.to_string_lossy(), output.to_string_lossy());
    let mut arguments = vec!["segment", &series, "--model", "miniature", "--output", &output];
    arguments.extend(["--orientation", case.orientation]);
    if let Some((_, told)) = case.written_as {
        arguments.extend(["--modality", told]);
    }
    for target in case.targets {
        arguments.extend(["--target", target]);
    }
    let done = prosector::run_in(folder, &arguments).unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

fn only_segmentation(output: &Path) -> PathBuf {
    let series: Vec<_> = std::fs::read_dir(output).unwrap().map(|entry| entry.unwrap()).collect();
    assert_eq!(series.len(), 1, "one folder per series");
    series[0].path().join("seg.dcm")
}
