//! What a condition asks of the values of one attribute.

use std::fmt;

use globset::{GlobBuilder, GlobMatcher};
use regex::Regex;
use serde_json::{Map, Value};

use super::terms;
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
    /// Dates, or dates with times, in the order of their digits.
    Date,
    /// Times of a day, in the order of their digits.
    Time,
    /// Words of ours.
    Words(&'static [&'static str]),
    /// Yes or no.
    Flag,
}

impl Kind {
    fn is_text(self) -> bool {
        !matches!(self, Self::Number | Self::Flag)
    }
}

/// What a value is held against: the kind, and what else is known of the attribute.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Domain {
    /// What the values are.
    pub(crate) kind: Kind,
    /// Keyword of a header attribute.
    pub(crate) keyword: Option<&'static str>,
    /// Most characters of one value.
    pub(crate) longest: Option<usize>,
    /// Smallest number that there can be; only whole ones where it is one.
    pub(crate) least: Option<f64>,
}

/// The values of a subject.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Values<'a> {
    /// Of a header attribute.
    Texts(&'a [String]),
    /// A word, or none.
    Word(Option<&'a str>),
    /// A number, or none.
    Number(Option<f64>),
}

impl Values<'_> {
    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Texts(texts) => texts.is_empty(),
            Self::Word(word) => word.is_none(),
            Self::Number(number) => number.is_none(),
        }
    }

    /// The values as a person reads them.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Texts(texts) => texts.join("\\"),
            Self::Word(word) => word.unwrap_or_default().to_owned(),
            Self::Number(number) => number.map(|n| rounded(n).to_string()).unwrap_or_default(),
        }
    }
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
    /// A date or time from `min` to `max`, both included, compared digit by digit; a time may run over midnight.
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
        domain: Domain,
        path: &FieldPath,
        problems: &mut Problems,
    ) -> Option<Self> {
        match value {
            Value::Array(list) => Self::read_list(list, domain, path, problems).map(Self::Any),
            Value::Object(table) => Self::read_table(table, domain, path, problems),
            Value::String(text) if has_wildcard(text) && domain.kind.is_text() => {
                Self::read_glob(text, path, problems)
            }
            _ => Self::read_plain(value, domain, path, problems),
        }
    }

    fn read_plain(
        value: &Value,
        domain: Domain,
        path: &FieldPath,
        problems: &mut Problems,
    ) -> Option<Self> {
        match domain.kind {
            Kind::Number => return Self::read_number(value, domain, path, problems),
            Kind::Flag => {
                let Some(wanted) = value.as_bool() else {
                    problems.error(path, format!("{value} is neither true nor false"));
                    return None;
                };
                return Some(Self::Equal { text: yes_or_no(wanted).to_owned(), exact: true });
            }
            _ => {}
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
        if let Some(wrong) = domain.refuse(&text) {
            problems.error(path, wrong);
            return None;
        }
        if let Some(doubt) = domain.keyword.and_then(|keyword| terms::doubt(keyword, &text)) {
            problems.warn(path, doubt);
        }
        if matches!(domain.kind, Kind::Date | Kind::Time) {
            // A day is every time of it, an hour every minute of it.
            let digits = Some(digits(&text));
            return Some(Self::Between { min: digits.clone(), max: digits });
        }
        Some(Self::Equal { text, exact: domain.kind == Kind::AeTitle })
    }

    fn read_number(
        value: &Value,
        domain: Domain,
        path: &FieldPath,
        problems: &mut Problems,
    ) -> Option<Self> {
        let number = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok());
        let Some(number) = number.filter(|number| number.is_finite()) else {
            problems.error(path, format!("{value} is no number, and the values are numbers"));
            return None;
        };
        if domain.least.is_some_and(|least| number < least) {
            problems.error(path, format!("no series has {number}"));
            return None;
        }
        Some(Self::Number(number))
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
        domain: Domain,
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
            .map(|(index, value)| Self::read(value, domain, &path.index(index), problems))
            .collect();
        read.into_iter().collect()
    }

    fn read_table(
        table: &Map<String, Value>,
        domain: Domain,
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
            let range = Self::read_range(min, max, domain, path, problems);
            complete &= range.is_some();
            tests.extend(range);
        }
        for (key, value) in table {
            let path = path.key(key);
            let test = match (key.as_str(), value) {
                ("min" | "max", _) => continue,
                ("equal", _) => Self::read_plain(value, domain, &path, problems),
                ("glob" | "regex", Value::String(_)) if !domain.kind.is_text() => {
                    problems.error(&path, "a pattern needs text, and the values are none");
                    None
                }
                ("glob", Value::String(text)) => Self::read_glob(text, &path, problems),
                ("regex", Value::String(text)) => Self::read_regex(text, &path, problems),
                ("present", Value::Bool(wanted)) => Some(Self::Present(*wanted)),
                ("not", _) => {
                    Self::read(value, domain, &path, problems).map(|test| Self::Not(Box::new(test)))
                }
                ("all", Value::Array(list)) => {
                    Self::read_list(list, domain, &path, problems).map(Self::All)
                }
                ("any", Value::Array(list)) => {
                    Self::read_list(list, domain, &path, problems).map(Self::Any)
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
        domain: Domain,
        path: &FieldPath,
        problems: &mut Problems,
    ) -> Option<Self> {
        match domain.kind {
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
                let least = domain.least.or((domain.kind == Kind::Age).then_some(0.0));
                if let (Some(least), Some(max)) = (least, max)
                    && max < least
                {
                    problems.error(&path.key("max"), format!("no series has {max} or less"));
                    return None;
                }
                Some(Self::Range { min, max, kind: domain.kind })
            }
            Kind::Date | Kind::Time => {
                let is_moment = if domain.kind == Kind::Time { is_time } else { is_date };
                let bound = |key: &str, value: Option<&Value>, problems: &mut Problems| {
                    let Some(value) = value else { return Some(None) };
                    let text = value.as_str().map(digits).filter(|text| is_moment(text));
                    if text.is_none() {
                        let advice = "write a date as \"2026-01-31\", a time as \"07:30\"";
                        problems.error(&path.key(key), advice);
                    }
                    text.map(Some)
                };
                let (min, max) = (bound("min", min, problems), bound("max", max, problems));
                let (min, max) = (min?, max?);
                if let (Some(min), Some(max)) = (&min, &max)
                    && domain.kind == Kind::Date
                    && !is_not_after(min, max)
                {
                    problems.error(path, format!("nothing is from {min:?} to {max:?}"));
                    return None;
                }
                Some(Self::Between { min, max })
            }
            Kind::Text | Kind::AeTitle | Kind::Words(_) | Kind::Flag => {
                problems.error(
                    path,
                    "min and max need numbers, dates or times, and the values are text",
                );
                None
            }
        }
    }

    /// Whether the values pass.
    pub(crate) fn holds(&self, values: Values<'_>) -> bool {
        match self {
            Self::Present(wanted) => *wanted != values.is_empty(),
            Self::Not(test) => !test.holds(values),
            Self::All(tests) => tests.iter().all(|test| test.holds(values)),
            Self::Any(tests) => tests.iter().any(|test| test.holds(values)),
            _ => match values {
                Values::Texts(texts) => texts.iter().any(|text| self.passes(text)),
                Values::Word(word) => word.is_some_and(|word| self.passes(word)),
                Values::Number(number) => number.is_some_and(|n| self.passes_number(rounded(n))),
            },
        }
    }

    fn passes_number(&self, value: f64) -> bool {
        match self {
            Self::Number(wanted) => same(value, *wanted),
            Self::Range { min, max, .. } => {
                min.is_none_or(|min| value >= min) && max.is_none_or(|max| value <= max)
            }
            _ => false,
        }
    }

    /// Whether one value passes a test of single values.
    fn passes(&self, value: &str) -> bool {
        match self {
            Self::Equal { text, exact: true } => value == text,
            Self::Equal { text, exact: false } => same_word(value, text),
            Self::Number(wanted) => value.trim().parse::<f64>().is_ok_and(|v| same(v, *wanted)),
            Self::Glob { matcher, .. } => matcher.is_match(value),
            Self::Regex(regex) => regex.is_match(value),
            Self::Range { kind, .. } => {
                let number = match kind {
                    Kind::Age => years(value),
                    _ => value.trim().parse().ok(),
                };
                number.is_some_and(|number| self.passes_number(number))
            }
            Self::Between { min, max } => {
                let digits = digits(value);
                let reached = min.as_deref().is_none_or(|min| is_not_before(&digits, min));
                let not_passed = max.as_deref().is_none_or(|max| is_not_after(&digits, max));
                match (min, max) {
                    // From evening to morning.
                    (Some(min), Some(max)) if !is_not_after(min, max) => reached || not_passed,
                    _ => reached && not_passed,
                }
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
                (Some(min), Some(max)) if min == max => f.write_str(min),
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

fn yes_or_no(flag: bool) -> &'static str {
    if flag { "yes" } else { "no" }
}

/// Equal without regard to case.
fn same_word(a: &str, b: &str) -> bool {
    if a.is_ascii() && b.is_ascii() {
        return a.eq_ignore_ascii_case(b);
    }
    a.to_lowercase() == b.to_lowercase()
}

/// A date or time as PS3.5 6.2 has it, without what people and old scanners put between the digits.
fn digits(text: &str) -> String {
    let whole = text.split('.').next().unwrap_or_default();
    whole.trim().chars().filter(|c| !matches!(c, ':' | '-')).collect()
}

fn is_time(text: &str) -> bool {
    let part = |range: std::ops::Range<usize>, last: u32| {
        text.get(range).is_none_or(|part| part.parse::<u32>().is_ok_and(|number| number <= last))
    };
    matches!(text.len(), 2 | 4 | 6)
        && text.bytes().all(|b| b.is_ascii_digit())
        && part(0..2, 23)
        && part(2..4, 59)
        && part(4..6, 60)
}

fn is_date(text: &str) -> bool {
    let part = |range: std::ops::Range<usize>, last: u32| {
        text.get(range)
            .is_none_or(|part| part.parse::<u32>().is_ok_and(|n| (1..=last).contains(&n)))
    };
    let (date, time) = text.split_at_checked(8).unwrap_or((text, ""));
    matches!(date.len(), 4 | 6 | 8)
        && date.bytes().all(|b| b.is_ascii_digit())
        && part(4..6, 12)
        && part(6..8, 31)
        && (time.is_empty() || is_time(time))
}

/// Whether `digits` are not before `min`, as far as `digits` go.
fn is_not_before(digits: &str, min: &str) -> bool {
    let common = digits.len().min(min.len());
    matches!((digits.get(..common), min.get(..common)), (Some(a), Some(b)) if a >= b)
}

/// Whether `digits` are not after `max`, as far as `max` goes.
fn is_not_after(digits: &str, max: &str) -> bool {
    let common = digits.len().min(max.len());
    matches!((digits.get(..common), max.get(..common)), (Some(a), Some(b)) if a <= b)
}

/// A length without the noise of its computation: a micrometre decides nothing.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

impl Domain {
    /// What is wrong with `text` as a value, if it cannot be one.
    fn refuse(&self, text: &str) -> Option<String> {
        match self.kind {
            Kind::Words(words) if !words.contains(&text) => {
                let hint = suggest::hint(text, words.iter().copied());
                return Some(format!("{text:?} is none of {}{hint}", words.join(", ")));
            }
            Kind::Date if !is_date(&digits(text)) => {
                return Some(format!("{text:?} is no date; write it as \"2026-01-31\""));
            }
            Kind::Time if !is_time(&digits(text)) => {
                return Some(format!("{text:?} is no time; write it as \"07:30\""));
            }
            Kind::Age if years(text).is_none() => {
                return Some(format!(
                    "{text:?} is no age; write \"045Y\", or min and max in years"
                ));
            }
            _ => {}
        }
        if let Some(longest) = self.longest.filter(|longest| text.chars().count() > *longest) {
            return Some(format!("no value is longer than {longest} characters"));
        }
        terms::refuse(self.keyword?, text)
    }
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
