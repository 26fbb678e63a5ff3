use super::*;
use crate::golden::{Golden, assert_close, path};
use crate::pack::{TextEncoderSizes, Weights};

#[test]
#[ignore = "needs the folder of PROSECTOR_TEST_SAT"]
fn ids_are_those_of_the_reference() {
    let cases = path("golden/tokenizer_cases.json");
    let cases: serde_json::Value = serde_json::from_slice(&std::fs::read(cases).unwrap()).unwrap();
    for file in ["vocab.txt", "tokenizer.json"] {
        let vocabulary = path(&format!("tokenizer/{file}"));
        let bytes = std::fs::read(vocabulary).unwrap();
        let tokenizer = PromptTokenizer::new(file, &bytes, 30527, 256).unwrap();
        for case in cases["cases"].as_array().unwrap() {
            let text = case["text"].as_str().unwrap();
            let expected: Vec<u32> = serde_json::from_value(case["ids"].clone()).unwrap();

            let found = tokenizer.ids(&text.to_lowercase()).unwrap();

            assert_eq!(found, expected, "{text} by {file}");
        }
    }
}

#[test]
fn a_long_prompt_keeps_its_beginning_and_its_last_token() {
    let vocabulary = b"a\n[UNK]\n[CLS]\n[SEP]\n";
    let tokenizer = PromptTokenizer::new("vocab.txt", vocabulary, 4, 5).unwrap();

    assert_eq!(tokenizer.ids("a a a a a a a").unwrap(), [2, 0, 0, 0, 3]);
    assert!(matches!(tokenizer.ids("  "), Err(EmbedError::Empty)));
}

#[test]
fn a_vocabulary_without_boundary_tokens_is_refused() {
    let refused = PromptTokenizer::new("vocab.txt", b"a\n[UNK]\n[CLS]\n", 4, 5);

    assert!(matches!(refused, Err(LoadTokenizerError::Missing("[SEP]"))));
    let refused = PromptTokenizer::new("tokenizer.json", b"{}", 4, 5);
    assert!(matches!(refused, Err(LoadTokenizerError::Vocabulary { .. })));
}

/// Every query of a golden file, `[prompt][width]` for each modality that the file has.
fn assert_queries(golden: &Golden, encoder: &TextEncoder, tolerance: f64) {
    let texts: Vec<String> = serde_json::from_str(&golden.text("texts")).unwrap();
    for modality in [PromptModality::Ct, PromptModality::Mri, PromptModality::Pet] {
        let name = format!("queries.{}", modality.as_str());
        if golden.tensors().tensor(&name).is_err() {
            continue;
        }
        let mut found = Vec::new();
        for text in &texts {
            found.extend(encoder.embed(&text.to_lowercase(), modality).unwrap());
        }
        assert_close(&name, &found, &golden.floats(&name), tolerance);
    }
}

fn tiny(kind: TextKind) -> TextEncoder {
    let base = if kind == TextKind::Ours { "ours" } else { "bert" };
    let file = |suffix: &str| path(&format!("golden/tiny_text_{base}_{suffix}"));
    let config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(file("config.json")).unwrap()).unwrap();
    let number = |key: &str| config[key].as_u64().map(|n| n as usize);
    let sizes = TextEncoderSizes {
        layers: number("num_hidden_layers").unwrap(),
        hidden: number("hidden_size").unwrap(),
        heads: number("num_attention_heads").unwrap(),
        feed_forward: number("intermediate_size").unwrap(),
        vocabulary: number("vocab_size").unwrap(),
        positions: number("max_position_embeddings").unwrap(),
        layer_norm_eps: config["layer_norm_eps"].as_f64().unwrap(),
        max_tokens: if kind == TextKind::Ours { 256 } else { 64 },
        relative_buckets: number("relative_attention_num_buckets"),
        projection_hidden: (kind == TextKind::Ours).then_some(48),
        token_types: number("type_vocab_size"),
    };
    let weights = std::fs::read(file("weights.safetensors")).unwrap();
    let weights = Weights::from_bytes(weights).unwrap();
    let vocabulary = std::fs::read(file("vocab.txt")).unwrap();
    encoder(kind, &sizes, &weights, &vocabulary, 48)
}

fn encoder(
    kind: TextKind,
    sizes: &TextEncoderSizes,
    weights: &Weights,
    vocabulary: &[u8],
    width: usize,
) -> TextEncoder {
    let tokenizer =
        PromptTokenizer::new("vocab.txt", vocabulary, sizes.vocabulary, sizes.max_tokens).unwrap();
    let words = ["ct", "mri", "us", "pet"].map(str::to_owned).to_vec();
    TextEncoder::assemble(kind, sizes, weights, tokenizer, words, width).unwrap()
}

fn agrees_with_the_reference(kind: TextKind, name: &str) {
    assert_queries(&Golden::open(name), &tiny(kind), 1e-5);
}

#[test]
fn a_small_encoder_of_sat_agrees_with_the_reference() {
    agrees_with_the_reference(TextKind::Ours, "tiny_text_ours_a");
}

#[test]
#[ignore = "needs the folder of PROSECTOR_TEST_SAT"]
fn small_encoders_of_other_kinds_agree_with_the_reference() {
    agrees_with_the_reference(TextKind::MedCpt, "tiny_text_medcpt_a");
    agrees_with_the_reference(TextKind::BaseBert, "tiny_text_basebert_a");
}

#[test]
#[ignore = "needs the folder of PROSECTOR_TEST_SAT"]
fn the_full_width_encoder_agrees_with_the_reference() {
    let golden = Golden::open("text_ours_full_a");
    let sizes = TextEncoderSizes {
        layers: 12,
        hidden: 768,
        heads: 12,
        feed_forward: 3072,
        vocabulary: 30527,
        positions: 514,
        layer_norm_eps: 1e-5,
        max_tokens: 256,
        relative_buckets: Some(32),
        projection_hidden: Some(768),
        token_types: None,
    };
    let weights = generated(&sizes, 768);
    let encoder = encoder(TextKind::Ours, &sizes, &weights, b"[UNK]\n[CLS]\n[SEP]\n", 768);
    let ids = golden.numbers("input_ids");
    let mask = golden.numbers("attention_mask");
    let width = golden.shape("input_ids")[1];
    let (mut pooled, mut ct) = (Vec::new(), Vec::new());
    for (ids, mask) in ids.chunks_exact(width).zip(mask.chunks_exact(width)) {
        let kept: Vec<u32> =
            ids.iter().zip(mask).filter(|(_, m)| **m > 0.0).map(|(id, _)| *id as u32).collect();
        let Tower::Ours { tower, .. } = &encoder.tower else { unreachable!() };
        pooled.extend(
            TextEncoder::pool(tower, &kept)
                .unwrap()
                .flatten_all()
                .unwrap()
                .to_vec1::<f32>()
                .unwrap(),
        );
        let row = encoder.modalities.narrow(0, 0, 1).unwrap();
        let query = (encoder.encode(&kept).unwrap() + row).unwrap();
        ct.extend(query.flatten_all().unwrap().to_vec1::<f32>().unwrap());
    }

    assert_close("pooled", &pooled, &golden.floats("pooled"), 1e-4);
    assert_close("queries.ct", &ct, &golden.floats("queries.ct"), 1e-4);
}

/// A safetensors file of tensors made by name.
fn generated(sizes: &TextEncoderSizes, width: usize) -> Weights {
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = sizes
        .tensors(TextKind::Ours, width, 4)
        .into_iter()
        .map(|(name, shape)| {
            let values = crate::generated_tensor(&name, &shape);
            let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            (name, shape, bytes)
        })
        .collect();
    let views = tensors.iter().map(|(name, shape, bytes)| {
        let view =
            safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes);
        (name.clone(), view.unwrap())
    });
    Weights::from_bytes(safetensors::serialize(views, None).unwrap()).unwrap()
}

#[test]
fn a_modality_that_the_table_lacks_is_refused() {
    let mut encoder = tiny(TextKind::Ours);
    encoder.words.truncate(2);

    let refused = encoder.embed("liver", PromptModality::Pet);

    assert!(matches!(refused, Err(EmbedError::Modality("pet"))));
}
