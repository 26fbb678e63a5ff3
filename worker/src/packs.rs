//! Model packs by name.

use std::path::{Path, PathBuf};

use prosector_model::{OpenPackError, Pack, PromptModality};

use crate::config::{Config, FieldPath, Problems, suggest};
use crate::protocol::{PHANTOM_PACK, Protocol};

/// File that makes a folder a pack.
const MANIFEST: &str = "pack.toml";

/// Why a pack cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PackError {
    /// No pack of this name, and no folder of this path.
    #[error("no model pack {name:?}{hint}; there are {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// The nearest name.
        hint: String,
        /// Every name.
        known: String,
    },
    /// There is one, but it cannot be used.
    #[error("cannot open model pack {name:?}")]
    Open {
        /// What was asked for.
        name: String,
        /// What is wrong with it.
        source: OpenPackError,
    },
}

/// Where a pack is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PackPlace {
    /// In the program itself.
    BuiltIn,
    /// In a folder.
    Folder(PathBuf),
}

/// Finds the pack called `name`: `phantom`, a folder of `packs`, or the path of a pack's folder.
///
/// # Errors
/// [`PackError::Unknown`] with the names that there are.
pub(crate) fn find(packs: &Path, name: &str) -> Result<PackPlace, PackError> {
    let is_pack = |folder: &Path| folder.join(MANIFEST).is_file();
    let by_name = packs.join(name);
    let is_plain_name = Path::new(name).components().count() == 1;
    if is_plain_name && is_pack(&by_name) {
        return Ok(PackPlace::Folder(by_name));
    }
    if name == PHANTOM_PACK {
        return Ok(PackPlace::BuiltIn);
    }
    if is_pack(Path::new(name)) {
        return Ok(PackPlace::Folder(PathBuf::from(name)));
    }
    let known = names(packs);
    let hint = suggest::hint(name, known.iter().map(String::as_str));
    Err(PackError::Unknown { name: name.to_owned(), hint, known: known.join(", ") })
}

/// Opens the pack called `name`, see [`find`].
///
/// # Errors
/// [`PackError`]
pub(crate) fn open(packs: &Path, name: &str) -> Result<Pack, PackError> {
    open_at(find(packs, name)?, name)
}

fn open_at(place: PackPlace, name: &str) -> Result<Pack, PackError> {
    match place {
        PackPlace::BuiltIn => Ok(Pack::phantom()),
        PackPlace::Folder(folder) => {
            Pack::open(&folder).map_err(|source| PackError::Open { name: name.to_owned(), source })
        }
    }
}

/// Notes every protocol of `config` whose pack does not exist, cannot be opened, or does not know a target.
pub(crate) fn check(config: &Config, problems: &mut Problems) {
    for (index, protocol) in config.protocols.iter().enumerate() {
        let path = FieldPath::root().key("protocol").index(index);
        for (name, key) in protocol.packs().zip(["model", "shadow"]) {
            check_pack(&config.model.packs, name, (protocol, key), &path, problems);
        }
    }
}

fn check_pack(
    packs: &Path,
    name: &str,
    (protocol, key): (&Protocol, &str),
    path: &FieldPath,
    problems: &mut Problems,
) {
    let place = find(packs, name);
    if matches!(place, Ok(PackPlace::BuiltIn)) {
        // It is there, and its text encoder takes any target.
        return;
    }
    let pack = match place.and_then(|place| open_at(place, name)) {
        Ok(pack) => pack,
        Err(error) => {
            problems.error(&path.key(key), format!("{:#}", anyhow::Error::from(error)));
            return;
        }
    };
    if pack.has_text_encoder() {
        return;
    }
    let knows = |prompt: &str| {
        PromptModality::ALL.iter().any(|modality| pack.prompts().get(prompt, *modality).is_some())
    };
    let unknown: Vec<String> = protocol
        .targets
        .iter()
        .filter(|target| !knows(&target.prompt))
        .map(|target| format!("{:?}", target.prompt))
        .collect();
    if !unknown.is_empty() {
        let message =
            format!("pack {name:?} knows no {} and has no text encoder", unknown.join(", "));
        problems.error(&path.key("targets"), message);
    }
}

/// Names of all packs, in alphabetical order.
pub(crate) fn names(packs: &Path) -> Vec<String> {
    let mut names = vec![PHANTOM_PACK.to_owned()];
    // A folder that is not there yet holds no packs.
    for entry in std::fs::read_dir(packs).into_iter().flatten().flatten() {
        let is_pack = entry.path().join(MANIFEST).is_file();
        if let (true, Ok(name)) = (is_pack, entry.file_name().into_string()) {
            names.push(name);
        }
    }
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pack_is_found_by_name_by_path_or_built_in() {
        let packs = tempfile::tempdir().unwrap();
        let nano = packs.path().join("sat-nano");
        std::fs::create_dir(&nano).unwrap();
        std::fs::write(nano.join(MANIFEST), "").unwrap();

        assert_eq!(find(packs.path(), "phantom").unwrap(), PackPlace::BuiltIn);
        assert_eq!(find(packs.path(), "sat-nano").unwrap(), PackPlace::Folder(nano.clone()));
        let by_path = find(Path::new("/absent"), nano.to_str().unwrap()).unwrap();
        assert_eq!(by_path, PackPlace::Folder(nano));
    }

    #[test]
    fn an_unknown_pack_is_refused_with_the_names_there_are() {
        let packs = tempfile::tempdir().unwrap();
        let nano = packs.path().join("sat-nano");
        std::fs::create_dir(&nano).unwrap();
        std::fs::write(nano.join(MANIFEST), "").unwrap();

        let error = find(packs.path(), "sat-nan").unwrap_err();

        insta::assert_snapshot!(
            error,
            @r#"no model pack "sat-nan", did you mean "sat-nano"?; there are phantom, sat-nano"#
        );
        assert!(find(packs.path(), "../sat-nano").is_err());
        assert!(find(packs.path(), "").is_err());
    }
}
