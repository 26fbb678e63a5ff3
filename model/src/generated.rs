//! Tensors that follow from their names alone: weights for tests and benchmarks, and the probe's image.

/// Values of the tensor called `name` before scaling: in [-1, 1), exact in `f32`.
///
/// FNV-1a 64 of the name seeds `SplitMix64`; the top 24 bits of each output make a value.
pub fn generated_values(name: &str, count: usize) -> impl Iterator<Item = f32> {
    let seed = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (1..=count as u64).map(move |i| {
        let z = seed.wrapping_add(i.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let z = z ^ (z >> 31);
        (z >> 40) as f32 * (1.0 / (1 << 23) as f32) - 1.0
    })
}

/// A weight tensor of the canonical `name` and `shape`, scaled so that activations keep their order of magnitude.
pub fn generated_tensor(name: &str, shape: &[usize]) -> Vec<f32> {
    let (offset, scale) = offset_and_scale(name, shape);
    let scale = scale as f32;
    let scaled = generated_values(name, shape.iter().product()).map(|value| value * scale);
    if offset == 0.0 { scaled.collect() } else { scaled.map(|value| offset + value).collect() }
}

/// Image, query or other input of unit variance called `name`.
pub fn generated_input(name: &str, count: usize) -> Vec<f32> {
    let scale = 3f64.sqrt() as f32;
    generated_values(name, count).map(|value| value * scale).collect()
}

fn offset_and_scale(name: &str, shape: &[usize]) -> (f32, f64) {
    let is_table = name.contains("relative_attention_bias")
        || name.ends_with("embeddings.weight")
        || name.contains("modality_embed");
    if is_table {
        return (0.0, 1.0);
    }
    let is_bias = matches!(name.rsplit('.').next(), Some("bias" | "in_proj_bias"));
    if is_bias {
        let is_last_of_mask_head =
            name.ends_with("mask_embed_proj.2.bias") && !name.contains("mid_");
        return if is_last_of_mask_head { (-0.5, 0.5) } else { (0.0, 0.1) };
    }
    match shape.len() {
        1 => (1.0, 0.1),
        5 if name.contains("transpconvs") => (0.0, (6.0 / shape[0] as f64).sqrt()),
        5 => (0.0, (6.0 / (shape[1] * 27) as f64).sqrt()),
        _ => (0.0, (3.0 / shape[1] as f64).sqrt()),
    }
}
