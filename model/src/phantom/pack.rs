//! The pack that is built in.

use crate::Pack;

const MANIFEST: &str = include_str!("../../phantom/pack/pack.toml");

/// Files of `model/phantom/pack`, made by the programs beside it.
const FILES: [(&str, &[u8]); 5] = [
    ("probe.safetensors", include_bytes!("../../phantom/pack/probe.safetensors")),
    ("weights.safetensors", include_bytes!("../../phantom/pack/weights.safetensors")),
    ("prompts.safetensors", include_bytes!("../../phantom/pack/prompts.safetensors")),
    ("text.safetensors", include_bytes!("../../phantom/pack/text.safetensors")),
    ("vocab.txt", include_bytes!("../../phantom/pack/vocab.txt")),
];

impl Pack {
    /// The phantom pack: a small network of SAT's topology that segments [`Torso`](super::Torso)s, for demonstration
    /// and self test. It has its own text encoder, and knows at least the prompts of [`Structure`](super::Structure).
    ///
    /// # Panics
    /// Never: a test opens the pack as it is built in.
    pub fn phantom() -> Self {
        Self::from_static(MANIFEST, &FILES).expect("the built-in pack fits its own manifest")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phantom::Structure;
    use crate::{Convolution, PromptModality};

    /// What may be built into the binary for the phantom pack.
    const MAX_BYTES: usize = 6_000_000;

    #[test]
    fn the_built_in_pack_is_whole_and_small() {
        let pack = Pack::phantom();

        pack.verify_digests().unwrap();
        assert!(pack.has_text_encoder());
        let size: usize = FILES.iter().map(|(_, bytes)| bytes.len()).sum();
        assert!(size < MAX_BYTES, "{size} bytes");
    }

    /// The probe's numbers were made by PyTorch.
    #[test]
    fn the_built_in_pack_passes_its_self_test() {
        let verified = Pack::phantom().verify(Convolution::default()).unwrap();

        assert!(verified.probe_difference.is_some_and(|difference| difference < 1e-3));
        assert!(verified.embedding_difference.is_some());
    }

    #[test]
    fn the_built_in_pack_knows_every_structure_by_its_prompt() {
        let pack = Pack::phantom();

        for structure in Structure::ALL {
            for modality in [PromptModality::Ct, PromptModality::Mri, PromptModality::Pet] {
                let known = pack.prompts().get(structure.prompt(), modality);
                assert!(known.is_some(), "{structure:?} for {modality:?}");
            }
        }
    }
}
