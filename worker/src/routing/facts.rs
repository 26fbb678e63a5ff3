//! What routing knows of a series.

use std::collections::BTreeMap;

use dicom_io::Attribute;
use dicom_types::{AeTitle, GridGeometry};
use serde::{Deserialize, Serialize};

use super::derived::KnownPhase;

/// How far a plane's normal may lean from an axis of the patient and still count as that plane: 20 degrees, a gantry
/// tilt or an angulation along the anatomy.
const PLANE_COSINE: f64 = 0.94;

/// Facts of a series, of its association and of its volume.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct SeriesFacts {
    /// Values of header attributes by the standard's keyword; an attribute without value is absent.
    pub(super) values: BTreeMap<&'static str, Vec<String>>,
    /// What the values say of contrast.
    pub(super) phase: KnownPhase,
    /// Who sent it, where it came over the network.
    pub(crate) calling_ae_title: Option<AeTitle>,
    /// What the sender called us.
    pub(crate) called_ae_title: Option<AeTitle>,
    /// Number of instances.
    pub(crate) instances: usize,
    /// Shape and spacing, where the series is a volume.
    pub(crate) geometry: Option<GeometryFacts>,
}

impl SeriesFacts {
    /// Facts of a series of `instances`, without attributes yet.
    pub(crate) fn new(instances: usize) -> Self {
        Self { instances, ..Self::default() }
    }

    /// Keeps the values of `attribute`, unless there are none.
    pub(crate) fn set(&mut self, attribute: &Attribute, values: Vec<String>) {
        if !values.is_empty() {
            self.values.insert(attribute.keyword(), values);
            self.phase = KnownPhase::default();
        }
    }

    /// The first value of the attribute with this keyword.
    pub(crate) fn first(&self, keyword: &str) -> Option<&str> {
        self.values.get(keyword)?.first().map(String::as_str)
    }

    /// The first value of the attribute with this keyword, as a number.
    pub(crate) fn number(&self, keyword: &str) -> Option<f64> {
        self.first(keyword)?.trim().parse().ok()
    }

    /// The values of `attribute`; none when it is absent or empty.
    pub(crate) fn values(&self, attribute: &Attribute) -> &[String] {
        self.values.get(attribute.keyword()).map_or(&[], Vec::as_slice)
    }
}

/// Shape and spacing of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct GeometryFacts {
    /// Number of slices.
    pub(crate) slices: usize,
    /// Distance of neighbouring planes, millimetres.
    pub(crate) slice_spacing_mm: f64,
    /// The larger distance of neighbouring pixels in the plane, millimetres.
    pub(crate) pixel_spacing_mm: f64,
    /// Distance of the first plane from the last, and one slice, millimetres.
    pub(crate) coverage_mm: f64,
    /// How the planes lie in the patient.
    pub(crate) plane: Plane,
    /// Space that the voxels fill, litres.
    pub(crate) volume_l: f64,
}

impl From<&GridGeometry> for GeometryFacts {
    fn from(geometry: &GridGeometry) -> Self {
        let slices = geometry.shape()[0];
        let slice_spacing_mm = geometry.plane_distance_mm();
        let [_, rows_mm, columns_mm] = geometry.spacing_mm();
        Self {
            slices,
            slice_spacing_mm,
            pixel_spacing_mm: rows_mm.max(columns_mm),
            coverage_mm: slices as f64 * slice_spacing_mm,
            plane: Plane::of_normal(geometry.plane_normal()),
            volume_l: geometry.voxels() as f64 * geometry.voxel_volume_mm3() / 1e6,
        }
    }
}

/// How image planes lie in the patient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Plane {
    /// Normal along the body.
    Axial,
    /// Normal from front to back.
    Coronal,
    /// Normal from side to side.
    Sagittal,
    /// None of these within 20 degrees.
    Oblique,
}

impl Plane {
    /// Every plane as it is written.
    pub(crate) const WORDS: &[&str] = &["axial", "coronal", "sagittal", "oblique"];

    /// The plane as it is written.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Axial => "axial",
            Self::Coronal => "coronal",
            Self::Sagittal => "sagittal",
            Self::Oblique => "oblique",
        }
    }

    fn of_normal(normal: [f64; 3]) -> Self {
        let [x, y, z] = normal.map(f64::abs);
        if z >= PLANE_COSINE {
            Self::Axial
        } else if y >= PLANE_COSINE {
            Self::Coronal
        } else if x >= PLANE_COSINE {
            Self::Sagittal
        } else {
            Self::Oblique
        }
    }
}
