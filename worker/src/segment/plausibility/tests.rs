use super::*;
use crate::protocol::resolve;

const SHAPE: [usize; 3] = [20, 30, 60];

/// A body of 300 mm from right to left, first slice at the feet, first column at the patient's right.
fn volume() -> Volume {
    let steps = [[0.0, 0.0, 10.0], [0.0, 5.0, 0.0], [5.0, 0.0, 0.0]];
    let geometry = GridGeometry::new(SHAPE, [-147.5, -75.0, 0.0], steps).unwrap();
    Volume::new(geometry, vec![40.0; SHAPE.iter().product()]).unwrap()
}

fn block(slices: [usize; 2], rows: [usize; 2], columns: [usize; 2]) -> Mask {
    let within = |range: [usize; 2], index: usize| (range[0]..range[1]).contains(&index);
    Mask::from_fn(SHAPE, |[s, r, c]| within(slices, s) && within(rows, r) && within(columns, c))
}

/// What is odd, as `prompt kind` and detail.
fn looked_at(seen: &[(&str, Mask)], rules: &Plausibility) -> Vec<(String, String)> {
    let targets: Vec<Target> =
        seen.iter().map(|(prompt, _)| resolve(prompt).unwrap().remove(0)).collect();
    let masks: Vec<Mask> = seen.iter().map(|(_, mask)| mask.clone()).collect();
    let found = findings(&volume(), Modality::Ct, &targets, &masks, rules);
    found.into_iter().map(|f| (format!("{} {}", f.prompt, f.kind), f.detail)).collect()
}

fn kinds(seen: &[(&str, Mask)]) -> Vec<String> {
    looked_at(seen, &Plausibility::default()).into_iter().map(|(what, _)| what).collect()
}

fn on_the_right() -> Mask {
    block([5, 10], [5, 15], [10, 20])
}

fn on_the_left() -> Mask {
    block([5, 10], [5, 15], [40, 50])
}

#[test]
fn organs_in_their_place_are_not_odd() {
    let seen = [
        ("right kidney", on_the_right()),
        ("left kidney", on_the_left()),
        ("liver", block([8, 16], [5, 20], [8, 30])),
        ("vertebrae", block([2, 18], [20, 25], [27, 33])),
    ];

    assert_eq!(kinds(&seen), Vec::<String>::new());
}

#[test]
fn a_target_between_others_that_are_there_is_missing() {
    let empty = Mask::empty(SHAPE);
    let above = block([15, 18], [5, 15], [8, 20]);
    let seen = [
        ("right lung", above.clone()),
        ("liver", empty.clone()),
        ("urinary bladder", block([1, 3], [5, 15], [25, 35])),
    ];

    let found = looked_at(&seen, &Plausibility::default());
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].0, "liver empty");
    assert_eq!(found[0].1, "not found, although right lung above and urinary bladder below it are");

    let optional = Plausibility { optional: ["liver".to_owned()].into(), ..Default::default() };
    assert_eq!(looked_at(&seen, &optional), []);
    let only_above = [("right lung", above), ("liver", empty.clone())];
    assert_eq!(kinds(&only_above), Vec::<String>::new());
    let expected = Plausibility { expected: ["liver".to_owned()].into(), ..Default::default() };
    assert_eq!(looked_at(&[("liver", empty)], &expected)[0].0, "liver empty");
}

#[test]
fn a_target_at_the_border_is_cut_off_and_the_side_is_named() {
    let at_the_feet = [("liver", block([0, 8], [5, 20], [8, 30]))];
    let found = looked_at(&at_the_feet, &Plausibility::default());
    assert_eq!(
        found,
        [("liver cut_off".to_owned(), "cut off at the border of the volume: feet".to_owned())]
    );

    let on_all_sides = [("liver", block([0, 20], [0, 30], [0, 60]))];
    let found = looked_at(&on_all_sides, &Plausibility::default());
    assert!(found[0].1.ends_with("feet, head, front, back, right, left"), "{found:?}");
    assert_eq!(kinds(&[("skin", block([0, 20], [0, 30], [0, 60]))]), Vec::<String>::new());
}

#[test]
fn a_target_in_pieces_is_in_fragments() {
    let two = Mask::from_fn(SHAPE, |[s, r, c]| {
        (5..10).contains(&s) && (5..15).contains(&r) && ((8..18).contains(&c) || c == 24)
    });
    let seen = [("liver", two.clone())];

    let found = looked_at(&seen, &Plausibility::default());
    assert_eq!(found[0].0, "liver fragments");
    assert_eq!(found[0].1, "in 2 parts, of which the largest holds 91 %");

    assert_eq!(kinds(&[("liver tumor", two)]), Vec::<String>::new());
    let both = Mask::from_fn(SHAPE, |v| on_the_left().contains(v) || on_the_right().contains(v));
    assert_eq!(kinds(&[("kidney", both)]), Vec::<String>::new());
    let rules = Plausibility { parts: [("liver".to_owned(), 2)].into(), ..Default::default() };
    assert_eq!(looked_at(&seen, &rules), []);
}

#[test]
fn sides_that_are_swapped_are_found() {
    let swapped = [("right kidney", on_the_left()), ("left kidney", on_the_right())];
    assert_eq!(kinds(&swapped), ["right kidney side", "left kidney side"]);

    let by_spine = [
        ("liver", block([8, 16], [5, 20], [36, 50])),
        ("vertebrae", block([2, 18], [20, 25], [27, 33])),
    ];
    assert_eq!(kinds(&by_spine), ["liver side"]);

    let alone = [("spleen", on_the_right())];
    let found = looked_at(&alone, &Plausibility::default());
    assert_eq!(found[0].0, "spleen side");
    assert!(found[0].1.ends_with("mm off the left side, by the body's outline"), "{found:?}");
}

#[test]
fn a_volume_outside_its_range_is_told_with_the_range() {
    let rules = Plausibility {
        volume_ml: [("left kidney".to_owned(), [150.0, 300.0])].into(),
        ..Default::default()
    };

    // 5 x 10 x 10 voxels of a quarter of a millilitre.
    let found = looked_at(&[("left kidney", on_the_left())], &rules);

    assert_eq!(
        found,
        [("left kidney volume".to_owned(), "125.0 mL, expected 150 to 300 mL".to_owned())]
    );
}
