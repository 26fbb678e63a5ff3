//! System tests of prosector; the tests themselves are in `main.rs`.
