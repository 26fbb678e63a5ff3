//! Protected health information, marked as such.

use std::fmt;

/// A value that may identify a patient, or describes one.
///
/// Its `Debug` is a placeholder and it has no `Display`, so that it reaches no log, message, metric or trace by
/// accident. Whoever needs the value says so with [`Phi::expose`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Phi<T>(T);

impl<T> Phi<T> {
    /// Marks `value` as protected.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The protected value, for storing it or for showing it to someone who may see it.
    pub const fn expose(&self) -> &T {
        &self.0
    }

    /// The protected value itself, with its mark taken off.
    pub fn into_exposed(self) -> T {
        self.0
    }
}

impl<T> From<T> for Phi<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

impl<T> fmt::Debug for Phi<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<protected>")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_does_not_show_the_value() {
        let identity = Phi::new("SENTINEL^PATIENT".to_owned());

        assert_eq!(format!("{:?}", Some(&identity)), "Some(<protected>)");
        assert_eq!(identity.expose(), "SENTINEL^PATIENT");
    }
}
