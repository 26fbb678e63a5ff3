//! What can be asked for in a phantom.

/// A structure of a phantom whose truth is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Structure {
    /// Everything inside the skin.
    Body,
    /// Both lungs.
    Lung,
    /// The lung on the patient's left.
    LeftLung,
    /// The lung on the patient's right.
    RightLung,
    /// The liver, on the patient's right.
    Liver,
    /// The spleen, on the patient's left.
    Spleen,
    /// Both kidneys.
    Kidney,
    /// The kidney on the patient's left, without its hilum.
    LeftKidney,
    /// The kidney on the patient's right, without its hilum.
    RightKidney,
    /// The descending aorta.
    Aorta,
    /// The column of vertebral bodies with the discs between them, without arches and processes.
    Vertebrae,
}

impl Structure {
    /// Every structure.
    pub const ALL: [Self; 11] = [
        Self::Body,
        Self::Lung,
        Self::LeftLung,
        Self::RightLung,
        Self::Liver,
        Self::Spleen,
        Self::Kidney,
        Self::LeftKidney,
        Self::RightKidney,
        Self::Aorta,
        Self::Vertebrae,
    ];

    /// The text prompt that the phantom pack knows the structure by.
    pub fn prompt(self) -> &'static str {
        match self {
            Self::Body => "body",
            Self::Lung => "lung",
            Self::LeftLung => "left lung",
            Self::RightLung => "right lung",
            Self::Liver => "liver",
            Self::Spleen => "spleen",
            Self::Kidney => "kidney",
            Self::LeftKidney => "left kidney",
            Self::RightKidney => "right kidney",
            Self::Aorta => "aorta",
            Self::Vertebrae => "vertebrae",
        }
    }

    /// The structure with the prompt `prompt`, in any case.
    pub fn from_prompt(prompt: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|structure| structure.prompt().eq_ignore_ascii_case(prompt))
    }

    /// The same structure on the other side of the body, for one of a pair.
    pub fn mirrored(self) -> Option<Self> {
        match self {
            Self::LeftLung => Some(Self::RightLung),
            Self::RightLung => Some(Self::LeftLung),
            Self::LeftKidney => Some(Self::RightKidney),
            Self::RightKidney => Some(Self::LeftKidney),
            _ => None,
        }
    }
}

/// The set of structures that a point belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Structures(u16);

impl Structures {
    pub(super) const fn of(structures: &[Structure]) -> Self {
        let mut bits = 0;
        let mut i = 0;
        while i < structures.len() {
            bits |= 1 << structures[i] as u16;
            i += 1;
        }
        Self(bits)
    }

    /// Whether the set holds `structure`.
    pub fn contains(self, structure: Structure) -> bool {
        self.0 >> structure as u16 & 1 == 1
    }

    /// The set as bits, in the order of [`Structure::ALL`], the first in the least significant.
    pub fn bits(self) -> u16 {
        self.0
    }
}
