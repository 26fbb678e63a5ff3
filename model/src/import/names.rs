//! Which names of a checkpoint count.

use std::collections::BTreeMap;

use crate::pack::is_unused_bias;

use super::checkpoint::Checkpoint;

/// What kind of checkpoint is sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Naming {
    /// Network.
    Segmentation,
    /// Text encoder.
    TextEncoder,
}

/// Tensors by their canonical names.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) shapes: BTreeMap<String, Vec<usize>>,
    /// Name in the file for each canonical name.
    pub(super) stored: BTreeMap<String, String>,
    /// How many names were left out for which reason.
    pub(super) left_out: BTreeMap<&'static str, usize>,
}

/// Strips the prefix of distributed training and leaves out what inference does not read.
pub(super) fn sort(checkpoint: &Checkpoint, naming: Naming) -> Kept {
    let mut kept = Kept::default();
    for (stored_name, tensor) in checkpoint.tensors() {
        let name = stored_name.strip_prefix("module.").unwrap_or(stored_name);
        let reason = match naming {
            Naming::Segmentation => unread_by_network(name),
            Naming::TextEncoder => unread_by_text_encoder(name),
        };
        let reason = reason.or((!tensor.is_real()).then_some("not real numbers"));
        if let Some(reason) = reason {
            *kept.left_out.entry(reason).or_default() += 1;
            continue;
        }
        kept.shapes.insert(name.to_owned(), tensor.shape.clone());
        kept.stored.insert(name.to_owned(), stored_name.clone());
    }
    kept
}

fn unread_by_network(name: &str) -> Option<&'static str> {
    let is_unapplied_norm = name
        .strip_prefix("transformer_decoder.layers.")
        .and_then(|rest| rest.split_once('.'))
        .is_some_and(|(_, part)| part.starts_with("norm1."));
    if name.contains(".all_modules.") {
        Some("alias of another name")
    } else if name.starts_with("mid_mask_embed_proj.") {
        Some("deep supervision, training only")
    } else if is_unapplied_norm {
        Some("layer norm that is never applied")
    } else if is_unused_bias(name) {
        Some("bias that the instance norm removes")
    } else {
        None
    }
}

fn unread_by_text_encoder(name: &str) -> Option<&'static str> {
    if name.ends_with("position_ids") || name.ends_with("token_type_ids") {
        Some("constant buffer")
    } else if name.contains(".pooler.") {
        Some("pooler, not used")
    } else if name.contains("atlas_tower") || name.contains("temperature") {
        Some("pre-training only")
    } else {
        None
    }
}
