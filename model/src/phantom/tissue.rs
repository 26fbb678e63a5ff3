//! What a torso is made of.

use super::structure::{Structure, Structures};

/// What fills a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Tissue {
    Air,
    Table,
    Skin,
    Fat,
    Muscle,
    Rib,
    Canal,
    Bowel,
    Heart,
    Stomach,
    VenaCava,
    LeftLung,
    RightLung,
    Liver,
    Spleen,
    LeftKidney,
    RightKidney,
    Aorta,
    Vertebra,
}

impl Tissue {
    pub(super) const COUNT: usize = Self::Vertebra as usize + 1;

    /// The structures that the tissue belongs to.
    pub(super) fn structures(self) -> Structures {
        const NONE: Structures = Structures::of(&[]);
        const BODY: Structures = Structures::of(&[Structure::Body]);
        const LEFT_LUNG: Structures =
            Structures::of(&[Structure::Body, Structure::Lung, Structure::LeftLung]);
        const RIGHT_LUNG: Structures =
            Structures::of(&[Structure::Body, Structure::Lung, Structure::RightLung]);
        const LIVER: Structures = Structures::of(&[Structure::Body, Structure::Liver]);
        const SPLEEN: Structures = Structures::of(&[Structure::Body, Structure::Spleen]);
        const LEFT_KIDNEY: Structures =
            Structures::of(&[Structure::Body, Structure::Kidney, Structure::LeftKidney]);
        const RIGHT_KIDNEY: Structures =
            Structures::of(&[Structure::Body, Structure::Kidney, Structure::RightKidney]);
        const AORTA: Structures = Structures::of(&[Structure::Body, Structure::Aorta]);
        const VERTEBRAE: Structures = Structures::of(&[Structure::Body, Structure::Vertebrae]);
        match self {
            Self::Air | Self::Table => NONE,
            Self::LeftLung => LEFT_LUNG,
            Self::RightLung => RIGHT_LUNG,
            Self::Liver => LIVER,
            Self::Spleen => SPLEEN,
            Self::LeftKidney => LEFT_KIDNEY,
            Self::RightKidney => RIGHT_KIDNEY,
            Self::Aorta => AORTA,
            Self::Vertebra => VERTEBRAE,
            _ => BODY,
        }
    }
}
