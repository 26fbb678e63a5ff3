//! Finds the DICOM files that a person means by files and folders.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Length of the preamble in front of the prefix `DICM` (PS3.10 7.1).
const PREAMBLE: usize = 128;

/// Every file named in `inputs`, and every Part 10 file in the folders named there and below, in the order of their
/// paths. A file in a folder that does not look like DICOM is not meant; a file that is named is.
///
/// # Errors
/// When an input does not exist or a folder cannot be read.
pub(crate) fn find_files(inputs: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = BTreeSet::new();
    for input in inputs {
        let kind = std::fs::metadata(input)
            .with_context(|| format!("cannot read input {}", input.display()))?;
        if kind.is_dir() {
            walk(input, &mut files)?;
        } else {
            files.insert(input.clone());
        }
    }
    Ok(files.into_iter().collect())
}

fn walk(folder: &Path, files: &mut BTreeSet<PathBuf>) -> Result<()> {
    let context = || format!("cannot read folder {}", folder.display());
    for entry in std::fs::read_dir(folder).with_context(context)? {
        let entry = entry.with_context(context)?;
        let path = entry.path();
        // A link to a folder is not followed: it could lead back.
        if entry.file_type().with_context(context)?.is_dir() {
            walk(&path, files)?;
        } else if looks_like_dicom(&path) {
            files.insert(path);
        }
    }
    Ok(())
}

fn looks_like_dicom(path: &Path) -> bool {
    let mut start = [0; PREAMBLE + 4];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut start));
    // What cannot be read may well be meant: its error belongs in front of a person.
    match read {
        Ok(()) => start.ends_with(b"DICM"),
        Err(error) => error.kind() != std::io::ErrorKind::UnexpectedEof,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_dicom_in_folders_and_whatever_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        let mut part10 = vec![0; PREAMBLE];
        part10.extend(b"DICM and more");
        std::fs::write(inner.join("1.dcm"), &part10).unwrap();
        std::fs::write(inner.join("LICENSE"), "x".repeat(200)).unwrap();
        std::fs::write(inner.join("empty"), "").unwrap();

        let found = find_files(&[folder.path().to_owned(), inner.join("LICENSE")]).unwrap();

        assert_eq!(found, [inner.join("1.dcm"), inner.join("LICENSE")]);
        assert!(find_files(&[folder.path().join("absent")]).is_err());
    }
}
