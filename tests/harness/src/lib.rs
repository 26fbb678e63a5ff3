#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod browser;
pub mod certificates;
pub mod dcmqrscp;
pub mod dcmtk;
pub mod orthanc;
pub mod postgres;
pub mod promtool;
pub mod prosector;
pub mod python;
pub mod rabbitmq;
pub mod s3;
mod service;
pub mod syslog;

pub use service::{Service, free_port, material, wait_until};
