use std::collections::BTreeMap;

use dicom_types::GridGeometry;

use super::*;
use crate::golden::{Golden, assert_close, path};
use crate::pack::{
    Architecture, Manifest, PackWriter, Preprocessing, PromptTable, Provenance, Text,
    TextEncoderSizes, TextKind, Weights,
};
use crate::sums::in_memory;

/// Sizes of the small network that the golden vectors were made with.
fn architecture() -> Architecture {
    Architecture {
        input_channels: 3,
        channels: vec![4, 4, 8, 16, 32, 48],
        encoder_units: 2,
        decoder_units: 2,
        token_hidden: 48,
        query_width: 48,
        query_heads: 8,
        query_layers: 6,
        query_feed_forward: 96,
        mask_hidden: 16,
    }
}

/// A segmenter with the small network and its text encoder.
fn tiny(window: [usize; 3]) -> Segmenter {
    tiny_with(window, SegmenterOptions::default())
}

fn tiny_with(window: [usize; 3], options: SegmenterOptions) -> Segmenter {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("tiny");
    let architecture = architecture();
    let mut writer = PackWriter::create(&target).unwrap();
    let tensors: Vec<_> = architecture
        .tensors()
        .into_iter()
        .map(|(name, shape)| {
            let values = crate::generated_tensor(&format!("tiny_nano.{name}"), &shape);
            (name, shape, values)
        })
        .collect();
    writer.add_tensors("weights.safetensors", &BTreeMap::new(), &tensors).unwrap();
    writer.add_prompts(&PromptTable::new(48)).unwrap();
    let text =
        |suffix: &str| std::fs::read(path(&format!("golden/tiny_text_ours_{suffix}"))).unwrap();
    let sizes = TextEncoderSizes {
        layers: 3,
        hidden: 48,
        heads: 4,
        feed_forward: 96,
        vocabulary: 54,
        positions: 264,
        layer_norm_eps: 1e-5,
        max_tokens: 256,
        relative_buckets: Some(32),
        projection_hidden: Some(48),
        token_types: None,
    };
    let weights = Weights::from_bytes(text("weights.safetensors")).unwrap();
    let tensors: Vec<_> = sizes
        .tensors(TextKind::Ours, 48, 4)
        .into_iter()
        .map(|(name, shape)| {
            let values = weights.values(&name, &shape).unwrap();
            (name, shape, values)
        })
        .collect();
    writer.add_tensors("text.safetensors", &BTreeMap::new(), &tensors).unwrap();
    writer.add_file("vocab.txt", &text("vocab.txt")).unwrap();
    let manifest = Manifest {
        format: 1,
        name: "tiny".to_owned(),
        licence: "made for a test".to_owned(),
        architecture,
        preprocessing: Preprocessing {
            spacing_mm: [1.0, 1.0, 3.0],
            window,
            ct_clip_hu: [-500.0, 1000.0],
            other_clip_percentiles: [0.5, 99.5],
        },
        text: Text {
            kind: TextKind::Ours,
            modalities: ["ct", "mri", "us", "pet"].map(str::to_owned).to_vec(),
            encoder: Some(sizes),
        },
        provenance: Provenance { created_by: "test".to_owned(), sources: Vec::new() },
        files: BTreeMap::new(),
    };
    writer.finish(manifest).unwrap();
    Segmenter::new(&Pack::open(&target).unwrap(), options).unwrap()
}

/// Sums of two targets over all windows of the reference.
fn sum_up(segmenter: &Segmenter, image: &[f32], shape: [usize; 3], queries: &[f32]) -> Sums {
    let size = segmenter.pack.manifest().preprocessing.window;
    let windows = windows(shape, size, Mode::Reference);
    let (control, times) = (Control::default(), &mut StageTimes::default());
    let sums = Sums::new(shape, 2, segmenter.options.room());
    segmenter.sum(sums, (image, shape), &windows, queries, &control, times).unwrap()
}

#[test]
#[ignore = "needs the folder of PROSECTOR_TEST_SAT"]
fn sliding_windows_average_as_the_reference_does() {
    for (name, shape) in [("slide_a", [80, 68, 36]), ("slide_b", [70, 48, 20])] {
        let golden = Golden::open(name);
        let segmenter = tiny([64, 64, 32]);
        let image = golden.floats("image");
        let mut queries = golden.floats("queries.0");
        queries.extend(golden.floats("queries.1"));

        let sums = sum_up(&segmenter, &image, shape, &queries);

        let mut found = sums.dense(0);
        found.extend(sums.dense(1));
        assert_close(name, &found, &golden.floats("prob"), 2e-4);
    }
}

#[test]
#[ignore = "needs the folder of PROSECTOR_TEST_SAT"]
fn windows_of_the_published_size_average_as_the_reference_does() {
    let golden = Golden::open("window_multi_a");
    let shape = [300, 290, 100];
    let segmenter = tiny([288, 288, 96]);
    let image = crate::generated_input("input.window_multi_a", shape.iter().product());
    let queries = golden.floats("queries.0");

    let sums = sum_up(&segmenter, &image, shape, &queries);

    let mut sampled = Vec::new();
    for target in 0..2 {
        let found = sums.dense(target);
        let above = found.iter().filter(|&&value| value > 0.5).count() as f64;
        let expected = golden.numbers("count_gt_half")[target];
        assert!((above - expected).abs() <= 1e-3 * expected, "{above} above half, not {expected}");
        for h in (3..300).step_by(8) {
            for w in (3..290).step_by(8) {
                for d in (1..100).step_by(4) {
                    sampled.push(found[(h * 290 + w) * 100 + d]);
                }
            }
        }
    }
    assert_close("prob_s8", &sampled, &golden.floats("prob_s8"), 1e-4);
}

/// The volume of a golden case: `raw` is `[i, j, k]`, which become column, row and slice.
fn stored_volume(golden: &Golden) -> Volume {
    let shape = golden.shape("raw");
    let raw = golden.floats("raw");
    let affine = golden.numbers("affine");
    let column = |axis: usize| [-affine[axis], -affine[4 + axis], affine[8 + axis]];
    let [i, j, k] = [shape[0], shape[1], shape[2]];
    let mut values = Vec::with_capacity(raw.len());
    for slice in 0..k {
        for row in 0..j {
            values.extend((0..i).map(|column| raw[(column * j + row) * k + slice]));
        }
    }
    let geometry =
        GridGeometry::new([k, j, i], column(3), [column(2), column(1), column(0)]).unwrap();
    Volume::new(geometry, values).unwrap()
}

fn ends_in_the_masks_of_the_reference(name: &str, code: OrientationCode) {
    let golden = Golden::open(name);
    let input = Golden::open(&golden.text("input"));
    let segmenter = tiny([288, 288, 96]);
    let volume = stored_volume(&input);
    let labels: Vec<String> = serde_json::from_str(&golden.text("labels")).unwrap();
    let prompts: Vec<&str> = labels.iter().map(String::as_str).collect();
    let modality = if golden.text("modality") == "CT" { Modality::Ct } else { Modality::Mr };
    let request = SegmentRequest {
        volume: &volume,
        modality,
        orientation: code,
        prompts: &prompts,
        mode: Mode::Reference,
    };

    let queries = segmenter.queries(&request).unwrap();
    let found = segmenter.segment(&request, &Control::default()).unwrap();

    assert_close("queries", &queries, &golden.floats("queries"), 1e-5);
    let probability = golden.floats("restored_linear_prob");
    let [slices, rows, columns] = volume.geometry().shape();
    let mut inside = 0;
    for (target, mask) in found.masks.iter().enumerate() {
        for i in 0..columns {
            for j in 0..rows {
                for k in 0..slices {
                    let index = ((target * columns + i) * rows + j) * slices + k;
                    let expected = probability[index] > 0.5;
                    let is_decided = (probability[index] - 0.5).abs() > 1e-3;
                    inside += u64::from(expected);
                    assert!(
                        !is_decided || mask.contains([k, j, i]) == expected,
                        "{name}: target {target} at {:?}: {}",
                        [k, j, i],
                        probability[index]
                    );
                }
            }
        }
    }
    assert!(inside > 0, "{name} has voxels to compare");
}

#[test]
fn a_whole_mr_case_ends_in_the_masks_of_the_reference() {
    ends_in_the_masks_of_the_reference("e2e_mr_asr", OrientationCode::Asr);
}

#[test]
#[ignore = "needs the folder of PROSECTOR_TEST_SAT"]
fn a_whole_ct_case_ends_in_the_masks_of_the_reference() {
    ends_in_the_masks_of_the_reference("e2e_ct_lps", OrientationCode::Ras);
}

#[test]
fn an_unknown_prompt_is_refused_with_the_nearest_known_ones() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("cached");
    let mut segmenter = tiny([64, 64, 32]);
    let mut prompts = PromptTable::new(48);
    for prompt in ["liver", "left kidney", "right kidney", "spleen"] {
        prompts.insert(prompt, PromptModality::Ct, vec![0.1; 48]);
    }
    let mut manifest = segmenter.pack.manifest().clone();
    manifest.text.encoder = None;
    let tensors: Vec<_> = architecture()
        .tensors()
        .into_iter()
        .map(|(name, shape)| {
            let values = crate::generated_tensor(&name, &shape);
            (name, shape, values)
        })
        .collect();
    let mut writer = PackWriter::create(&target).unwrap();
    writer.add_tensors("weights.safetensors", &BTreeMap::new(), &tensors).unwrap();
    writer.add_prompts(&prompts).unwrap();
    writer.finish(manifest).unwrap();
    segmenter.pack = Pack::open(&target).unwrap();
    segmenter.text = None;

    let refused = segmenter.query("livr", PromptModality::Ct).unwrap_err();
    let other = segmenter.query("liver", PromptModality::Pet).unwrap_err();

    assert_eq!(
        refused.to_string(),
        "the pack knows no prompt \"livr\" for ct and has no text encoder; the nearest that it \
         knows: liver, spleen, left kidney"
    );
    assert!(matches!(other, SegmentError::UnknownModality { modality: "pet" }));
    assert!(segmenter.query("LIVER", PromptModality::Ct).is_ok());
}

#[test]
fn a_cancelled_segmentation_stops() {
    let segmenter = tiny([64, 64, 32]);
    let control = Control::default();
    control.cancel();
    let volume = (&vec![0.0; 64 * 64 * 32][..], [64, 64, 32]);
    let windows = windows(volume.1, [64, 64, 32], Mode::Reference);
    let (sums, times) = (Sums::new(volume.1, 1, in_memory()), &mut StageTimes::default());

    let stopped = segmenter.sum(sums, volume, &windows, &[0.0; 48], &control, times).unwrap_err();

    assert!(matches!(stopped, SegmentError::Cancelled));
}

/// Bits of the probabilities of two targets that random queries make on a random volume of several windows.
fn probability_bits(options: SegmenterOptions, folder_is_used: bool) -> Vec<u32> {
    let segmenter = tiny_with([64, 64, 32], options);
    let shape = [80, 68, 36];
    let image = crate::generated_input("input.threads", shape.iter().product());
    let queries = crate::generated_input("queries.threads", 2 * 48);

    let sums = segmenter.threads.install(|| sum_up(&segmenter, &image, shape, &queries));

    assert_eq!(sums.room().spilled_bytes() > 0, folder_is_used);
    let values = [sums.dense(0), sums.dense(1)].concat();
    values.into_iter().map(f32::to_bits).collect()
}

#[test]
fn probabilities_are_the_same_bits_on_any_number_of_threads_and_on_the_disk() {
    let on_threads = |threads| SegmenterOptions {
        threads: NonZeroUsize::new(threads),
        ..SegmenterOptions::default()
    };
    let folder = tempfile::tempdir().unwrap();
    let on_disk = SegmenterOptions {
        accumulator_bytes: Some(64 << 10),
        scratch: Some(folder.path().to_owned()),
        ..on_threads(2)
    };

    let one = probability_bits(on_threads(1), false);

    assert!(one.iter().any(|&bits| f32::from_bits(bits) > 0.5));
    assert!(one == probability_bits(on_threads(2), false));
    assert!(one == probability_bits(on_threads(3), false));
    assert!(one == probability_bits(on_disk, true));
}

#[test]
fn masks_are_the_same_on_any_number_of_threads_and_on_the_disk() {
    let torso = crate::phantom::Torso::random(5);
    let acquisition = crate::phantom::Acquisition::new(crate::phantom::Plane::Axial);
    let grid = acquisition.with_spacing_mm([6.0, 4.0, 4.0]).grid(&torso);
    let volume = torso.sample(&grid, crate::phantom::Contrast::Ct, 1);
    let folder = tempfile::tempdir().unwrap();
    let segment = |threads, accumulator_bytes| {
        let options = SegmenterOptions {
            threads: NonZeroUsize::new(threads),
            accumulator_bytes,
            scratch: Some(folder.path().to_owned()),
            ..SegmenterOptions::default()
        };
        let request = SegmentRequest {
            volume: &volume,
            modality: Modality::Ct,
            orientation: OrientationCode::Ras,
            prompts: &["liver", "left lung", "spleen"],
            mode: Mode::Reference,
        };
        Segmenter::new(&Pack::phantom(), options)
            .unwrap()
            .segment(&request, &Control::default())
            .unwrap()
    };

    let one = segment(1, None);

    assert!(one.masks.iter().all(|mask| mask.count() > 0));
    for other in [segment(2, None), segment(3, None), segment(2, Some(0))] {
        assert!(one.masks == other.masks);
    }
}

#[test]
fn sums_that_find_no_room_end_the_segmentation() {
    let options = SegmenterOptions {
        accumulator_bytes: Some(0),
        scratch: Some("/nonexistent/folder".into()),
        ..SegmenterOptions::default()
    };
    let segmenter = tiny_with([64, 64, 32], options);
    let shape = [64, 64, 32];
    let image = crate::generated_input("input.threads", shape.iter().product());
    let queries = crate::generated_input("queries.threads", 48);
    let windows = windows(shape, shape, Mode::Reference);
    let (control, times) = (Control::default(), &mut StageTimes::default());

    let sums = Sums::new(shape, 1, segmenter.options.room());

    let refused =
        segmenter.sum(sums, (&image, shape), &windows, &queries, &control, times).unwrap_err();

    assert_eq!(refused.to_string(), "cannot keep sums of targets in /nonexistent/folder");
}

#[test]
fn a_volume_that_would_not_fit_is_refused_with_its_estimate() {
    let options = SegmenterOptions { memory_bytes: Some(1_000_000), ..SegmenterOptions::default() };
    let segmenter = Segmenter::new(&Pack::phantom(), options).unwrap();
    let steps = [[0.0, 0.0, 6.0], [0.0, 5.0, 0.0], [6.0, 0.0, 0.0]];
    let geometry = GridGeometry::new([130, 64, 64], [0.0; 3], steps).unwrap();
    let volume = Volume::new(geometry, vec![40.0; 130 * 64 * 64]).unwrap();
    let request = SegmentRequest {
        volume: &volume,
        modality: Modality::Ct,
        orientation: OrientationCode::Ras,
        prompts: &["liver", "spleen"],
        mode: Mode::Reference,
    };

    let estimate = segmenter.estimate(&request).unwrap();
    let fast = segmenter.estimate(&SegmentRequest { mode: Mode::Fast, ..request }).unwrap();
    let refused = segmenter.segment(&request, &Control::default()).unwrap_err();

    // 130 voxels by windows of 64: four of the reference, three that share a quarter.
    assert_eq!([estimate.windows, fast.windows], [4, 3]);
    assert_eq!(estimate.macs * 3, fast.macs * 4);
    assert_eq!(estimate.sums_bytes, 2 * 4 * 130 * 64 * 64);
    assert!(estimate.memory_bytes > 5 * 4 * 130 * 64 * 64);
    assert!(matches!(refused, SegmentError::TooLarge { .. }));
    let text = refused.to_string();
    assert!(text.starts_with("the volume would take 4 windows, "), "{text}");
    assert!(text.ends_with(", more than the 0.0 GB that it may"), "{text}");
}

#[test]
fn in_a_volume_of_air_nothing_is_found() {
    let segmenter = tiny([32, 32, 32]);
    let steps = [[0.0, 0.0, 2.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]];
    let geometry = GridGeometry::new([6, 20, 21], [0.0; 3], steps).unwrap();
    let air = Volume::new(geometry, vec![-1000.0; 6 * 20 * 21]).unwrap();
    let request = SegmentRequest {
        volume: &air,
        modality: Modality::Ct,
        orientation: OrientationCode::Ras,
        prompts: &["liver", "liver"],
        mode: Mode::Reference,
    };

    let found = segmenter.segment(&request, &Control::default()).unwrap();

    assert_eq!(found.windows, 0);
    assert_eq!(found.masks.len(), 2);
    assert!(found.masks.iter().all(|mask| mask.count() == 0 && mask.shape() == [6, 20, 21]));
}

#[test]
fn progress_counts_every_window() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&seen);
    let control = Control::with_progress(move |progress| sink.lock().unwrap().push(progress));
    let segmenter = tiny([64, 64, 32]);
    let volume = (&vec![0.5; 96 * 64 * 32][..], [96, 64, 32]);

    let windows = windows(volume.1, [64, 64, 32], Mode::Reference);
    let (sums, times) = (Sums::new(volume.1, 1, in_memory()), &mut StageTimes::default());

    segmenter.sum(sums, volume, &windows, &[0.0; 48], &control, times).unwrap();

    let expected: Vec<_> = (1..=2).map(|done| Progress { done, windows: 2 }).collect();
    assert_eq!(*seen.lock().unwrap(), expected);
}

#[test]
fn distance_counts_edits() {
    assert_eq!(distance("livr", "liver"), 1);
    assert_eq!(distance("", "abc"), 3);
    assert_eq!(distance("kidney", "kidney"), 0);
}
