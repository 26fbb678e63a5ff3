//! Facts that scanners write each in their own way: contrast, its phase, how soft a kernel is, the time of day.

use std::sync::{LazyLock, OnceLock};

use regex::Regex;

use super::SeriesFacts;

/// Attributes that say whether contrast was given, and when it was looked at.
pub(super) const OF_CONTRAST: &[&str] = &[
    "ContrastBolusAgent",
    "ContrastBolusAgentPhase",
    "ContrastBolusRoute",
    "ContrastBolusTotalDose",
    "ContrastBolusVolume",
    "ProtocolName",
    "SeriesDescription",
];
/// Attributes that say how a CT was reconstructed.
pub(super) const OF_KERNEL: &[&str] = &["ConvolutionKernel"];
/// Attributes that say when the scanner was at work, the nearest to the image first.
pub(super) const OF_TIME: &[&str] = &["AcquisitionTime", "SeriesTime", "StudyTime"];

/// When a scan looked at the contrast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Without contrast.
    Native,
    /// In the arteries.
    Arterial,
    /// In the veins, the portal vein among them.
    Venous,
    /// On its way out.
    Delayed,
    /// With contrast, and nobody says when.
    Unknown,
}

impl Phase {
    /// Every phase as it is written.
    pub(crate) const WORDS: &[&str] = &["native", "arterial", "venous", "delayed", "unknown"];

    /// The phase as it is written.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Arterial => "arterial",
            Self::Venous => "venous",
            Self::Delayed => "delayed",
            Self::Unknown => "unknown",
        }
    }
}

/// How much a kernel smooths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kernel {
    /// For organs.
    Soft,
    /// Between the two.
    Medium,
    /// For lungs and bones.
    Sharp,
}

impl Kernel {
    /// Every kind of kernel as it is written.
    pub(crate) const WORDS: &[&str] = &["soft", "medium", "sharp"];

    /// The kind as it is written.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Soft => "soft",
            Self::Medium => "medium",
            Self::Sharp => "sharp",
        }
    }
}

/// Words of descriptions, English and German, as they stand between other words.
struct Words {
    native: Regex,
    contrast: Regex,
    arterial: Regex,
    venous: Regex,
    delayed: Regex,
}

static WORDS: LazyLock<Words> = LazyLock::new(|| {
    let words = |pattern: &str| {
        let bounded = format!("(?i)(?:^|[^a-zäöü0-9])(?:{pattern})(?:$|[^a-zäöü0-9])");
        Regex::new(&bounded).expect("a constant that tests read")
    };
    Words {
        native: words(
            "native?|nativ|non[- ]?contrast|unenhanced|ohne ?km|w/?o(?: contrast)?|without contrast|nc|plain|pre ?contrast|c-",
        ),
        contrast: words(
            "with contrast|w/? contrast|post ?contrast|enhanced|ce|mit ?km|km|c\\+|gd|post ?gd|iv|i\\.v\\.",
        ),
        arterial: words("art|arterial(?: phase)?|arteriell|aortic|cta|angio|early"),
        venous: words(
            "ven|venous|venös|venoes|portal(?: ?venous)?|portalvenös|pv|pvp|[67]0 ?s(?:ec)?",
        ),
        delayed: words(
            "delayed|delay|late|spät|spaet|equilibrium|excretory|nephrographic|urographic",
        ),
    }
});

/// The phase of a series once somebody asked for it: many rules do, and each would read the descriptions again.
#[derive(Debug, Clone, Default)]
pub(super) struct KnownPhase(OnceLock<Phase>);

/// What follows from the attributes makes no difference between facts.
impl PartialEq for KnownPhase {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// When the scan looked at contrast, from its own attributes first and from the words of its descriptions then.
pub(crate) fn phase(facts: &SeriesFacts) -> Phase {
    *facts.phase.0.get_or_init(|| phase_of(facts))
}

fn phase_of(facts: &SeriesFacts) -> Phase {
    let texts = || {
        ["ContrastBolusAgentPhase", "SeriesDescription", "ProtocolName"]
            .iter()
            .filter_map(|keyword| facts.first(keyword))
    };
    let says = |pattern: &Regex| texts().any(|text| pattern.is_match(text));
    // The words of one series decide before those of the protocol, which often names several phases.
    for text in texts() {
        if WORDS.native.is_match(text) {
            return Phase::Native;
        }
        for (pattern, phase) in [
            (&WORDS.delayed, Phase::Delayed),
            (&WORDS.venous, Phase::Venous),
            (&WORDS.arterial, Phase::Arterial),
        ] {
            if pattern.is_match(text) {
                return phase;
            }
        }
    }
    if agent_was_given(facts) || says(&WORDS.contrast) { Phase::Unknown } else { Phase::Native }
}

/// Whether contrast was given before the scan.
pub(crate) fn contrast(facts: &SeriesFacts) -> bool {
    phase(facts) != Phase::Native
}

/// PS3.3 C.7.6.4: scanners write the module without contrast, too, with an empty or a negative agent.
fn agent_was_given(facts: &SeriesFacts) -> bool {
    let agent = facts.first("ContrastBolusAgent").map(str::to_lowercase);
    let is_none = |agent: &str| matches!(agent, "no" | "none" | "n" | "0" | "without" | "ohne");
    let amount = |keyword| facts.number(keyword).is_some_and(|amount| amount > 0.0);
    match agent {
        Some(agent) => !is_none(agent.trim()),
        None => amount("ContrastBolusVolume") || amount("ContrastBolusTotalDose"),
    }
}

/// How much the Convolution Kernel (0018,1210) smooths, by the vendors' own names.
pub(crate) fn kernel(facts: &SeriesFacts) -> Option<Kernel> {
    let name = facts.first("ConvolutionKernel")?.trim().to_ascii_uppercase();
    // GE
    match name.as_str() {
        "SOFT" | "STANDARD" | "STND" | "CHST" => return Some(Kernel::Soft),
        "DETAIL" => return Some(Kernel::Medium),
        "LUNG" | "BONE" | "BONEPLUS" | "EDGE" | "ULTRA" => return Some(Kernel::Sharp),
        _ => {}
    }
    let letters: String = name.chars().take_while(char::is_ascii_alphabetic).collect();
    let digits: String =
        name.chars().skip(letters.len()).take_while(char::is_ascii_digit).collect();
    let number: Option<u32> = digits.parse().ok();
    match (letters.as_str(), number) {
        // Siemens: B30f, Br40d, I31s, Qr36, Hr38; the number grows with sharpness.
        (
            "B" | "BR" | "BL" | "BV" | "BF" | "I" | "Q" | "QR" | "H" | "HR" | "HC" | "J" | "T"
            | "U" | "D" | "SA",
            Some(number),
        ) => Some(match number {
            0..=44 => Kernel::Soft,
            45..=52 => Kernel::Medium,
            _ => Kernel::Sharp,
        }),
        // Canon, Toshiba: body soft below 20, head 20 to 29, lung and bone from 30 on.
        ("FC", Some(number)) => Some(match number {
            0..=29 | 41..=49 => Kernel::Soft,
            _ => Kernel::Sharp,
        }),
        // Philips: A, B, C grow sharper; L is for lungs, D, E, YC, YD, YE for bones.
        ("A" | "B" | "UA" | "UB", None) => Some(Kernel::Soft),
        ("C" | "UC" | "YA" | "YB", None) => Some(Kernel::Medium),
        ("D" | "E" | "L" | "YC" | "YD" | "YE" | "LA" | "LB" | "LC", None) => Some(Kernel::Sharp),
        _ => None,
    }
}

/// The scanner's clock when the image was made, as a time of PS3.5 6.2.
pub(crate) fn time_of_day(facts: &SeriesFacts) -> Option<&str> {
    OF_TIME.iter().find_map(|keyword| facts.first(keyword))
}

#[cfg(test)]
mod tests {
    use dicom_io::Attribute;

    use super::*;

    fn facts(values: &[(&str, &str)]) -> SeriesFacts {
        let mut facts = SeriesFacts::new(1);
        for (keyword, value) in values {
            facts.set(&Attribute::by_keyword(keyword).unwrap(), vec![(*value).to_owned()]);
        }
        facts
    }

    #[test]
    fn phases_are_read_from_agents_and_from_the_words_of_a_series() {
        let described = |text| phase(&facts(&[("SeriesDescription", text)]));

        assert_eq!(described("Abdomen 2.0 B30f"), Phase::Native);
        assert_eq!(described("Abd ven. 1.0"), Phase::Venous);
        assert_eq!(described("ABDOMEN PORTAL VENOUS 3MM"), Phase::Venous);
        assert_eq!(described("Leber arteriell 2mm"), Phase::Arterial);
        assert_eq!(described("THORAX C+ 1.5"), Phase::Unknown);
        assert_eq!(described("delayed 5 min"), Phase::Delayed);
        assert_eq!(described("Schädel nativ"), Phase::Native);
        // "aventricular" holds "ven", "start" holds "art".
        assert_eq!(described("aventricular start"), Phase::Native);
        assert_eq!(phase(&facts(&[("ContrastBolusAgent", "Ultravist 370")])), Phase::Unknown);
        assert_eq!(phase(&facts(&[("ContrastBolusAgent", "NONE")])), Phase::Native);
        let both = [("ContrastBolusAgent", "CE"), ("SeriesDescription", "nativ")];
        assert!(!contrast(&facts(&both)));
    }

    #[test]
    fn kernels_of_five_vendors_are_told_apart() {
        let kernel = |name| super::kernel(&facts(&[("ConvolutionKernel", name)]));

        for soft in ["B30f", "Br40d", "I31s", "STANDARD", "FC08", "B", "Qr36d"] {
            assert_eq!(kernel(soft), Some(Kernel::Soft), "{soft}");
        }
        for sharp in ["B70f", "Br64", "LUNG", "BONEPLUS", "FC52", "FC81", "YC", "L"] {
            assert_eq!(kernel(sharp), Some(Kernel::Sharp), "{sharp}");
        }
        assert_eq!(kernel("B50f"), Some(Kernel::Medium));
        assert_eq!(kernel("unheard-of"), None);
    }
}
