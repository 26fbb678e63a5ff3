//! Sizes of a segmentation network.

use serde::{Deserialize, Serialize};

/// Largest width or count that a manifest may state; published networks stay below 4096.
const MAX_WIDTH: usize = 1 << 14;

/// Sizes of the 3D U-Net, the token projection, the query decoder and the mask head.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Architecture {
    /// Input channels of the first kernel; all are fed the same image, so they may be summed.
    pub input_channels: usize,
    /// Channels of the encoder stages, finest first. Every stage after the first halves the grid.
    pub channels: Vec<usize>,
    /// Conv units of an encoder stage.
    pub encoder_units: usize,
    /// Conv units of a decoder stage.
    pub decoder_units: usize,
    /// Middle width of the token projection.
    pub token_hidden: usize,
    /// Width of queries and tokens.
    pub query_width: usize,
    /// Attention heads of the query decoder.
    pub query_heads: usize,
    /// Layers of the query decoder.
    pub query_layers: usize,
    /// Hidden width of the query decoder's feed-forward network.
    pub query_feed_forward: usize,
    /// Middle width of the mask head.
    pub mask_hidden: usize,
}

impl Architecture {
    /// Channels of the per-voxel features and of a mask embedding.
    pub fn feature_width(&self) -> usize {
        self.channels[0]
    }

    /// Edge of one token in voxels: every window axis is a multiple of it.
    pub fn token_edge(&self) -> usize {
        1 << (self.channels.len() - 1)
    }

    /// Input width of the token projection: channels of all stages together.
    pub fn token_input(&self) -> usize {
        self.channels.iter().sum()
    }

    /// Every tensor that the network reads, with its shape; the unused biases of conv units left out.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let mut list = TensorList::default();
        let mut inputs = self.input_channels;
        for (stage, &outputs) in self.channels.iter().enumerate() {
            let prefix = format!("backbone.encoder.stages.{stage}.0");
            list.conv_units(&prefix, self.encoder_units, inputs, outputs);
            inputs = outputs;
        }
        let coarse_to_fine = self.channels.iter().rev().skip(1).enumerate();
        for (stage, &outputs) in coarse_to_fine {
            let upsampling = format!("backbone.decoder.transpconvs.{stage}");
            list.push(format!("{upsampling}.weight"), &[inputs, outputs, 2, 2, 2]);
            list.push(format!("{upsampling}.bias"), &[outputs]);
            let prefix = format!("backbone.decoder.stages.{stage}");
            list.conv_units(&prefix, self.decoder_units, 2 * outputs, outputs);
            inputs = outputs;
        }
        let width = self.query_width;
        list.linear("projection_layer.0", self.token_input(), self.token_hidden);
        list.linear("projection_layer.2", self.token_hidden, width);
        for layer in 0..self.query_layers {
            let prefix = format!("transformer_decoder.layers.{layer}");
            let attention = format!("{prefix}.multihead_attn");
            list.push(format!("{attention}.in_proj_weight"), &[3 * width, width]);
            list.push(format!("{attention}.in_proj_bias"), &[3 * width]);
            list.linear(&format!("{attention}.out_proj"), width, width);
            list.linear(&format!("{prefix}.linear1"), width, self.query_feed_forward);
            list.linear(&format!("{prefix}.linear2"), self.query_feed_forward, width);
            list.norm(&format!("{prefix}.norm2"), width);
            list.norm(&format!("{prefix}.norm3"), width);
        }
        list.norm("transformer_decoder.norm", width);
        list.linear("mask_embed_proj.0", width, self.mask_hidden);
        list.linear("mask_embed_proj.2", self.mask_hidden, self.feature_width());
        list.0
    }

    /// Appends what is wrong with these sizes to `problems`.
    pub(crate) fn check(&self, problems: &mut Vec<String>) {
        let stages = self.channels.len();
        if !(2..=8).contains(&stages) {
            problems.push(format!("architecture.channels: {stages} stages, allowed are 2 to 8"));
        }
        let sizes = [
            ("input_channels", self.input_channels),
            ("encoder_units", self.encoder_units),
            ("decoder_units", self.decoder_units),
            ("token_hidden", self.token_hidden),
            ("query_width", self.query_width),
            ("query_heads", self.query_heads),
            ("query_layers", self.query_layers),
            ("query_feed_forward", self.query_feed_forward),
            ("mask_hidden", self.mask_hidden),
        ];
        let channels = self.channels.iter().map(|&channels| ("channels", channels));
        for (name, size) in sizes.into_iter().chain(channels) {
            if !(1..=MAX_WIDTH).contains(&size) {
                problems.push(format!("architecture.{name}: {size}, allowed are 1 to {MAX_WIDTH}"));
            }
        }
        if self.query_heads != 0 && !self.query_width.is_multiple_of(self.query_heads) {
            problems.push(format!(
                "architecture.query_heads: width {} is no multiple of {} heads",
                self.query_width, self.query_heads
            ));
        }
    }
}

#[derive(Default)]
pub(crate) struct TensorList(pub(crate) Vec<(String, Vec<usize>)>);

impl TensorList {
    pub(crate) fn push(&mut self, name: String, shape: &[usize]) {
        self.0.push((name, shape.to_vec()));
    }

    pub(crate) fn linear(&mut self, name: &str, inputs: usize, outputs: usize) {
        self.push(format!("{name}.weight"), &[outputs, inputs]);
        self.push(format!("{name}.bias"), &[outputs]);
    }

    pub(crate) fn norm(&mut self, name: &str, width: usize) {
        self.push(format!("{name}.weight"), &[width]);
        self.push(format!("{name}.bias"), &[width]);
    }

    fn conv_units(&mut self, prefix: &str, units: usize, inputs: usize, outputs: usize) {
        for unit in 0..units {
            let unit_inputs = if unit == 0 { inputs } else { outputs };
            let name = format!("{prefix}.convs.{unit}");
            self.push(format!("{name}.conv.weight"), &[outputs, unit_inputs, 3, 3, 3]);
            self.norm(&format!("{name}.norm"), outputs);
        }
    }
}
