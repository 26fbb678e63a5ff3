//! A folder of files with protocols, beside the site file.

use std::path::Path;

use config::{File, FileFormat, Value, ValueKind};

use super::problem::{FieldPath, Problem, Problems, Step};
use super::{SiteFile, origin, parse_error, strict};

/// Files of the folder, each with the number of its first protocol among all.
#[derive(Debug, Default)]
pub(super) struct ProtocolFiles(Vec<(SiteFile, usize)>);

impl ProtocolFiles {
    /// Reads the files that `routing.folder` of `tree` names and appends their protocols to those of `tree`. The
    /// folder is looked for beside the site file; where it was found is written back.
    pub(super) fn append(
        tree: &mut Value,
        site: Option<&SiteFile>,
        problems: &mut Problems,
    ) -> Self {
        let path = FieldPath::root().key("routing").key("folder");
        let Some(value) = strict::find(tree, path.steps()) else { return Self::default() };
        // Any other kind of value is noted where the tree is read.
        let ValueKind::String(folder) = &mut value.kind else { return Self::default() };
        if let Some(beside) = site.and_then(|site| site.path.parent()) {
            *folder = beside.join(&*folder).to_string_lossy().into_owned();
        }
        let folder = folder.clone();
        let names = match files_of(Path::new(&folder)) {
            Ok(names) => names,
            Err(error) => {
                problems.error(&path, format!("cannot read {folder:?}: {error}"));
                return Self::default();
            }
        };
        let mut files = Vec::new();
        for name in names {
            match SiteFile::read(&name) {
                Ok(file) => files.push(file),
                Err(error) => problems.error(&path, error.to_string()),
            }
        }
        let mut numbered = Vec::new();
        for file in files {
            let first = count(tree);
            append_file(&file, tree, problems);
            numbered.push((file, first));
        }
        Self(numbered)
    }

    /// The same problem where its file has it, if it is about a protocol of one of the files.
    pub(super) fn placed(&self, problem: Problem) -> Problem {
        let [Step::Key(key), Step::Index(number), rest @ ..] = problem.path.steps() else {
            return problem;
        };
        let home = self.0.iter().rev().find(|(_, first)| key == "protocol" && number >= first);
        let Some((file, first)) = home else { return problem };
        let local = FieldPath::root().key("protocol").index(number - first);
        let path: FieldPath = local.steps().iter().chain(rest).cloned().collect();
        let origin = Some(place(file, &path));
        Problem { path, origin, message: problem.message }
    }
}

fn files_of(folder: &Path) -> std::io::Result<Vec<std::path::PathBuf>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let is_hidden =
            path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if path.extension().is_some_and(|ending| ending == "toml") && !is_hidden {
            names.push(path);
        }
    }
    names.sort();
    Ok(names)
}

fn count(tree: &Value) -> usize {
    match &tree.kind {
        ValueKind::Table(table) => match table.get("protocol").map(|value| &value.kind) {
            Some(ValueKind::Array(list)) => list.len(),
            _ => 0,
        },
        _ => 0,
    }
}

fn append_file(file: &SiteFile, tree: &mut Value, problems: &mut Problems) {
    let source = File::from_str(&file.text, FileFormat::Toml);
    let read = match config::Config::builder().add_source(source).build() {
        Ok(read) => read.cache,
        Err(error) => {
            let message = format!("{}:\n{}", file.path.display(), parse_error(error));
            problems.push(FieldPath::root(), None, message);
            return;
        }
    };
    let ValueKind::Table(table) = read.kind else { return };
    let mut keys: Vec<(String, Value)> = table.into_iter().collect();
    keys.sort_by(|a, b| a.0.cmp(&b.0));
    for (key, value) in keys {
        if key == "protocol"
            && let ValueKind::Array(protocols) = value.kind
        {
            push_all(tree, protocols);
            continue;
        }
        let path = FieldPath::root().key(&key);
        let origin = Some(place(file, &path));
        problems.push(path, origin, "a file of protocols holds [[protocol]] alone".to_owned());
    }
}

fn push_all(tree: &mut Value, protocols: Vec<Value>) {
    let ValueKind::Table(table) = &mut tree.kind else { return };
    let empty = || Value::new(None, ValueKind::Array(Vec::new()));
    let list = table.entry("protocol".to_owned()).or_insert_with(empty);
    if let ValueKind::Array(list) = &mut list.kind {
        list.extend(protocols);
    }
}

/// `chest.toml line 4`
fn place(file: &SiteFile, path: &FieldPath) -> String {
    let name = file.path.file_name().unwrap_or_default().to_string_lossy();
    match origin::line(&file.text, path) {
        Some(line) => format!("{name} line {line}"),
        None => name.into_owned(),
    }
}
