//! Outlines of a mask in one slice.
//!
//! An outline runs along the edges of pixels, so that it encloses exactly the pixels of the mask. Each closed polygon
//! is one connected part of the mask; a hole in it is joined to its outside by a channel without width, as PS3.3
//! C.8.8.6.1 wants it (a "keyhole").

use std::collections::{HashMap, HashSet};

use dicom_types::Mask;

/// A place in a slice in pixels, `[row, column]`; the centre of the first pixel is `[0, 0]`.
pub(super) type Point = [f64; 2];

/// Where a channel meets an edge: below the centre of the row, which it must not touch.
const CHANNEL: f64 = 0.25;

/// A corner between pixels, `[row, column]`: the upper left corner of the pixel with these numbers.
type Corner = [i64; 2];

/// A closed walk around pixels, which lie on its right hand side (rows run downwards).
struct Loop {
    corners: Vec<Corner>,
    is_hole: bool,
}

/// A hole that is reached from a vertical edge: the loop of the hole and the place of its own edge.
struct Channel {
    hole: usize,
    column: i64,
}

/// Closed polygons around the pixels of `mask` in `slice`, the first point not repeated.
pub(super) fn outlines(mask: &Mask, slice: usize) -> Vec<Vec<Point>> {
    let grid = Pixels::new(mask, slice);
    let loops = grid.loops();
    // Each vertical edge belongs to one loop.
    let mut owner: HashMap<(i64, i64), usize> = HashMap::new();
    for (index, outline) in loops.iter().enumerate() {
        for (from, to) in outline.edges() {
            if from[1] == to[1] {
                owner.insert((from[0].min(to[0]), from[1]), index);
            }
        }
    }
    let mut channels: HashMap<(usize, i64, i64), Channel> = HashMap::new();
    for (hole, outline) in loops.iter().enumerate().filter(|(_, outline)| outline.is_hole) {
        // The pixel to the left of the hole's leftmost edge belongs to the mask; its own left edge, or that of the
        // first one beyond it, belongs to another loop.
        let Some((row, column)) = outline.leftmost_edge() else { continue };
        let mut left = column;
        while grid.contains(row, left - 1) {
            left -= 1;
        }
        if let Some(&other) = owner.get(&(row, left)) {
            channels.insert((other, row, left), Channel { hole, column });
        }
    }
    loops
        .iter()
        .enumerate()
        .filter(|(_, outline)| !outline.is_hole)
        .map(|(index, outline)| {
            let mut points = Vec::new();
            for (from, to) in outline.edges() {
                walk(&loops, &channels, index, from, to, &mut points);
            }
            without_straights(points)
        })
        .collect()
}

/// Goes along an edge of a loop, and on the way through the channel that begins there.
fn walk(
    loops: &[Loop],
    channels: &HashMap<(usize, i64, i64), Channel>,
    index: usize,
    from: Corner,
    to: Corner,
    points: &mut Vec<Point>,
) {
    points.push(place(from));
    if from[1] != to[1] {
        return;
    }
    let row = from[0].min(to[0]);
    let Some(Channel { hole, column }) = channels.get(&(index, row, from[1])) else { return };
    let at = |column: i64| [row as f64 + CHANNEL, column as f64 - 0.5];
    points.push(at(from[1]));
    points.push(at(*column));
    // All around the hole, beginning and ending in the middle of its edge.
    let edges: Vec<_> = loops[*hole].edges().collect();
    let is_entry = |(from, to): &(Corner, Corner)| {
        from[1] == to[1] && from[1] == *column && from[0].min(to[0]) == row
    };
    if let Some(entry) = edges.iter().position(is_entry) {
        points.push(place(edges[entry].1));
        for step in 1..edges.len() {
            let (from, to) = edges[(entry + step) % edges.len()];
            walk(loops, channels, *hole, from, to, points);
        }
        points.push(place(edges[entry].0));
        points.push(at(*column));
    }
    points.push(at(from[1]));
}

fn place(corner: Corner) -> Point {
    corner.map(|number| number as f64 - 0.5)
}

/// Leaves out points that repeat the one before or lie on the straight line between their neighbours.
fn without_straights(points: Vec<Point>) -> Vec<Point> {
    let mut kept: Vec<Point> = Vec::with_capacity(points.len());
    for point in points {
        if kept.last() == Some(&point) {
            continue;
        }
        if let [.., before, last] = kept.as_slice()
            && is_straight(*before, *last, point)
        {
            kept.pop();
        }
        kept.push(point);
    }
    while kept.len() > 3 && is_straight(kept[kept.len() - 2], kept[kept.len() - 1], kept[0]) {
        kept.pop();
    }
    while kept.len() > 3 && is_straight(kept[kept.len() - 1], kept[0], kept[1]) {
        kept.remove(0);
    }
    kept
}

/// Whether the way goes on in the same direction; a way back is no straight.
#[expect(clippy::float_cmp, reason = "points of one line of the grid have the same number")]
fn is_straight(a: Point, b: Point, c: Point) -> bool {
    let same = |axis: usize| a[axis] == b[axis] && b[axis] == c[axis];
    let goes_on = |axis: usize| (b[axis] - a[axis]) * (c[axis] - b[axis]) > 0.0;
    same(0) && goes_on(1) || same(1) && goes_on(0)
}

impl Loop {
    fn edges(&self) -> impl Iterator<Item = (Corner, Corner)> + '_ {
        let next = self.corners.iter().cycle().skip(1);
        self.corners.iter().copied().zip(next.copied())
    }

    /// Row and column of the vertical edge that lies most to the left, of several the uppermost.
    fn leftmost_edge(&self) -> Option<(i64, i64)> {
        let vertical = self.edges().filter(|(from, to)| from[1] == to[1]);
        let places = vertical.map(|(from, to)| (from[1], from[0].min(to[0])));
        places.min().map(|(column, row)| (row, column))
    }
}

/// The pixels of one slice.
struct Pixels<'a> {
    mask: &'a Mask,
    slice: usize,
}

impl<'a> Pixels<'a> {
    fn new(mask: &'a Mask, slice: usize) -> Self {
        Self { mask, slice }
    }

    fn contains(&self, row: i64, column: i64) -> bool {
        let (Ok(row), Ok(column)) = (usize::try_from(row), usize::try_from(column)) else {
            return false;
        };
        let [_, rows, columns] = self.mask.shape();
        row < rows && column < columns && self.mask.contains([self.slice, row, column])
    }

    /// Every loop around pixels that share an edge, and every loop around a hole in them.
    fn loops(&self) -> Vec<Loop> {
        let mut edges = self.edges();
        edges.sort_unstable();
        let mut onward: HashMap<Corner, Vec<Corner>> = HashMap::new();
        for (from, to) in &edges {
            onward.entry(*from).or_default().push(*to);
        }
        let mut seen = HashSet::new();
        let mut loops = Vec::new();
        for first in edges {
            let mut corners = Vec::new();
            let mut edge = first;
            while seen.insert(edge) {
                corners.push(edge.0);
                edge = next(&onward, edge);
            }
            if corners.is_empty() {
                continue;
            }
            let is_hole = signed_area(&corners) < 0;
            loops.push(Loop { corners, is_hole });
        }
        loops
    }

    /// Edges between a pixel of the mask and one that is not, the former on the right.
    fn edges(&self) -> Vec<(Corner, Corner)> {
        let extent = self.mask.extent();
        let mut edges = Vec::new();
        for row in extent.start[1] as i64..extent.end[1] as i64 {
            for column in extent.start[2] as i64..extent.end[2] as i64 {
                if !self.contains(row, column) {
                    continue;
                }
                let corners =
                    [[row, column], [row, column + 1], [row + 1, column + 1], [row + 1, column]];
                let beside =
                    [[row - 1, column], [row, column + 1], [row + 1, column], [row, column - 1]];
                for side in 0..4 {
                    let [r, c] = beside[side];
                    if !self.contains(r, c) {
                        edges.push((corners[side], corners[(side + 1) % 4]));
                    }
                }
            }
        }
        edges
    }
}

/// The edge after `edge`: where pixels touch in a corner alone, the one that stays at the same pixel.
fn next(onward: &HashMap<Corner, Vec<Corner>>, edge: (Corner, Corner)) -> (Corner, Corner) {
    let (from, at) = edge;
    let ahead = [at[0] - from[0], at[1] - from[1]];
    // Turning to the right: the direction turned by a quarter, clockwise as rows run downwards.
    let right = [at[0] + ahead[1], at[1] - ahead[0]];
    let ways = onward.get(&at).map(Vec::as_slice).unwrap_or_default();
    let way = ways.iter().find(|way| **way == right).or(ways.first());
    (at, way.copied().unwrap_or(from))
}

/// Twice the area, positive where the walk has its inside on the right.
fn signed_area(corners: &[Corner]) -> i64 {
    let next = corners.iter().cycle().skip(1);
    corners.iter().zip(next).map(|(a, b)| a[1] * b[0] - b[1] * a[0]).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Pixels whose centres lie inside an odd number of polygons, by crossing tests with their edges.
    fn filled(polygons: &[Vec<Point>], rows: usize, columns: usize) -> Vec<bool> {
        let inside = |row: f64, column: f64| {
            let crossings = polygons.iter().flat_map(|polygon| {
                let next = polygon.iter().cycle().skip(1);
                polygon.iter().zip(next).filter(move |(a, b)| {
                    (a[0] > row) != (b[0] > row) && {
                        let at = a[1] + (row - a[0]) / (b[0] - a[0]) * (b[1] - a[1]);
                        at > column
                    }
                })
            });
            crossings.count() % 2 == 1
        };
        (0..rows * columns)
            .map(|pixel| inside((pixel / columns) as f64, (pixel % columns) as f64))
            .collect()
    }

    fn mask(picture: &[&str]) -> Mask {
        let shape = [1, picture.len(), picture[0].len()];
        Mask::from_fn(shape, |[_, r, c]| picture[r].as_bytes()[c] == b'#')
    }

    #[test]
    fn a_pixel_is_a_square_around_its_centre() {
        let outlines = outlines(&mask(&["...", ".#.", "..."]), 0);

        assert_eq!(outlines, [vec![[0.5, 0.5], [0.5, 1.5], [1.5, 1.5], [1.5, 0.5]]]);
    }

    #[test]
    fn parts_that_touch_in_a_corner_are_two_and_a_hole_belongs_to_its_outside() {
        let touching = mask(&["#.", ".#"]);
        let ring = mask(&["#####", "#...#", "#.#.#", "#...#", "#####"]);
        let eye = mask(&["####", "#.##", "##.#", "####"]);

        assert_eq!(outlines(&touching, 0).len(), 2);
        assert_eq!(outlines(&ring, 0).len(), 2);
        assert_eq!(outlines(&eye, 0).len(), 1);
    }

    proptest! {
        #[test]
        fn outlines_enclose_exactly_the_pixels(
            rows in 1_usize..9,
            columns in 1_usize..9,
            bits in prop::collection::vec(prop::bool::weighted(0.6), 81),
        ) {
            let mask = Mask::from_fn([1, rows, columns], |[_, r, c]| bits[r * 9 + c]);
            let expected: Vec<bool> =
                (0..rows * columns).map(|p| bits[p / columns * 9 + p % columns]).collect();

            let outlines = outlines(&mask, 0);

            prop_assert_eq!(filled(&outlines, rows, columns), expected);
            prop_assert!(outlines.iter().all(|outline| outline.len() >= 4));
        }
    }
}
