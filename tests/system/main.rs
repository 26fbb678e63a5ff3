//! The whole system against tools that others wrote.

mod architecture;
mod services;
