//! The forms that a destination gets results in, and which of them stand in for which.

use std::collections::HashSet;

use dicom_io::seg::SegmentationType;
use prosector_storage::ResultForm;

use crate::config::{FieldPath, Problems, suggest};

/// Forms of the result, each once, the preferred one first.
///
/// Forms of different kinds go out together: where the targets lie (`seg`, `labelmap`, `rtstruct`), what was measured
/// (`sr`), how it looks (`picture`). Of one kind the first goes out, and the next where the destination refuses it.
/// Where it refuses the last of a kind, what follows in the list stands in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Forms(Vec<ResultForm>);

/// An object of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Product {
    /// Binary segmentation.
    Seg,
    /// Label map.
    Labelmap,
    /// Report that refers to the binary segmentation.
    Report,
    /// Report that refers to the label map.
    ReportOfLabelmap,
    /// Pictures.
    Picture,
    /// Structure set.
    StructureSet,
}

/// What is sent at once, and what takes its place where it is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shipment {
    /// What is sent.
    pub(crate) product: Product,
    /// What takes its place, the next one first.
    pub(crate) fallbacks: Vec<Product>,
}

impl Product {
    /// Its form.
    pub(crate) fn form(self) -> ResultForm {
        match self {
            Self::Seg => ResultForm::Seg,
            Self::Labelmap => ResultForm::Labelmap,
            Self::Report | Self::ReportOfLabelmap => ResultForm::Sr,
            Self::Picture => ResultForm::Picture,
            Self::StructureSet => ResultForm::Rtstruct,
        }
    }

    /// The object that it speaks of.
    pub(crate) fn refers_to(self) -> Option<Self> {
        match self {
            Self::Report => Some(Self::Seg),
            Self::ReportOfLabelmap => Some(Self::Labelmap),
            Self::Seg | Self::Labelmap | Self::Picture | Self::StructureSet => None,
        }
    }
}

impl Default for Forms {
    fn default() -> Self {
        Self(vec![ResultForm::Seg])
    }
}

impl Forms {
    /// These forms, each once.
    #[cfg(test)]
    pub(crate) fn new(forms: &[ResultForm]) -> Self {
        let mut seen = HashSet::new();
        Self(forms.iter().filter(|form| seen.insert(**form)).copied().collect())
    }

    /// Reads a list of words; binary segmentations where it is empty.
    pub(crate) fn read(raw: &[String], path: &FieldPath, problems: &mut Problems) -> Option<Self> {
        if raw.is_empty() {
            return Some(Self::default());
        }
        let askable = ResultForm::ALL.iter().filter(|form| **form != ResultForm::RejectionNote);
        let words: Vec<&str> = askable.map(|form| form.as_str()).collect();
        let mut forms = Vec::new();
        for (index, word) in raw.iter().enumerate() {
            let path = path.index(index);
            match word.parse::<ResultForm>() {
                Ok(form) if forms.contains(&form) => {
                    problems.error(&path, format!("{form} is in the list already"));
                }
                Ok(form) if form != ResultForm::RejectionNote => forms.push(form),
                Ok(_) | Err(_) => {
                    let hint = suggest::hint(word, words.iter().copied());
                    let message = format!("{word:?} is none of {}{hint}", words.join(", "));
                    problems.error(&path, message);
                }
            }
        }
        (forms.len() == raw.len()).then_some(Self(forms))
    }

    /// The list without label maps, for targets that overlap; binary segmentations take their place, if nothing else in
    /// the list says where the targets lie.
    pub(crate) fn without_labelmap(&self) -> Self {
        let has_other = self.0.iter().any(|form| is_region(*form) && *form != ResultForm::Labelmap);
        let replaced = self.0.iter().filter_map(|form| match form {
            ResultForm::Labelmap if has_other => None,
            ResultForm::Labelmap => Some(ResultForm::Seg),
            other => Some(*other),
        });
        Self(replaced.collect())
    }

    /// What goes to a destination with this list.
    pub(crate) fn shipments(&self) -> Vec<Shipment> {
        let mut kinds = HashSet::new();
        let mut shipments = Vec::new();
        for (index, form) in self.0.iter().enumerate() {
            if !kinds.insert(kind(*form)) {
                continue;
            }
            let later = &self.0[index + 1..];
            let is_same_kind = |other: &&ResultForm| kind(**other) == kind(*form);
            let same = later.iter().filter(is_same_kind);
            let others = later.iter().filter(|other| !is_same_kind(other));
            let fallbacks = same.chain(others).map(|form| self.product(*form)).collect();
            shipments.push(Shipment { product: self.product(*form), fallbacks });
        }
        shipments
    }

    /// The object of each form in the list.
    pub(crate) fn products(&self) -> impl Iterator<Item = Product> + '_ {
        self.0.iter().map(|form| self.product(*form))
    }

    /// Every object that some destination with this list may get: a report of each segmentation that it may get.
    pub(crate) fn every_product(&self) -> impl Iterator<Item = Product> + '_ {
        let reports =
            [(ResultForm::Seg, Product::Report), (ResultForm::Labelmap, Product::ReportOfLabelmap)];
        let has_report = self.0.contains(&ResultForm::Sr);
        let reports = reports.into_iter().filter(move |(of, _)| has_report && self.0.contains(of));
        self.products().chain(reports.map(|(_, report)| report))
    }

    /// The object of a form. A report refers to the segmentation that goes out beside it.
    fn product(&self, form: ResultForm) -> Product {
        match form {
            ResultForm::Seg => Product::Seg,
            ResultForm::Rtstruct => Product::StructureSet,
            ResultForm::Labelmap => Product::Labelmap,
            ResultForm::Picture => Product::Picture,
            ResultForm::RejectionNote => unreachable!("nobody can ask for a rejection note"),
            ResultForm::Sr => match self.segmentation() {
                SegmentationType::Binary => Product::Report,
                SegmentationType::Labelmap => Product::ReportOfLabelmap,
            },
        }
    }

    /// The segmentation that is preferred.
    fn segmentation(&self) -> SegmentationType {
        let is_segmentation =
            |form: &&ResultForm| matches!(form, ResultForm::Seg | ResultForm::Labelmap);
        match self.0.iter().find(is_segmentation) {
            Some(ResultForm::Labelmap) => SegmentationType::Labelmap,
            _ => SegmentationType::Binary,
        }
    }
}

/// Forms of one kind are alternatives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Regions,
    Measurements,
    Pictures,
    Rejections,
}

fn kind(form: ResultForm) -> Kind {
    match form {
        ResultForm::Seg | ResultForm::Labelmap | ResultForm::Rtstruct => Kind::Regions,
        ResultForm::Sr => Kind::Measurements,
        ResultForm::Picture => Kind::Pictures,
        ResultForm::RejectionNote => Kind::Rejections,
    }
}

fn is_region(form: ResultForm) -> bool {
    kind(form) == Kind::Regions
}

#[cfg(test)]
mod tests {
    use super::*;
    use ResultForm::{Labelmap, Picture, Rtstruct, Seg, Sr};

    fn shipped(forms: &[ResultForm]) -> Vec<(Product, Vec<Product>)> {
        let shipments = Forms::new(forms).shipments();
        shipments.into_iter().map(|shipment| (shipment.product, shipment.fallbacks)).collect()
    }

    #[test]
    fn kinds_go_out_together_and_forms_of_one_kind_one_after_the_other() {
        assert_eq!(shipped(&[Seg]), [(Product::Seg, vec![])]);
        assert_eq!(shipped(&[Seg, Labelmap]), [(Product::Seg, vec![Product::Labelmap])]);
        assert_eq!(
            shipped(&[Seg, Sr]),
            [(Product::Seg, vec![Product::Report]), (Product::Report, vec![])]
        );
        assert_eq!(
            shipped(&[Seg, Sr, Labelmap, Picture]),
            [
                (Product::Seg, vec![Product::Labelmap, Product::Report, Product::Picture]),
                (Product::Report, vec![Product::Labelmap, Product::Picture]),
                (Product::Picture, vec![]),
            ]
        );
    }

    #[test]
    fn a_report_refers_to_the_segmentation_that_goes_out_beside_it() {
        assert_eq!(shipped(&[Labelmap, Sr])[1].0, Product::ReportOfLabelmap);
        assert_eq!(shipped(&[Sr, Seg, Labelmap])[0].0, Product::Report);
        assert_eq!(shipped(&[Sr])[0].0, Product::Report);
    }

    #[test]
    fn there_is_a_report_of_every_segmentation_that_may_arrive() {
        let every = |forms: &[ResultForm]| -> std::collections::BTreeSet<Product> {
            Forms::new(forms).every_product().collect()
        };

        assert_eq!(
            every(&[Labelmap, Seg, Sr]),
            [Product::Seg, Product::Labelmap, Product::Report, Product::ReportOfLabelmap].into()
        );
        assert_eq!(every(&[Labelmap, Sr]), [Product::Labelmap, Product::ReportOfLabelmap].into());
        assert_eq!(every(&[Sr]), [Product::Report].into());
        assert_eq!(every(&[Seg]), [Product::Seg].into());
    }

    #[test]
    fn targets_that_overlap_go_out_as_binary_segmentation() {
        let without = |forms: &[ResultForm]| Forms::new(forms).without_labelmap();

        assert_eq!(without(&[Labelmap]), Forms::new(&[Seg]));
        assert_eq!(without(&[Labelmap, Sr]), Forms::new(&[Seg, Sr]));
        assert_eq!(without(&[Labelmap, Sr, Seg]), Forms::new(&[Sr, Seg]));
        assert_eq!(without(&[Labelmap, Rtstruct]), Forms::new(&[Rtstruct]));
        assert_eq!(without(&[Sr, Picture]), Forms::new(&[Sr, Picture]));
    }

    #[test]
    fn what_is_no_form_or_comes_twice_is_named_with_its_place() {
        let read = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(ToString::to_string).collect();
            let mut problems = Problems::default();
            let forms = Forms::read(&words, &FieldPath::root().key("forms"), &mut problems);
            let (errors, _) = problems.into_sorted();
            (forms, errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
        };

        assert_eq!(read(&[]).0, Some(Forms::default()));
        assert_eq!(read(&["labelmap", "sr"]), (Some(Forms::new(&[Labelmap, Sr])), String::new()));
        let (forms, errors) = read(&["seg", "pictures", "seg"]);
        assert_eq!(forms, None);
        insta::assert_snapshot!(errors, @r#"
        forms[1]: "pictures" is none of seg, labelmap, sr, picture, rtstruct, did you mean "picture"?
        forms[2]: seg is in the list already
        "#);
    }
}
