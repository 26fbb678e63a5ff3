//! The whole system against tools that others wrote.
#![expect(clippy::unwrap_used, reason = "a test fails where its steps do")]

mod architecture;
mod services;
