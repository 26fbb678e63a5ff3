//! What a condition asks of the values of one attribute.

use std::fmt;

use globset::{GlobBuilder, GlobMatcher};
use regex::Regex;
use serde_json::{Map, Value};

use super::facts::Plane;
use crate::config::{FieldPath, Problems, suggest};

/// What the values of a subject are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Text, compared without regard to case.
    Text,
    /// AE titles, case sensitive.
    AeTitle,
    /// Numbers.
    Number,
    /// Ages, compared in years.
    Age,
    /// Dates and times, in the order of their digits.
    Moment,
    /// Names of planes.
    Plane,
}

/// A test of values: it holds when one of several values passes.
#[derive(Debug, Clone)]
pub(crate) enum Test {
    /// This text; without regard to case unless `exact`.
    Equal { text: String, exact: bool },
    /// This number.
    Number(f64),
    /// A pattern with `*` and `?`, without regard to case.
    Glob { pattern: String, matcher: GlobMatcher },
    /// A regular expression, found anywhere in the value.
    Regex(Regex),
    /// A number from `min` to `max`, both included. Ages count in years.
    Range { min: Option<f64>, max: Option<f64>, kind: Kind },
    /// A date or time from `min` to `max`, both included, compared digit by digit.
    Between { min: Option<String>, max: Option<String> },
    /// Whether there is a value at all.
    Present(bool),
    /// No value passes.
    Not(Box<Test>),
    /// Every test holds.
    All(Vec<Test>),
    /// One test holds.
    Any(Vec<Test>),
}

const KEYS: [&str; 9] = ["equal", "glob", "regex", "min", "max", "present", "not", "all", "any"];

impl Test {
    /// Reads what stands behind a subject, noting at `path` what is wrong: a value (a text with `*` or `?` is a
    /// pattern), a list of which one must hold, or a table with one of `equal`, `glob`, `regex`, `min` and `max`,
    /// `present`, `not`, `all`, `any`.
    pub(crate) fn read(
        value: &Value,
        kind: Kind,
        path: &FieldPath,
        problems: &mut Problems,
    ) -> Option<Self> {
        match value {
            Value::Array(list) => Self::read_list(list, kind, path, problems).map(Self::Any),
            Value::Object(table) => Self::read_table(table, kind, path, problems),
            Value::String(text) if has_wildcard(text) && kind != Kind::Number => {
                Self::read_glob(text, path, problems)
            }
            _ => Self::read_plain(value, kind, path, problems),
        }
    }

    fn read_plain(
        value: &Value,
        kind: Kind,
        path: &FieldPath,
        problems: &mut Problems,
    ) -> Option<Self> {
        if kind == Kind::Number {
            let number = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok());
            let Some(number) = number.filter(|number| number.is_finite()) else {
                problems.error(path, format!("{value} is no number, and the values are numbers"));
                return None;
            };
            return Some(Self::Number(number));
        }
        let text = match value {
            Value::String(text) => text.trim().to_owned(),
            Value::Number(number) => number.to_string(),
            _ => {
                problems.error(path, format!("{value} is neither a text nor a number"));
                return None;
            }
        };
        if text.is_empty() {
            problems
                .error(path, "is empty; write { present = false } for an attribute without value");
            return None;
        }
        if kind == Kind::Plane && !Plane::ALL.iter().any(|plane| plane.as_str() == text) {
            let words = Plane::ALL.map(Plane::as_str);
            let hint = suggest::hint(&text, words);
            problems.error(path, format!("{text:?} is none of {}{hint}", words.join(", ")));
            return None;
        }
        Some(Self::Equal { text, exact: kind == Kind::AeTitle })
    }

    fn read_glob(text: &str, path: &FieldPath, problems: &mut Problems) -> Option<Self> {
        let literal_braces: String = text
            .chars()
            .flat_map(|c| {
                let escape = matches!(c, '{' | '}' | '[' | ']' | '\\');
                escape.then_some('\\').into_iter().chain([c])
            })
            .collect();
        let glob = GlobBuilder::new(&literal_braces)
            .case_insensitive(true)
            .literal_separator(false)
            .backslash_escape(true)
            .build();
        match glob {
            Ok(glob) => {
                Some(Self::Glob { pattern: text.to_owned(), matcher: glob.compile_matcher() })
            }
            Err(error) => {
                problems.error(path, format!("{text:?} is no pattern: {}", error.kind()));
                None
            }
        }
    }

    fn read_list(
        list: &[Value],
        kind: Kind,
        path: &FieldPath,
        problems: &mut Problems,
    ) -> Option<Vec<Self>> {
        if list.is_empty() {
            problems.error(path, "is an empty list, which no series can match");
            return None;
        }
        let read: Vec<Option<Self>> = list
            .iter()
            .enumerate()
            .map(|(index, value)| Self::read(value, kind, &path.index(index), problems))
            .collect();
        read.into_iter().collect()
    }

    fn read_table(
        table: &Map<String, Value>,
        kind: Kind,
        path: &FieldPath,
        problems: &mut Problems,
    ) -> Option<Self> {
        if table.is_empty() {
            problems.error(path, format!("must have one of {}", KEYS.join(", ")));
            return None;
        }
        let mut tests = Vec::new();
        let mut complete = true;
        let (min, max) = (table.get("min"), table.get("max"));
        if min.is_some() || max.is_some() {
            let range = Self::read_range(min, max, kind, path, problems);
            complete &= range.is_some();
            tests.extend(range);
        }
        for (key, value) in table {
            let path = path.key(key);
            let test = match (key.as_str(), value) {
                ("min" | "max", _) => continue,
                ("equal", _) => Self::read_plain(value, kind, &path, problems),
                ("glob", Value::String(text)) => Self::read_glob(text, &path, problems),
                ("regex", Value::String(text)) => Self::read_regex(text, &path, problems),
                ("present", Value::Bool(wanted)) => Some(Self::Present(*wanted)),
                ("not", _) => {
                    Self::read(value, kind, &path, problems).map(|test| Self::Not(Box::new(test)))
                }
                ("all", Value::Array(list)) => {
                    Self::read_list(list, kind, &path, problems).map(Self::All)
                }
                ("any", Value::Array(list)) => {
                    Self::read_list(list, kind, &path, problems).map(Self::Any)
                }
                (known, _) if KEYS.contains(&known) => {
                    let wanted = match known {
                        "present" => "true or false",
                        "all" | "any" => "a list",
                        _ => "a text",
                    };
                    problems.error(&path, format!("must be {wanted}"));
                    None
                }
                (unknown, _) => {
                    let mut advice = suggest::hint(unknown, KEYS);
                    if advice.is_empty() {
                        advice = format!("; known here are {}", KEYS.join(", "));
                    }
                    problems.error(&path, format!("unknown key{advice}"));
                    None
                }
            };
            complete &= test.is_some();
            tests.extend(test);
        }
        if !complete {
            return None;
        }
        if tests.len() == 1 { tests.pop() } else { Some(Self::All(tests)) }
    }

    fn read_regex(text: &str, path: &FieldPath, problems: &mut Problems) -> Option<Self> {
        match Regex::new(text) {
            Ok(regex) => Some(Self::Regex(regex)),
            Err(error) => {
                let cause = error.to_string();
                let reason = cause.lines().last().unwrap_or_default().trim();
                let reason = reason.trim_start_matches("error: ");
                problems.error(path, format!("{text:?} is no regular expression: {reason}"));
                None
            }
        }
    }

    fn read_range(
        min: Option<&Value>,
        max: Option<&Value>,
        kind: Kind,
        path: &FieldPath,
        problems: &mut Problems,
    ) -> Option<Self> {
        match kind {
            Kind::Number | Kind::Age => {
                let bound = |key: &str, value: Option<&Value>, problems: &mut Problems| {
                    let Some(value) = value else { return Some(None) };
                    let number = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok());
                    if number.is_none() {
                        problems.error(&path.key(key), format!("{value} is no number"));
                    }
                    number.map(Some)
                };
                let (min, max) = (bound("min", min, problems), bound("max", max, problems));
                let (min, max) = (min?, max?);
                if let (Some(min), Some(max)) = (min, max)
                    && min > max
                {
                    problems.error(path, format!("no number is from {min} to {max}"));
                    return None;
                }
                Some(Self::Range { min, max, kind })
            }
            Kind::Moment => {
                let bound = |key: &str, value: Option<&Value>, problems: &mut Problems| {
                    let Some(value) = value else { return Some(None) };
                    let text = value.as_str().filter(|text| is_moment(text));
                    if text.is_none() {
                        let advice = "write a date as \"20260131\", a time as \"0730\"";
                        problems.error(&path.key(key), advice);
                    }
                    text.map(|text| Some(text.to_owned()))
                };
                let (min, max) = (bound("min", min, problems), bound("max", max, problems));
                let (min, max) = (min?, max?);
                if let (Some(min), Some(max)) = (&min, &max)
                    && min > max
                {
                    problems.error(path, format!("nothing is from {min:?} to {max:?}"));
                    return None;
                }
                Some(Self::Between { min, max })
            }
            Kind::Text | Kind::AeTitle | Kind::Plane => {
                problems.error(
                    path,
                    "min and max need numbers, dates or times, and the values are text",
                );
                None
            }
        }
    }

    /// Whether the values pass.
    pub(crate) fn holds(&self, values: &[String]) -> bool {
        match self {
            Self::Present(wanted) => *wanted != values.is_empty(),
            Self::Not(test) => !test.holds(values),
            Self::All(tests) => tests.iter().all(|test| test.holds(values)),
            Self::Any(tests) => tests.iter().any(|test| test.holds(values)),
            _ => values.iter().any(|value| self.passes(value)),
        }
    }

    /// Whether one value passes a test of single values.
    fn passes(&self, value: &str) -> bool {
        match self {
            Self::Equal { text, exact: true } => value == text,
            Self::Equal { text, exact: false } => value.to_lowercase() == text.to_lowercase(),
            Self::Number(wanted) => value.trim().parse::<f64>().is_ok_and(|v| same(v, *wanted)),
            Self::Glob { matcher, .. } => matcher.is_match(value),
            Self::Regex(regex) => regex.is_match(value),
            Self::Range { min, max, kind } => {
                let number = match kind {
                    Kind::Age => years(value),
                    _ => value.trim().parse().ok(),
                };
                number.is_some_and(|number: f64| {
                    min.is_none_or(|min| number >= min) && max.is_none_or(|max| number <= max)
                })
            }
            Self::Between { min, max } => {
                let digits: String = value.chars().filter(|c| *c != '.' && *c != ':').collect();
                let not_after = |max: &str| digits.get(..max.len()).unwrap_or(&digits) <= max;
                min.as_deref().is_none_or(|min| digits.as_str() >= min)
                    && max.as_deref().is_none_or(not_after)
            }
            Self::Present(_) | Self::Not(_) | Self::All(_) | Self::Any(_) => false,
        }
    }

    /// The texts of which one must be equal, where the test is nothing else.
    pub(crate) fn words(&self) -> Option<Vec<&str>> {
        match self {
            Self::Equal { text, .. } => Some(vec![text]),
            Self::Any(tests) => {
                let words: Option<Vec<Vec<&str>>> = tests.iter().map(Self::words).collect();
                words.map(|words| words.concat())
            }
            _ => None,
        }
    }
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let joined = |tests: &[Self], word: &str| {
            tests.iter().map(ToString::to_string).collect::<Vec<_>>().join(word)
        };
        match self {
            Self::Equal { text, .. } => f.write_str(text),
            Self::Number(number) => write!(f, "{number}"),
            Self::Glob { pattern, .. } => write!(f, "like {pattern:?}"),
            Self::Regex(regex) => write!(f, "a match of /{regex}/"),
            Self::Range { min, max, kind } => {
                let unit = if *kind == Kind::Age { " years" } else { "" };
                match (min, max) {
                    (Some(min), Some(max)) => write!(f, "{min} to {max}{unit}"),
                    (Some(min), None) => write!(f, "{min}{unit} or more"),
                    (None, Some(max)) => write!(f, "{max}{unit} or less"),
                    (None, None) => f.write_str("a number"),
                }
            }
            Self::Between { min, max } => match (min, max) {
                (Some(min), Some(max)) => write!(f, "{min} to {max}"),
                (Some(min), None) => write!(f, "{min} or later"),
                (None, Some(max)) => write!(f, "{max} or earlier"),
                (None, None) => f.write_str("a date or time"),
            },
            Self::Present(true) => f.write_str("present"),
            Self::Present(false) => f.write_str("absent"),
            Self::Not(test) => write!(f, "anything but {test}"),
            Self::All(tests) => f.write_str(&joined(tests, " and ")),
            Self::Any(tests) => f.write_str(&joined(tests, " or ")),
        }
    }
}

fn has_wildcard(text: &str) -> bool {
    text.contains(['*', '?'])
}

fn is_moment(text: &str) -> bool {
    (2..=14).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
}

/// Equal as far as a decimal string of 16 characters can tell.
fn same(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * a.abs().max(b.abs())
}

/// An age string (PS3.5 6.2: `018M`) in years.
fn years(value: &str) -> Option<f64> {
    let unit = value.chars().last()?;
    let number: f64 = value[..value.len() - unit.len_utf8()].parse().ok()?;
    match unit {
        'D' => Some(number / 365.25),
        'W' => Some(number * 7.0 / 365.25),
        'M' => Some(number / 12.0),
        'Y' => Some(number),
        _ => None,
    }
}
