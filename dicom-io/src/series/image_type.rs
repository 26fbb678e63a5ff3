//! Values of Image Type and Frame Type that say what an image is.

/// Values that mark something other than a cross-section: scouts, screen captures, mosaics, projections.
const NO_CROSS_SECTION: [&str; 12] = [
    "LOCALIZER",
    "SCOUT",
    "TOPOGRAM",
    "SURVIEW",
    "REF_SURVIEW",
    "SCREEN SAVE",
    "SCREENSAVE",
    "REPORT",
    "MOSAIC",
    "MIP",
    "MINIP",
    "PROJECTION IMAGE",
];

/// Values that tell apart images of one acquisition: parts of the complex signal, and what Dixon computes from them.
const CONTRASTS: [&str; 22] = [
    "M",
    "P",
    "R",
    "I",
    "MAGNITUDE",
    "PHASE",
    "REAL",
    "IMAGINARY",
    "PHASE MAP",
    "VELOCITY",
    "W",
    "F",
    "IP",
    "OP",
    "WATER",
    "FAT",
    "IN_PHASE",
    "OUT_PHASE",
    "OPP_PHASE",
    "ADC",
    "FA",
    "TRACEW",
];

/// The value that says that the image is no cross-section.
pub(super) fn no_cross_section(image_type: &[String]) -> Option<&'static str> {
    NO_CROSS_SECTION.into_iter().find(|known| image_type.iter().any(|value| value == known))
}

/// The values that name the contrast.
pub(super) fn contrasts(image_type: &[String]) -> Vec<String> {
    // Values 1 and 2 say where the pixels come from (PS3.3 C.7.6.1.1.2).
    let specific = image_type.iter().skip(2);
    specific.filter(|value| CONTRASTS.contains(&value.as_str())).cloned().collect()
}
