use proptest::prelude::*;

use super::*;
use crate::golden::path;
use crate::pack::{TextEncoderSizes, Weights};

fn options<'a>(
    checkpoint: &'a Path,
    text: Option<TextSource<'a>>,
    output: &'a Path,
) -> ImportOptions<'a> {
    ImportOptions {
        checkpoint,
        text,
        window: [288, 288, 96],
        name: "tiny",
        licence: "made for a test",
        prompts: &[],
        output,
    }
}

#[test]
#[ignore = "needs the folder of PROSECTOR_TEST_SAT"]
fn a_checkpoint_in_the_published_layout_becomes_the_pack_of_its_tensors() {
    let names =
        ["tiny_nano_checkpoint.pth", "tiny_text_ours_checkpoint.pth", "tiny_text_ours_vocab.txt"];
    let [network, text, tokenizer] = names.map(|name| path(&format!("golden/{name}")));
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("tiny");
    let source = TextSource { checkpoint: &text, tokenizer: &tokenizer, kind: None };
    let prompts = vec![("Liver".to_owned(), PromptModality::Ct)];

    let report =
        import(&ImportOptions { prompts: &prompts, ..options(&network, Some(source), &output) })
            .unwrap();

    assert_eq!(report.architecture.channels, [4, 4, 8, 16, 32, 48]);
    assert_eq!(report.prompts, 1);
    let pack = Pack::open(&output).unwrap();
    let verification = pack.verify(Convolution::Winograd).unwrap();
    assert_eq!(verification.files, 5);
    assert!(verification.probe_difference.is_some_and(|difference| difference < 1e-3));
    assert!(verification.embedding_difference.is_some_and(|difference| difference < 1e-4));
    let expected = std::fs::read(path("golden/tiny_nano_weights.safetensors")).unwrap();
    let expected = Weights::from_bytes(expected).unwrap();
    for (name, shape) in report.architecture.tensors() {
        let found = pack.weights().values(&name, &shape).unwrap();
        let expected = expected.values(&name, &shape).unwrap();
        // The checkpoint was saved after one step of its optimiser, which moved the mask head.
        let allowed = if name.starts_with("mask_embed_proj.") { 1.01e-4 } else { 0.0 };
        crate::golden::assert_close(&name, &found, &expected, allowed);
    }
    let golden = crate::golden::Golden::open("tiny_text_ours_a");
    let liver = pack.prompts().get("liver", PromptModality::Ct).unwrap();
    crate::golden::assert_close("liver", liver, &golden.floats("queries.ct")[..48], 1e-5);
    assert!(pack.has_text_encoder());
}

#[test]
fn the_kind_of_a_bert_has_to_be_stated_and_that_of_an_mpnet_must_not_be_another() {
    let sizes = TextEncoderSizes {
        layers: 3,
        hidden: 128,
        heads: 2,
        feed_forward: 256,
        vocabulary: 54,
        positions: 64,
        layer_norm_eps: 1e-12,
        max_tokens: 64,
        relative_buckets: None,
        projection_hidden: None,
        token_types: Some(2),
    };
    let of = |sizes: &TextEncoderSizes, kind| names::Kept {
        shapes: sizes.tensors(kind, 128, 4).into_iter().collect(),
        ..names::Kept::default()
    };
    let bert = of(&sizes, TextKind::MedCpt);
    let mpnet = TextEncoderSizes {
        relative_buckets: Some(32),
        projection_hidden: Some(128),
        token_types: None,
        max_tokens: 62,
        layer_norm_eps: 1e-5,
        ..sizes.clone()
    };
    let mpnet_tensors = of(&mpnet, TextKind::Ours);

    for kind in [TextKind::MedCpt, TextKind::BaseBert] {
        let found = sizes::text(&bert, Some(kind)).unwrap();
        assert_eq!(found, (kind, sizes.clone(), 4));
        let refused = sizes::text(&mpnet_tensors, Some(kind)).unwrap_err();
        assert_eq!(
            refused.to_string(),
            format!("the tensors are not of a {} text encoder", kind.as_str())
        );
    }
    let refused = sizes::text(&bert, None).unwrap_err();
    assert!(matches!(refused, InferSizesError::UnstatedEncoder));
    assert!(sizes::text(&bert, Some(TextKind::Ours)).is_err());
    for stated in [None, Some(TextKind::Ours)] {
        assert_eq!(
            sizes::text(&mpnet_tensors, stated).unwrap(),
            (TextKind::Ours, mpnet.clone(), 4)
        );
    }
}

#[test]
#[ignore = "needs the folder of PROSECTOR_TEST_SAT"]
fn an_import_that_fails_leaves_no_folder() {
    let text = path("golden/tiny_text_ours_checkpoint.pth");
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("pack");

    let refused = import(&options(&text, None, &output)).unwrap_err();

    assert!(matches!(refused, ImportError::Sizes { .. }), "{refused}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn files_that_are_no_checkpoints_are_refused_with_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("legacy.pth");
    let output = folder.path().join("pack");
    let refusal = |bytes: &[u8]| {
        std::fs::write(&file, bytes).unwrap();
        let refused = import(&options(&file, None, &output)).unwrap_err();
        std::error::Error::source(&refused).unwrap().to_string()
    };

    assert!(refusal(b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.").contains("not a zip archive"));
    assert!(refusal(b"").contains("not a zip archive"));
    let zip_without_entries = b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    assert!(refusal(zip_without_entries).contains("no readable data.pkl"));
}

#[test]
#[ignore = "needs the folder of PROSECTOR_TEST_SAT"]
fn every_missing_misshapen_and_unknown_tensor_is_named_at_once() {
    let network = path("golden/tiny_nano_checkpoint.pth");
    let mut source = Source::open(&network, Naming::Segmentation).unwrap();
    let needed = sizes::architecture(&source.kept).unwrap().tensors();
    source.kept.shapes.remove("transformer_decoder.norm.bias");
    source.kept.shapes.insert("projection_layer.0.bias".to_owned(), vec![7]);
    source.kept.shapes.insert("surprise.weight".to_owned(), vec![1]);

    let Err(ImportError::Tensors { problems, .. }) = source.check(&needed) else {
        panic!("the tensors do not fit");
    };

    assert_eq!(
        problems,
        [
            "projection_layer.0.bias has shape [7], expected [48]",
            "transformer_decoder.norm.bias is missing",
            "surprise.weight is unknown",
        ]
    );
}

/// Written by `tests/fixtures/make_views.py`.
#[test]
fn views_and_other_types_are_read_in_row_major_order() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/views.pth");
    let counted: Vec<f32> = (0..24u8).map(f32::from).collect();

    let checkpoint = Checkpoint::open(&file).unwrap();

    for name in [
        "plain",
        "permuted",
        "channels_last",
        "strided",
        "offset",
        "half",
        "bfloat",
        "double",
        "parameter",
    ] {
        assert_eq!(checkpoint.read(name), counted, "{name}");
    }
    assert_eq!(checkpoint.read("expanded"), [0.0; 5]);
    assert!(checkpoint.read("empty").is_empty());
    assert!(!checkpoint.tensors()["flags"].is_real());
    assert!(!checkpoint.tensors()["integers"].is_real());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    #[ignore = "needs the folder of PROSECTOR_TEST_SAT"]
    fn a_damaged_checkpoint_is_read_or_refused(place in any::<prop::sample::Index>(), byte: u8) {
        let network = path("golden/tiny_text_ours_checkpoint.pth");
        let mut bytes = std::fs::read(network).unwrap();
        let place = place.index(bytes.len());
        bytes[place] = byte;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("damaged.pth");
        std::fs::write(&file, bytes).unwrap();

        if let Ok(checkpoint) = Checkpoint::open(&file) {
            for name in checkpoint.tensors().keys() {
                checkpoint.read(name);
            }
        }
    }
}
