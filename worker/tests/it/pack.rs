//! A model pack of a few hundred kilobytes with generated weights: its masks mean nothing, but every stage runs.

use std::collections::BTreeMap;
use std::path::Path;

use prosector_model::{
    Architecture, Manifest, PackWriter, Preprocessing, Provenance, Text, TextKind, generated_input,
    generated_tensor,
};

/// Prompts that the pack knows for CT and MR.
pub(crate) const PROMPTS: [&str; 4] = ["liver", "spleen", "left kidney", "right kidney"];

const WIDTH: usize = 48;

/// Writes the pack to `folder`, which must not exist yet.
pub(crate) fn write_tiny(folder: &Path) {
    let architecture = Architecture {
        input_channels: 1,
        channels: vec![4, 4, 8, 16, 32, 48],
        encoder_units: 2,
        decoder_units: 2,
        token_hidden: WIDTH,
        query_width: WIDTH,
        query_heads: 8,
        query_layers: 1,
        query_feed_forward: 96,
        mask_hidden: 16,
    };
    let mut writer = PackWriter::create(folder).unwrap();
    let tensors: Vec<_> = architecture
        .tensors()
        .into_iter()
        .map(|(name, shape)| {
            let values = generated_tensor(&format!("worker.{name}"), &shape);
            (name, shape, values)
        })
        .collect();
    writer.add_tensors("weights.safetensors", &BTreeMap::new(), &tensors).unwrap();
    let list = serde_json::to_string(&PROMPTS).unwrap();
    let rows = ["ct", "mri"].map(|word| {
        let values = generated_input(&format!("worker.prompts.{word}"), PROMPTS.len() * WIDTH);
        (word.to_owned(), vec![PROMPTS.len(), WIDTH], values)
    });
    let lists = ["ct", "mri"].map(|word| (word.to_owned(), list.clone()));
    writer.add_tensors("prompts.safetensors", &BTreeMap::from(lists), &rows).unwrap();
    let manifest = Manifest {
        format: 1,
        name: "tiny".to_owned(),
        licence: "made for a test".to_owned(),
        architecture,
        preprocessing: Preprocessing {
            spacing_mm: [2.0, 2.0, 3.0],
            window: [32, 32, 32],
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
    };
    writer.finish(manifest).unwrap();
}
