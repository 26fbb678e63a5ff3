//! The folder that a one-shot job leaves for each series.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use dicom_types::SeriesInstanceUid;
use tempfile::NamedTempFile;

/// What a job leaves.
#[derive(Debug)]
pub(crate) struct ResultFiles<'a> {
    /// `seg.dcm`; none where no target was found.
    pub(crate) segmentation: Option<&'a [u8]>,
    /// `summary.json`
    pub(crate) summary: &'a [u8],
    /// `preview.png`
    pub(crate) preview: &'a [u8],
}

/// Writes the files of one series to `output/<SeriesInstanceUID>` and gives that folder back. Each file appears whole
/// or not at all, and none of an earlier run stays.
///
/// # Errors
/// What the system says when the folder or a file cannot be written.
pub(crate) fn write_result(
    output: &Path,
    series: &SeriesInstanceUid,
    files: &ResultFiles<'_>,
) -> io::Result<PathBuf> {
    let folder = output.join(series.as_str());
    std::fs::create_dir_all(&folder)?;
    let contents = [
        ("seg.dcm", files.segmentation),
        ("preview.png", Some(files.preview)),
        ("summary.json", Some(files.summary)),
    ];
    for (name, content) in contents {
        let path = folder.join(name);
        match content {
            Some(bytes) => write_whole(&folder, &path, bytes)?,
            None => remove_if_there(&path)?,
        }
    }
    Ok(folder)
}

fn write_whole(folder: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    set_readable(file.as_file())?;
    file.persist(path)?;
    Ok(())
}

/// A temporary file is its owner's alone; a result is as readable as other files of its folder.
#[cfg(unix)]
fn set_readable(file: &std::fs::File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    file.set_permissions(std::fs::Permissions::from_mode(0o640))
}

#[cfg(not(unix))]
fn set_readable(_file: &std::fs::File) -> io::Result<()> {
    Ok(())
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_without_object_removes_that_of_an_earlier_one() {
        let output = tempfile::tempdir().unwrap();
        let series: SeriesInstanceUid = "1.2.3".parse().unwrap();
        let full = ResultFiles { segmentation: Some(b"seg"), summary: b"{}", preview: b"png" };

        let folder = write_result(output.path(), &series, &full).unwrap();
        assert_eq!(std::fs::read(folder.join("seg.dcm")).unwrap(), b"seg");
        write_result(output.path(), &series, &ResultFiles { segmentation: None, ..full }).unwrap();

        let mut names: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["preview.png", "summary.json"]);
    }
}
