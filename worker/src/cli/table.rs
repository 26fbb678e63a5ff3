//! Tables that commands print, in three formats.

use anyhow::Result;
use clap::ValueEnum;
use serde_json::{Map, Value};

/// How a table is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    /// Aligned columns, for people
    #[default]
    Table,
    /// An array of objects
    Json,
    /// Comma separated, with a line of column names
    Csv,
}

/// Rows under named columns.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    columns: Vec<&'static str>,
    rows: Vec<Vec<Value>>,
}

impl Table {
    /// A table without rows.
    pub(crate) fn new(columns: &[&'static str]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row, one value per column.
    pub(crate) fn push(&mut self, row: Vec<Value>) {
        debug_assert_eq!(row.len(), self.columns.len());
        self.rows.push(row);
    }

    /// The table as text, ending in a newline.
    pub(crate) fn render(&self, format: Format) -> Result<String> {
        match format {
            Format::Table => Ok(self.aligned()),
            Format::Json => {
                let objects: Vec<Value> = self.rows.iter().map(|row| self.object(row)).collect();
                Ok(serde_json::to_string_pretty(&objects)? + "\n")
            }
            Format::Csv => {
                let mut writer = csv::Writer::from_writer(Vec::new());
                writer.write_record(&self.columns)?;
                for row in &self.rows {
                    writer.write_record(row.iter().map(plain))?;
                }
                Ok(String::from_utf8(writer.into_inner()?)?)
            }
        }
    }

    fn object(&self, row: &[Value]) -> Value {
        let named = self.columns.iter().map(ToString::to_string).zip(row.iter().cloned());
        Value::Object(named.collect::<Map<_, _>>())
    }

    fn aligned(&self) -> String {
        let cells: Vec<Vec<String>> =
            self.rows.iter().map(|row| row.iter().map(plain).collect()).collect();
        let is_number = |column: usize| self.rows.iter().all(|row| row[column].is_number());
        let width = |column: usize| {
            let widths = cells.iter().map(|row| row[column].chars().count());
            widths.chain([self.columns[column].chars().count()]).max().unwrap_or_default()
        };
        let layout: Vec<(usize, bool)> =
            (0..self.columns.len()).map(|c| (width(c), is_number(c))).collect();
        let header: Vec<String> = self.columns.iter().map(|c| (*c).to_owned()).collect();
        let mut text = String::new();
        for row in std::iter::once(&header).chain(&cells) {
            let padded = row.iter().zip(&layout).map(|(cell, &(width, right))| {
                if right { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
            });
            text.push_str(padded.collect::<Vec<_>>().join("  ").trim_end());
            text.push('\n');
        }
        text
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(list) => list.iter().map(plain).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn table() -> Table {
        let mut table = Table::new(&["name", "voxels"]);
        table.push(vec![json!("liver"), json!(1200)]);
        table.push(vec![json!("left, kidney"), json!(7)]);
        table
    }

    #[test]
    fn aligns_text_left_and_numbers_right() {
        let text = table().render(Format::Table).unwrap();

        assert_eq!(text, "name          voxels\nliver           1200\nleft, kidney       7\n");
    }

    #[test]
    fn writes_the_same_rows_as_json_and_csv() {
        let json: Value = serde_json::from_str(&table().render(Format::Json).unwrap()).unwrap();
        let csv = table().render(Format::Csv).unwrap();

        assert_eq!(json[1], json!({ "name": "left, kidney", "voxels": 7 }));
        assert_eq!(csv, "name,voxels\nliver,1200\n\"left, kidney\",7\n");
    }
}
