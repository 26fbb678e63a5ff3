//! Volumes as pydicom and highdicom see them.

use std::fmt::Write as _;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use dicom_io::series::{Stack, read_stacks};

use super::shared_material::folders;
use crate::header::corpus;

/// A stack as read by `tests/python/read_volume.py`.
pub(super) struct ReadByOthers {
    shape: Vec<usize>,
    /// From `[slice, row, column, 1]` to LPS millimetres, row by row, with the mean step between the positions.
    matrix: Vec<f64>,
    /// The same by highdicom, which steps along the normal; empty where it knows no such volume.
    pub(super) matrix_of_highdicom: Vec<f64>,
    values: Vec<f64>,
}

/// The interpreter that `PROSECTOR_TEST_PYTHON` names.
pub(super) fn interpreter() -> PathBuf {
    let python = std::env::var_os("PROSECTOR_TEST_PYTHON").map(PathBuf::from);
    python.expect("PROSECTOR_TEST_PYTHON is not set: run the tests through ops/test")
}

/// Reads all `stacks`, in one run of the interpreter.
pub(super) fn read_by_others(python: &Path, stacks: &[Stack]) -> Vec<ReadByOthers> {
    let folder = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/python/read_volume.py");
    let mut list = String::new();
    for (i, stack) in stacks.iter().enumerate() {
        for slice in &stack.slices {
            let frame = slice.frame_number.map_or(0, std::num::NonZeroU32::get);
            writeln!(list, "{i}\t{frame}\t{}", slice.path.display()).unwrap();
        }
    }
    let list_file = folder.path().join("stacks.txt");
    std::fs::write(&list_file, list).unwrap();
    let output = Command::new(python)
        .arg(script)
        .arg(folder.path())
        .stdin(File::open(list_file).unwrap())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines = text.lines();
    (0..stacks.len())
        .map(|i| {
            let mut numbers = || -> Vec<f64> {
                let line = lines.next().unwrap();
                line.split_whitespace().map(|number| number.parse().unwrap()).collect()
            };
            let shape = numbers().into_iter().map(|n| n as usize).collect();
            let matrix = numbers();
            let matrix_of_highdicom = numbers();
            let values = std::fs::read(folder.path().join(format!("{i}.f64"))).unwrap();
            let (values, _) = values.as_chunks::<8>();
            let values = values.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect();
            ReadByOthers { shape, matrix, matrix_of_highdicom, values }
        })
        .collect()
}

/// Panics where the other reader sees another voxel or another place.
pub(super) fn assert_same(name: &str, stack: &Stack, others: &ReadByOthers) {
    assert_eq!(stack.geometry.shape().to_vec(), others.shape, "{name}: shape");
    let origin = stack.geometry.origin_mm();
    let steps = stack.geometry.steps_mm();
    let ours = (0..3).flat_map(|axis| {
        let [s, r, c] = steps.map(|step| step[axis]);
        [s, r, c, origin[axis]]
    });
    for (i, (ours, theirs)) in ours.zip(&others.matrix).enumerate() {
        assert!((ours - theirs).abs() < 1e-6, "{name}: matrix entry {i}: {ours}, not {theirs}");
    }
    let last = stack.geometry.shape().map(|n| (n - 1) as f64);
    for corner in [[0.0; 3], last, [last[0], 0.0, 0.0], [0.0, last[1], 0.0], [0.0, 0.0, last[2]]] {
        let ours = stack.geometry.position_mm(corner);
        for (row, ours) in others.matrix_of_highdicom.chunks(4).zip(ours) {
            let theirs = row[0] * corner[0] + row[1] * corner[1] + row[2] * corner[2] + row[3];
            // Positions are stored with three or four decimals; highdicom puts them back on the normal.
            assert!((ours - theirs).abs() < 1e-3, "{name}: {corner:?} at {ours}, not {theirs}");
        }
    }
    let volume = stack.load().unwrap();
    let differing = volume.values().iter().zip(&others.values).position(|(ours, theirs)| {
        // Ours are the nearest f32 of the same number.
        ours.to_bits() != (*theirs as f32).to_bits()
    });
    assert_eq!(differing, None, "{name}: first voxel that differs");
}

/// Reads every volume below `root` with all readers, which must agree. Returns how many there are, and how many of them
/// highdicom knows as a volume.
fn assert_all_read_the_same(root: &Path) -> (usize, usize) {
    let (names, stacks): (Vec<_>, Vec<_>) = folders(root)
        .into_iter()
        .flat_map(|(name, files)| {
            read_stacks(&files).stacks.into_iter().map(move |stack| (name.clone(), stack))
        })
        .unzip();

    let others = read_by_others(&interpreter(), &stacks);

    for ((name, stack), others) in names.iter().zip(&stacks).zip(&others) {
        assert_same(name, stack, others);
    }
    let by_highdicom = others.iter().filter(|others| !others.matrix_of_highdicom.is_empty());
    (stacks.len(), by_highdicom.count())
}

#[test]
fn volumes_of_the_repository_are_those_that_highdicom_and_pydicom_read() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures");

    let (volumes, by_highdicom) = assert_all_read_the_same(&fixtures);

    assert_eq!((volumes, by_highdicom), (6, 6));
}

#[test]
#[ignore = "needs the folder of PROSECTOR_TEST_DICOM"]
fn every_volume_is_the_one_that_highdicom_and_pydicom_read() {
    let (volumes, by_highdicom) = assert_all_read_the_same(&corpus());

    // All but the gantry tilt.
    assert!(by_highdicom + 1 >= volumes, "{by_highdicom} of {volumes}");
}
