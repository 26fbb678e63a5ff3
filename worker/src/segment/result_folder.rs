//! The folder that a one-shot job leaves for each series.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use dicom_types::SeriesInstanceUid;
use prosector_storage::ResultForm;
use tempfile::NamedTempFile;

use super::encode::CheckedObject;

/// What a job leaves.
#[derive(Debug)]
pub(crate) struct ResultFiles<'a> {
    /// `seg.dcm` and other forms; none where no target was found.
    pub(crate) objects: &'a [CheckedObject],
    /// `summary.json`
    pub(crate) summary: &'a [u8],
    /// `preview.png`
    pub(crate) preview: &'a [u8],
}

/// Name of the file that holds an object of this form.
pub(crate) fn file_name(form: ResultForm) -> String {
    format!("{form}.dcm")
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
    for form in ResultForm::ALL {
        let path = folder.join(file_name(*form));
        match files.objects.iter().find(|object| object.product.form() == *form) {
            Some(object) => write_whole(&folder, &path, &object.bytes)?,
            None => remove_if_there(&path)?,
        }
    }
    for (name, bytes) in [("preview.png", files.preview), ("summary.json", files.summary)] {
        write_whole(&folder, &folder.join(name), bytes)?;
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
    use crate::protocol::Product;
    use prosector_storage::Sha256Digest;

    #[test]
    fn a_run_without_object_removes_that_of_an_earlier_one() {
        let output = tempfile::tempdir().unwrap();
        let series: SeriesInstanceUid = "1.2.3".parse().unwrap();
        let object = |product, bytes: &[u8]| CheckedObject {
            product,
            bytes: bytes.to_vec(),
            sha256: Sha256Digest::of(bytes),
            sop_class_uid: "1.2.840.10008.5.1.4.1.1.66.4".parse().unwrap(),
            series_instance_uid: "1.2.4".parse().unwrap(),
            sop_instance_uid: "1.2.4.1".parse().unwrap(),
        };
        let objects = [object(Product::Seg, b"seg"), object(Product::Report, b"sr")];
        let full = ResultFiles { objects: &objects, summary: b"{}", preview: b"png" };

        let folder = write_result(output.path(), &series, &full).unwrap();
        assert_eq!(std::fs::read(folder.join("seg.dcm")).unwrap(), b"seg");
        assert_eq!(std::fs::read(folder.join("sr.dcm")).unwrap(), b"sr");
        write_result(output.path(), &series, &ResultFiles { objects: &[], ..full }).unwrap();

        let mut names: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["preview.png", "summary.json"]);
    }
}
