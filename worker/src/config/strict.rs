//! Reads a tree of values into a structure and reports every key and kind of value that does not fit, not just the
//! first: what does not fit is noted, cut off, and the rest is read again.

use config::{ConfigError as TreeError, Value, ValueKind};
use serde::de::DeserializeOwned;

use super::problem::{FieldPath, Problems, Step};
use super::suggest::hint;

/// Reads `tree`. Nothing comes back when it is beyond reading; something is then noted.
pub(crate) fn read<T: DeserializeOwned>(mut tree: Value, problems: &mut Problems) -> Option<T> {
    loop {
        let error = match serde_path_to_error::deserialize(tree.clone()) {
            Ok(read) => return Some(read),
            Err(error) => error,
        };
        let path: FieldPath = error.path().iter().map_while(step).collect();
        let message = explain(&path, error.into_inner());
        problems.error(&path, message);
        if !cut(&mut tree, path.steps()) {
            return None;
        }
    }
}

fn step(segment: &serde_path_to_error::Segment) -> Option<Step> {
    match segment {
        serde_path_to_error::Segment::Seq { index } => Some(Step::Index(*index)),
        serde_path_to_error::Segment::Map { key } => Some(Step::Key(key.clone())),
        _ => None,
    }
}

/// Says what does not fit.
fn explain(path: &FieldPath, error: TreeError) -> String {
    match error {
        TreeError::At { error, .. } => explain(path, *error),
        TreeError::Type { unexpected, expected, .. } => {
            format!("{unexpected} in place of {expected}")
        }
        TreeError::Message(message) => explain_message(path, &message),
        other => other.to_string(),
    }
}

/// Serde gives unknown keys as text alone: ``unknown field `bnd`, expected one of `bind`, `ae_title` ``.
fn explain_message(path: &FieldPath, message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let is_unknown = message.starts_with("unknown field");
    let (true, Some(unknown)) = (is_unknown, quoted.next()) else {
        return message.to_owned();
    };
    let known: Vec<&str> = quoted.collect();
    let hint = hint(unknown, known.iter().copied());
    if hint.is_empty() {
        let scope = if path.steps().len() > 1 { "here" } else { "at the top" };
        return format!("unknown key; known {scope} are {}", known.join(", "));
    }
    format!("unknown key{hint}")
}

/// Removes what stands at `path`: a key from its table; an element of a list becomes an empty table, so that the
/// others keep their numbers, or takes its list along where the list does not hold tables.
fn cut(tree: &mut Value, path: &[Step]) -> bool {
    let Some((last, parents)) = path.split_last() else { return false };
    let Some(parent) = find(tree, parents) else { return false };
    match (&mut parent.kind, last) {
        (ValueKind::Table(table), Step::Key(key)) => table.remove(key).is_some(),
        (ValueKind::Array(list), Step::Index(index)) => {
            let holds_tables = list.iter().any(|v| matches!(v.kind, ValueKind::Table(_)));
            let is_table = matches!(list[*index].kind, ValueKind::Table(_));
            if holds_tables && !is_table {
                list[*index] = Value::new(None, config::Map::<String, Value>::new());
                return true;
            }
            cut(tree, parents)
        }
        _ => cut(tree, parents),
    }
}

/// The value at `path`.
pub(crate) fn find<'a>(tree: &'a mut Value, path: &[Step]) -> Option<&'a mut Value> {
    let Some((first, rest)) = path.split_first() else { return Some(tree) };
    let child = match (&mut tree.kind, first) {
        (ValueKind::Table(table), Step::Key(key)) => table.get_mut(key)?,
        (ValueKind::Array(list), Step::Index(index)) => list.get_mut(*index)?,
        _ => return None,
    };
    find(child, rest)
}
