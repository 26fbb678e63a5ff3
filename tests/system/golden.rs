//! The reference's own end-to-end cases, as DICOM series through `prosector segment`.

use std::path::Path;

use test_harness::{material, prosector, python};

/// A case: the volume before preprocessing, the expected masks, and how the command is told of it.
struct Case {
    volume: &'static str,
    expected: &'static str,
    orientation: &'static str,
    targets: &'static [&'static str],
}

const CASES: [Case; 2] = [
    Case {
        volume: "pre_ct_lps.safetensors",
        expected: "e2e_ct_lps.safetensors",
        orientation: "RAS",
        targets: &["Liver", "left kidney", "Spleen"],
    },
    Case {
        volume: "pre_mr_asr.safetensors",
        expected: "e2e_mr_asr.safetensors",
        orientation: "ASR",
        targets: &["Brain Tumor", "heart"],
    },
];

#[test]
fn masks_of_the_miniature_checkpoint_are_those_of_the_reference() {
    let Some(sat) = material("PROSECTOR_TEST_SAT") else { return };
    let golden = sat.join("golden");
    let folder = tempfile::tempdir().unwrap();
    import_miniature(&golden, folder.path());

    for case in CASES {
        let volume = golden.join(case.volume);
        let series = folder.path().join(case.expected).join("series");
        python::check(
            "golden_series.py",
            &["write".as_ref(), volume.as_os_str(), series.as_os_str()],
        )
        .unwrap();
        let output = folder.path().join(case.expected).join("output");
        segment(folder.path(), &series, &output, &case);

        let segmentation = only_segmentation(&output);
        let said = python::check(
            "golden_series.py",
            &[
                "compare".as_ref(),
                segmentation.as_os_str(),
                volume.as_os_str(),
                golden.join(case.expected).as_os_str(),
            ],
        )
        .unwrap();
        println!("{}: {}", case.expected, said.trim());
    }
}

fn import_miniature(golden: &Path, folder: &Path) {
    let golden = |name: &str| golden.join(name).to_string_lossy().into_owned();
    let output = prosector::run_in(
        folder,
        &[
            "model",
            "import",
            "--checkpoint",
            &golden("tiny_nano_checkpoint.pth"),
            "--text-encoder",
            &golden("tiny_text_ours_checkpoint.pth"),
            "--tokenizer",
            &golden("tiny_text_ours_vocab.txt"),
            "--window",
            "288x288x96",
            "--output",
            "miniature",
        ],
    )
    .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn segment(folder: &Path, series: &Path, output: &Path, case: &Case) {
    let (series, output) = (series.to_string_lossy(), output.to_string_lossy());
    let mut arguments = vec!["segment", &series, "--model", "miniature", "--output", &output];
    arguments.extend(["--orientation", case.orientation]);
    for target in case.targets {
        arguments.extend(["--target", target]);
    }
    let done = prosector::run_in(folder, &arguments).unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

fn only_segmentation(output: &Path) -> std::path::PathBuf {
    let series: Vec<_> = std::fs::read_dir(output).unwrap().map(|entry| entry.unwrap()).collect();
    assert_eq!(series.len(), 1, "one folder per series");
    series[0].path().join("seg.dcm")
}
