//! Patient attributes that must never reach a log.

use std::fmt;

/// Protected health information: a value that `{:?}` does not show and that has no `Display`.
///
/// [`Self::expose`] is the one way to the value, so that each use can be found by its name.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Phi<T>(T);

impl<T> Phi<T> {
    /// Wraps a value.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself. The caller keeps it out of logs, errors, metrics and messages.
    pub fn expose(&self) -> &T {
        &self.0
    }

    /// Unwraps the value, under the same duty as [`Self::expose`].
    pub fn into_exposed(self) -> T {
        self.0
    }

    /// Applies `change` to the value and keeps the result wrapped.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Phi<U> {
        Phi(change(self.0))
    }
}

impl<T> fmt::Debug for Phi<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<phi>")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_never_shows_the_value() {
        let name = Phi::new("Doe^Jane".to_owned());

        assert_eq!(format!("{name:?} {:?}", Some(&name)), "<phi> Some(<phi>)");
        assert_eq!(name.map(|name| name.len()).expose(), &8);
    }
}
