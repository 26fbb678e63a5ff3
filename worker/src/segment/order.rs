//! What to do with one volume, and which job that is.

use std::collections::BTreeSet;

use dicom_io::Attribute;
use dicom_io::coded_concept::CodedConcept;
use dicom_io::series::Stack;
use dicom_types::Modality;
use prosector_model::{Mode, OrientationCode};
use prosector_storage::{JobId, JobInputs, Lane, NewJob, Priority, Sha256Digest};
use serde_json::{Value, json};

use crate::protocol::{Plausibility, Protocol, Target};
use crate::vocabulary::Sex;

/// Everything that changes a result, beside the series and the model pack.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Order {
    /// Name of the protocol, which is written into the result.
    pub(crate) protocol_name: String,
    /// What to look for, each prompt once.
    pub(crate) targets: Vec<Target>,
    /// Voxel order for the network.
    pub(crate) orientation: OrientationCode,
    /// How windows cover the volume.
    pub(crate) mode: Mode,
    /// What to tell the network that the scan is, in place of what the header says.
    pub(crate) modality: Option<Modality>,
    /// What is expected of the targets.
    pub(crate) plausibility: Plausibility,
}

impl Order {
    /// What `protocol` asks of `stack`: targets of one sex alone are left out where the header does not name it.
    pub(crate) fn of_protocol(protocol: &Protocol, stack: &Stack) -> Self {
        let sex = patient_sex(stack);
        let targets = protocol.targets.iter().filter(|target| target.is_for(sex));
        Self {
            protocol_name: protocol.name.clone(),
            targets: targets.cloned().collect(),
            orientation: protocol.orientation,
            mode: protocol.mode,
            modality: None,
            plausibility: protocol.plausibility.clone(),
        }
    }

    /// `targets` named by hand, with the same care for the patient's sex.
    pub(crate) fn ad_hoc(name: &str, targets: &[Target], stack: &Stack) -> Self {
        let sex = patient_sex(stack);
        Self {
            protocol_name: name.to_owned(),
            targets: targets.iter().filter(|target| target.is_for(sex)).cloned().collect(),
            orientation: OrientationCode::Ras,
            mode: Mode::Reference,
            modality: None,
            plausibility: Plausibility::default(),
        }
    }

    /// The modality that the network is told.
    pub(crate) fn modality_of(&self, stack: &Stack) -> Modality {
        self.modality.unwrap_or(stack.modality)
    }

    /// Digest of the fields, equal for equal orders in every version of the program.
    pub(crate) fn digest(&self) -> Sha256Digest {
        let targets: Vec<Value> = self.targets.iter().map(canonical).collect();
        let modality = self.modality.map(Modality::as_str);
        let mut order = vec![
            json!("prosector order 1"),
            json!(self.protocol_name),
            json!(self.orientation.as_str()),
            json!(modality),
            json!(targets),
        ];
        // Orders of versions without modes keep their digest.
        if self.mode != Mode::Reference {
            order.push(json!(self.mode.as_str()));
        }
        // What is odd stands in the report.
        order.extend(Some(self.plausibility.canonical()).filter(|rules| !rules.is_null()));
        let order = Value::Array(order);
        Sha256Digest::of(order.to_string().as_bytes())
    }

    /// The job that this order is on the `instances` of `stack`'s series, with the pack of `pack_digest`.
    pub(crate) fn job_id(&self, stack: &Stack, pack_digest: &Sha256Digest) -> JobId {
        self.job_id_in(Lane::Production, stack, pack_digest)
    }

    /// The same in a lane: a candidate that becomes production's pack makes other objects than it did before.
    fn job_id_in(&self, lane: Lane, stack: &Stack, pack_digest: &Sha256Digest) -> JobId {
        let digest = match lane {
            Lane::Production => self.digest(),
            Lane::Shadow => {
                Sha256Digest::of(format!("prosector shadow 1\n{}", self.digest()).as_bytes())
            }
        };
        let instances: BTreeSet<_> =
            stack.slices.iter().map(|slice| slice.sop_instance_uid.clone()).collect();
        JobId::derive(&JobInputs {
            series_instance_uid: &stack.series_instance_uid,
            instances: &instances,
            protocol_digest: &digest,
            pack_digest,
        })
    }
}

/// The job that `protocol` makes of `stack` with the pack of `pack_digest`.
pub(crate) fn new_job(stack: &Stack, protocol: &Protocol, pack_digest: Sha256Digest) -> NewJob {
    let order = Order::of_protocol(protocol, stack);
    NewJob {
        job_id: order.job_id(stack, &pack_digest),
        protocol_name: protocol.name.clone(),
        protocol_revision: protocol.revision().sha256,
        pack_digest,
        priority: protocol.priority,
        lane: Lane::Production,
        instances: stack.slices.iter().map(|slice| slice.sop_instance_uid.clone()).collect(),
        hold: None,
    }
}

/// The job that a candidate, the pack of `pack_digest`, makes beside that of `protocol`.
pub(crate) fn shadow_job(stack: &Stack, protocol: &Protocol, pack_digest: Sha256Digest) -> NewJob {
    let order = Order::of_protocol(protocol, stack);
    NewJob {
        job_id: order.job_id_in(Lane::Shadow, stack, &pack_digest),
        priority: Priority::Backfill,
        lane: Lane::Shadow,
        ..new_job(stack, protocol, pack_digest)
    }
}

/// A target as a list: no key can change its name, and nothing can be mistaken for something else.
fn canonical(target: &Target) -> Value {
    let code =
        |code: &CodedConcept| json!([code.value(), code.scheme_designator(), code.meaning()]);
    let optional = |part: &Option<CodedConcept>| part.as_ref().map(code);
    let concept = &target.concept;
    json!([
        target.prompt,
        code(&concept.property_category),
        code(&concept.property_type),
        optional(&concept.property_type_modifier),
        optional(&concept.anatomic_region),
        optional(&concept.anatomic_region_modifier),
        target.rgb,
    ])
}

fn patient_sex(stack: &Stack) -> Option<Sex> {
    let attribute = Attribute::by_keyword("PatientSex")?;
    attribute.values(&stack.header).first().and_then(|value| Sex::from_header(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::resolve;

    fn order() -> Order {
        Order {
            protocol_name: "ct".to_owned(),
            targets: resolve("@ct_abdomen").unwrap(),
            orientation: OrientationCode::Ras,
            mode: Mode::Reference,
            modality: None,
            plausibility: Plausibility::default(),
        }
    }

    #[test]
    fn every_field_changes_the_digest() {
        let mut others = vec![order(); 8];
        others[0].protocol_name.push('x');
        others[1].targets.pop();
        others[2].targets.swap(0, 1);
        others[3].targets[0].rgb[0] ^= 1;
        others[4].orientation = OrientationCode::Asr;
        others[5].modality = Some(Modality::Mr);
        others[6].mode = Mode::Fast;
        others[7].plausibility.expected.insert("liver".to_owned());

        assert_eq!(order().digest(), order().digest());
        for other in others {
            assert_ne!(other.digest(), order().digest());
        }
    }

    #[test]
    fn the_digest_stays_the_same_from_version_to_version() {
        let order = Order {
            protocol_name: "ct".to_owned(),
            targets: resolve("left kidney").unwrap(),
            orientation: OrientationCode::Ras,
            mode: Mode::Reference,
            modality: None,
            plausibility: Plausibility::default(),
        };

        // sha256sum of ["prosector order 1","ct","RAS",null,[["left kidney",["91723000","SCT",
        // "Anatomical Structure"],["64033007","SCT","Kidney"],["7771000","SCT","Left"],null,null,[185,102,83]]]], one line.
        insta::assert_snapshot!(order.digest(), @"264d16223f5ad095372383ce56b6b4d7fc68bf7a425a2d2aa3d23fa8534f4bdc");
    }
}
