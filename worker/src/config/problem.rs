//! Everything that is wrong with a configuration, at its place.

use std::fmt;

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    /// Key of a table.
    Key(String),
    /// Index of a list, from 0.
    Index(usize),
}

/// Where a value stands: `protocol[0].targets[1]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FieldPath(Vec<Step>);

impl FieldPath {
    /// The whole configuration.
    pub(crate) fn root() -> Self {
        Self::default()
    }

    /// The value under `key`.
    pub(crate) fn key(&self, key: &str) -> Self {
        self.with(Step::Key(key.to_owned()))
    }

    /// The value at `index`.
    pub(crate) fn index(&self, index: usize) -> Self {
        self.with(Step::Index(index))
    }

    /// The steps from the root.
    pub(crate) fn steps(&self) -> &[Step] {
        &self.0
    }

    fn with(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }
}

impl FromIterator<Step> for FieldPath {
    fn from_iter<I: IntoIterator<Item = Step>>(steps: I) -> Self {
        Self(steps.into_iter().collect())
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if number == 0 => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// Where.
    pub(crate) path: FieldPath,
    /// What, and what to do about it.
    pub(crate) message: String,
    /// Line of the site file, from 1, or the environment variable.
    pub(crate) origin: Option<String>,
}

/// Collects problems while a configuration is read.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    errors: Vec<Problem>,
    warnings: Vec<Problem>,
}

impl Problems {
    /// Notes that `message` is wrong at `path`, unless something else already is: the rest is a consequence.
    pub(crate) fn error(&mut self, path: &FieldPath, message: impl Into<String>) {
        if self.any_at(path) {
            return;
        }
        self.errors.push(Problem { path: path.clone(), message: message.into(), origin: None });
    }

    /// Notes that `message` is wrong at `path` of another file than the site's.
    pub(crate) fn push(&mut self, path: FieldPath, origin: Option<String>, message: String) {
        self.errors.push(Problem { path, message, origin });
    }

    /// Notes something at `path` that does not stop the start.
    pub(crate) fn warn(&mut self, path: &FieldPath, message: impl Into<String>) {
        self.warnings.push(Problem { path: path.clone(), message: message.into(), origin: None });
    }

    /// Keeps `value`, or notes its error at `path`.
    pub(crate) fn take<T, E: fmt::Display>(
        &mut self,
        path: &FieldPath,
        value: Result<T, E>,
    ) -> Option<T> {
        value.map_err(|error| self.error(path, error.to_string())).ok()
    }

    /// Whether anything is wrong.
    pub(crate) fn any(&self) -> bool {
        !self.errors.is_empty()
    }

    /// Whether something is already wrong at `path` itself.
    pub(crate) fn any_at(&self, path: &FieldPath) -> bool {
        self.errors.iter().any(|problem| problem.path == *path)
    }

    /// What is wrong and what is doubtful, each in the order of their places.
    pub(crate) fn into_sorted(self) -> (Vec<Problem>, Vec<Problem>) {
        let sorted = |mut problems: Vec<Problem>| {
            problems.sort_by(|a, b| (&a.path, &a.message).cmp(&(&b.path, &b.message)));
            problems
        };
        (sorted(self.errors), sorted(self.warnings))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.steps().is_empty() {
            return f.write_str(&self.message);
        }
        write!(f, "{}", self.path)?;
        if let Some(origin) = &self.origin {
            write!(f, " ({origin})")?;
        }
        write!(f, ": {}", self.message)
    }
}

/// A configuration that cannot be used.
#[derive(Debug)]
pub(crate) struct ConfigError {
    /// The site file, where there is one.
    pub(crate) file: Option<String>,
    /// What is wrong, in the order of the places.
    pub(crate) problems: Vec<Problem>,
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.file.as_deref().unwrap_or("configuration");
        let count = self.problems.len();
        write!(f, "{name}: {count} {}", if count == 1 { "problem" } else { "problems" })?;
        for problem in &self.problems {
            write!(f, "\n  {problem}")?;
        }
        Ok(())
    }
}
