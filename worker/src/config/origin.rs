//! Where a value came from: the line of the site file, or the environment variable.

use toml::de::{DeTable, DeValue};

use super::problem::{FieldPath, Step};

/// Prefix of every variable of the environment that overrides a key.
const PREFIX: &str = "PROSECTOR";

/// The line of `text`, from 1, on which the key at `path` stands; that of the nearest table above it where the key
/// is not written.
pub(crate) fn line(text: &str, path: &FieldPath) -> Option<usize> {
    let table = DeTable::parse(text).ok()?;
    let mut value: Option<&DeValue> = None;
    let mut offset = None;
    for step in path.steps() {
        let next = match (step, value) {
            (Step::Key(key), None) => entry(table.get_ref(), key),
            (Step::Key(key), Some(DeValue::Table(table))) => entry(table, key),
            (Step::Index(index), Some(DeValue::Array(list))) => {
                list.get(*index).map(|item| (item.span().start, item.get_ref()))
            }
            _ => None,
        };
        let Some((start, found)) = next else { break };
        offset = Some(start);
        value = Some(found);
    }
    let before = text.get(..offset?)?;
    Some(before.matches('\n').count() + 1)
}

fn entry<'a, 'i>(table: &'a DeTable<'i>, key: &str) -> Option<(usize, &'a DeValue<'i>)> {
    let (name, value) = table.iter().find(|(name, _)| name.get_ref() == key)?;
    Some((name.span().start, value.get_ref()))
}

/// The variable that overrides the key at `path`: `PROSECTOR__LISTENER__BIND`.
pub(crate) fn variable(path: &FieldPath) -> Option<String> {
    let mut name = PREFIX.to_owned();
    for step in path.steps() {
        let Step::Key(key) = step else { return None };
        name.push_str("__");
        name.push_str(&key.to_uppercase());
    }
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_line_of_a_key_and_of_the_table_that_lacks_it() {
        let text = "[listener]\nbind = \"x\"\n\n[[protocol]]\nname = \"a\"\n\n[[protocol]]\n\
                    targets = [\n  \"liver\",\n  \"livr\",\n]\n";
        let protocol = FieldPath::root().key("protocol").index(1);

        assert_eq!(line(text, &FieldPath::root().key("listener").key("bind")), Some(2));
        assert_eq!(line(text, &protocol.key("targets").index(1)), Some(10));
        assert_eq!(line(text, &protocol.key("model")), Some(7));
        assert_eq!(line(text, &FieldPath::root().key("store")), None);
    }

    #[test]
    fn names_the_variable_of_a_key() {
        let path = FieldPath::root().key("listener").key("ae_title");

        assert_eq!(variable(&path).as_deref(), Some("PROSECTOR__LISTENER__AE_TITLE"));
        assert_eq!(variable(&FieldPath::root().key("protocol").index(0)), None);
    }
}
