//! Segmentations of series that others made, read by programs that others made.

mod charsets;
mod compressed;
mod element_tree;
mod example;
mod labelmap;
mod lineage;
mod mutants;
mod peers;
mod picture;
mod rejection;
mod report;
mod series;
mod source;
mod structure_set;
