use std::collections::BTreeMap;
use std::fs;

use super::*;
use crate::generated_tensor;

fn small_manifest() -> Manifest {
    Manifest {
        format: 1,
        name: "small".to_owned(),
        licence: "made for a test".to_owned(),
        architecture: Architecture {
            input_channels: 1,
            channels: vec![2, 3, 4],
            encoder_units: 1,
            decoder_units: 2,
            token_hidden: 5,
            query_width: 6,
            query_heads: 2,
            query_layers: 1,
            query_feed_forward: 7,
            mask_hidden: 3,
        },
        preprocessing: Preprocessing {
            spacing_mm: [1.0, 1.0, 3.0],
            window: [16, 16, 8],
            ct_clip_hu: [-500.0, 1000.0],
            other_clip_percentiles: [0.5, 99.5],
        },
        text: Text {
            kind: TextKind::Ours,
            modalities: ["ct", "mri", "us", "pet"].map(str::to_owned).to_vec(),
            encoder: None,
        },
        provenance: Provenance { created_by: "test".to_owned(), sources: Vec::new() },
        files: BTreeMap::new(),
    }
}

fn write_small(dir: &Path, edit: impl FnOnce(&mut Vec<(String, Vec<usize>, Vec<f32>)>)) {
    let manifest = small_manifest();
    let mut tensors: Vec<_> = manifest
        .architecture
        .tensors()
        .into_iter()
        .map(|(name, shape)| {
            let values = generated_tensor(&name, &shape);
            (name, shape, values)
        })
        .collect();
    edit(&mut tensors);
    let mut prompts = PromptTable::new(6);
    prompts.insert("Liver", PromptModality::Ct, vec![0.5; 6]);
    let mut writer = PackWriter::create(dir).unwrap();
    writer.add_tensors(WEIGHTS_FILE, &BTreeMap::new(), &tensors).unwrap();
    writer.add_prompts(&prompts).unwrap();
    writer.finish(manifest).unwrap();
}

#[test]
fn a_written_pack_opens_with_the_same_content() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("pack");
    write_small(&dir, |_| {});

    let pack = Pack::open(&dir).unwrap();

    pack.verify_digests().unwrap();
    assert_eq!(pack.manifest().architecture, small_manifest().architecture);
    assert_eq!(pack.prompts().get("LIVER", PromptModality::Ct), Some(&[0.5f32; 6][..]));
    assert_eq!(pack.prompts().get("liver", PromptModality::Mri), None);
    let name = "mask_embed_proj.2.weight";
    assert_eq!(pack.weights().values(name, &[2, 3]).unwrap(), generated_tensor(name, &[2, 3]));
    let left_over = fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left_over, 1);
}

#[test]
fn a_changed_weight_is_found_by_its_digest() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("pack");
    write_small(&dir, |_| {});
    let file = dir.join(WEIGHTS_FILE);
    let mut bytes = fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&file, bytes).unwrap();

    let outcome = Pack::open(&dir).unwrap().verify_digests();

    assert!(matches!(outcome, Err(OpenPackError::Digest { file }) if file == WEIGHTS_FILE));
}

#[test]
fn changed_prompts_are_found_when_the_pack_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("pack");
    write_small(&dir, |_| {});
    let file = dir.join(PROMPTS_FILE);
    let mut bytes = fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&file, bytes).unwrap();

    let outcome = Pack::open(&dir);

    assert!(matches!(outcome, Err(OpenPackError::Digest { file }) if file == PROMPTS_FILE));
}

#[test]
fn refuses_missing_superfluous_and_misshapen_tensors() {
    type Edit = fn(&mut Vec<(String, Vec<usize>, Vec<f32>)>);
    let cases: [(Edit, &str); 3] = [
        (|tensors| drop(tensors.pop()), "mask_embed_proj.2.bias is missing"),
        (|tensors| tensors[0].1 = vec![54], "has shape [54], expected [2, 1, 3, 3, 3]"),
        (|tensors| tensors.push(("extra".into(), vec![1], vec![0.0])), "extra is not part"),
    ];
    for (edit, expected) in cases {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("pack");
        write_small(&dir, edit);

        let Err(OpenPackError::Tensors { source, .. }) = Pack::open(&dir) else {
            panic!("opened although {expected}")
        };

        assert!(source.to_string().contains(expected), "{source}");
    }
}

#[test]
fn an_unused_conv_bias_is_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("pack");
    let name = "backbone.encoder.stages.0.0.convs.0.conv.bias";
    write_small(&dir, |tensors| tensors.push((name.into(), vec![2], vec![0.0; 2])));

    assert!(Pack::open(&dir).is_ok());
}

#[test]
fn refuses_an_unknown_key_and_lists_every_invalid_value() {
    let mut manifest = small_manifest();
    manifest.files = [WEIGHTS_FILE, PROMPTS_FILE].map(|f| (f.to_owned(), "0".repeat(64))).into();
    let text = toml::to_string(&manifest).unwrap();
    assert!(Manifest::parse(&text).is_ok());

    let misspelt = text.replace("mask_hidden", "mask_hiden");
    let invalid =
        text.replace("query_heads = 2", "query_heads = 4").replace("\"small\"", "\"a/b\"");
    let newer = text.replace("format = 1", "format = 2");

    assert!(matches!(Manifest::parse(&misspelt), Err(ManifestError::Syntax(_))));
    let Err(ManifestError::Invalid { problems }) = Manifest::parse(&invalid) else {
        panic!("accepted invalid values")
    };
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(matches!(Manifest::parse(&newer), Err(ManifestError::Format { found: 2 })));
}

#[test]
fn refuses_to_write_over_a_folder() {
    let folder = tempfile::tempdir().unwrap();

    let outcome = PackWriter::create(folder.path());

    assert!(matches!(outcome, Err(WritePackError::Exists { .. })));
}
