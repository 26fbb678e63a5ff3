//! Colours for display, sRGB to the encoding of Recommended Display CIELab Value (PS3.3 C.10.7.1.1).

/// Linear sRGB to CIE XYZ (IEC 61966-2-1), rows X, Y, Z.
const SRGB_TO_XYZ: [[f64; 3]; 3] = [
    [0.412_390_8, 0.357_584_34, 0.180_480_79],
    [0.212_639_01, 0.715_168_68, 0.072_192_32],
    [0.019_330_82, 0.119_194_78, 0.950_532_15],
];

/// Encodes an 8-bit sRGB colour as Recommended Display CIELab Value: L\*, a\*, b\*, each scaled to 16 bits.
///
/// The white point is that of sRGB itself (D65). The profile connection space that the standard points to has D50;
/// but dcmqi (3D Slicer), dcmjs (OHIF) and highdicom all read and write these values with D65, and with the same white
/// here a viewer shows the colour that was configured.
pub fn recommended_display_cielab(rgb: [u8; 3]) -> [u16; 3] {
    let linear = rgb.map(|channel| {
        let v = f64::from(channel) / 255.0;
        if v <= 0.040_45 { v / 12.92 } else { ((v + 0.055) / 1.055).powf(2.4) }
    });
    let [x, y, z] = SRGB_TO_XYZ.map(|row| {
        let white: f64 = row.iter().sum();
        let value: f64 = row.iter().zip(linear).map(|(weight, channel)| weight * channel).sum();
        lightness(value / white)
    });
    let l = 116.0 * y - 16.0;
    let a = 500.0 * (x - y);
    let b = 200.0 * (y - z);
    let encode = |value: f64| value.round().clamp(0.0, 65535.0) as u16;
    [
        encode(l * 65535.0 / 100.0),
        encode((a + 128.0) * 65535.0 / 255.0),
        encode((b + 128.0) * 65535.0 / 255.0),
    ]
}

/// The cube root of CIE 15, linear near black.
fn lightness(ratio: f64) -> f64 {
    const DELTA: f64 = 6.0 / 29.0;
    if ratio > DELTA.powi(3) { ratio.cbrt() } else { ratio / (3.0 * DELTA * DELTA) + 4.0 / 29.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of highdicom 0.28.2, `color.CIELabColor.from_rgb(r, g, b).value`. It rounds its white point to four
    /// digits, hence the tolerance of 5 in 65535.
    #[test]
    fn agrees_with_highdicom() {
        let expected = [
            ([255, 0, 0], [34886, 53484, 50172]),
            ([0, 255, 0], [57498, 10747, 54274]),
            ([0, 0, 255], [21170, 53250, 5175]),
            ([255, 255, 255], [65535, 32897, 32893]),
            ([0, 0, 0], [0, 32896, 32896]),
            ([221, 130, 101], [41661, 41167, 40792]),
            ([128, 174, 128], [43803, 26565, 37722]),
            ([249, 186, 150], [52715, 37588, 39866]),
        ];

        for (rgb, value) in expected {
            let ours = recommended_display_cielab(rgb);
            let close = ours.iter().zip(value).all(|(&a, b)| a.abs_diff(b) <= 5);
            assert!(close, "{rgb:?}: {ours:?}, highdicom has {value:?}");
        }
    }
}
