//! The listening side: C-ECHO, C-STORE and storage commitment as service class provider, and reports of storage
//! commitment from others.
//!
//! A data set goes from P-DATA to an [`InstanceSink`] in pieces, hashed on the way; only the header in front of Pixel
//! Data is looked at, and nothing is encoded again. Success is answered after the sink says that the instance is
//! durable.

mod admission;
mod association;
mod fuzz;
mod listener;
mod negotiate;
mod policy;
mod receiver;
mod store;
#[cfg(test)]
mod tests;

pub(crate) use fuzz::fuzz_association;
pub use listener::{Endpoint, serve};
pub use policy::{
    AddressRange, Admission, AllowList, ParseAddressRangeError, RejectReason, ScpConfig, ScpLimits,
    ScpTimeouts,
};
pub use receiver::{
    AssociationEnd, AssociationInfo, AssociationOutcome, CommitmentAnswer, ContextRefusal,
    InstanceReceiver, InstanceSink, ReceivedInstance, RefusedSopClass, RejectedAssociation,
    StoreRequest,
};
pub(crate) use store::{Receiving, Refusal};
