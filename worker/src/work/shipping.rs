//! Which object goes where.

use std::collections::BTreeMap;

use prosector_storage::{JobId, NewDelivery, NewResult, SpoolKey};

use crate::protocol::{Forms, Product, Shipment};
use crate::segment::Encoded;

/// The forms that each destination of a job wants.
#[derive(Debug)]
pub(super) struct Shipping {
    /// Names and lists.
    pub(super) destinations: Vec<(String, Forms)>,
    /// What is kept where there is no destination.
    pub(super) otherwise: Forms,
    /// What is kept beside all of it, to be compared.
    pub(super) compared: Option<Forms>,
}

impl Shipping {
    /// A segmentation that goes nowhere.
    pub(super) fn of_candidate() -> Self {
        Self { destinations: Vec::new(), otherwise: Forms::default(), compared: None }
    }

    /// Every list that objects must be there for.
    pub(super) fn lists(&self) -> Vec<Forms> {
        let wanted: Vec<Forms> = match self.destinations.as_slice() {
            [] => vec![self.otherwise.clone()],
            destinations => destinations.iter().map(|(_, forms)| forms.clone()).collect(),
        };
        wanted.into_iter().chain(self.compared.clone()).collect()
    }

    /// The objects as results, each with the destinations that it goes to at once.
    pub(super) fn results(&self, job_id: JobId, encoded: &Encoded) -> Vec<NewResult> {
        let uid = |product: Product| {
            encoded.object(product).map(|object| object.sop_instance_uid.clone())
        };
        let mut deliveries: BTreeMap<Product, Vec<NewDelivery>> = BTreeMap::new();
        for (destination, forms) in &self.destinations {
            for Shipment { product, fallbacks } in encoded.shipments(forms) {
                deliveries.entry(product).or_default().push(NewDelivery {
                    destination: destination.clone(),
                    fallbacks: fallbacks.into_iter().filter_map(uid).collect(),
                });
            }
        }
        let objects = encoded.objects.iter();
        objects
            .map(|object| NewResult {
                spool_key: SpoolKey::for_result(job_id, &object.sop_instance_uid),
                sop_instance_uid: object.sop_instance_uid.clone(),
                series_instance_uid: object.series_instance_uid.clone(),
                sop_class_uid: object.sop_class_uid.clone(),
                form: object.product.form(),
                sha256: object.sha256,
                size_bytes: object.bytes.len() as u64,
                refers_to: object.product.refers_to().and_then(uid),
                deliveries: deliveries.remove(&object.product).unwrap_or_default(),
            })
            .collect()
    }
}
