//! What the voxels of a mask look like as a whole.

use dicom_types::Mask;

/// Count, middle, extent and parts of a mask.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Shape {
    /// Voxels.
    pub(super) count: u64,
    /// Mean index `[slice, row, column]`; zero where there is no voxel.
    pub(super) centroid: [f64; 3],
    /// Voxels in each slice, each row and each column of the grid.
    pub(super) profiles: [Vec<u64>; 3],
    /// Voxels of each part, the largest first. Voxels that share a face, an edge or a corner are of one part.
    pub(super) parts: Vec<u64>,
}

/// Voxels in a row, from `start` to before `end`, grid columns.
#[derive(Debug, Clone, Copy)]
struct Run {
    start: usize,
    end: usize,
    part: usize,
}

impl Shape {
    /// Looks at every voxel once.
    pub(super) fn of(mask: &Mask) -> Self {
        let shape = mask.shape();
        let extent = mask.extent();
        let mut profiles = shape.map(|length| vec![0u64; length]);
        // Steps of the column profile: what begins and ends at a column.
        let mut steps = vec![0i64; shape[2] + 1];
        let mut sums = [0.0; 3];
        let mut parts = Parts::default();
        let rows = extent.shape()[1];
        let (mut before, mut here): (Vec<Vec<Run>>, _) = (Vec::new(), Vec::with_capacity(rows));
        for slice in extent.start[0]..extent.end[0] {
            for row in extent.start[1]..extent.end[1] {
                let words = mask.row_words(slice, row).unwrap_or_default();
                let mut runs = runs(words, extent.start[2]);
                let place = row - extent.start[1];
                for run in &mut runs {
                    let length = (run.end - run.start) as u64;
                    profiles[0][slice] += length;
                    profiles[1][row] += length;
                    steps[run.start] += 1;
                    steps[run.end] -= 1;
                    sums[2] += (run.start + run.end - 1) as f64 / 2.0 * length as f64;
                    run.part = parts.add(length);
                }
                let above = place.checked_sub(1).and_then(|row| here.get(row));
                let first = place.saturating_sub(1);
                let slice_before = before.iter().skip(first).take(place + 2 - first);
                for neighbours in above.into_iter().chain(slice_before) {
                    parts.join(&runs, neighbours);
                }
                here.push(runs);
            }
            before = std::mem::replace(&mut here, Vec::with_capacity(rows));
        }
        let mut open = 0;
        for (count, step) in profiles[2].iter_mut().zip(&steps) {
            open += step;
            *count = open as u64;
        }
        for axis in 0..2 {
            let weighted = profiles[axis].iter().enumerate();
            sums[axis] = weighted.map(|(index, count)| index as f64 * *count as f64).sum();
        }
        let count: u64 = profiles[0].iter().sum();
        let centroid = sums.map(|sum| sum / count.max(1) as f64);
        Self { count, centroid, profiles, parts: parts.sizes() }
    }
}

/// The runs of one row, whose first bit is column `first`.
fn runs(words: &[u64], first: usize) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (index, &word) in words.iter().enumerate() {
        let mut rest = word;
        let mut column = first + 64 * index;
        while rest != 0 {
            let gap = rest.trailing_zeros() as usize;
            rest >>= gap;
            let length = rest.trailing_ones() as usize;
            let start = column + gap;
            match runs.last_mut() {
                Some(last) if last.end == start => last.end += length,
                _ => runs.push(Run { start, end: start + length, part: 0 }),
            }
            column = start + length;
            rest = if length == 64 { 0 } else { rest >> length };
        }
    }
    runs
}

/// Sets of runs that touch, each named by one of them.
#[derive(Debug, Default)]
struct Parts {
    parent: Vec<usize>,
    voxels: Vec<u64>,
}

impl Parts {
    fn add(&mut self, voxels: u64) -> usize {
        self.parent.push(self.parent.len());
        self.voxels.push(voxels);
        self.parent.len() - 1
    }

    fn root(&mut self, mut part: usize) -> usize {
        while self.parent[part] != part {
            self.parent[part] = self.parent[self.parent[part]];
            part = self.parent[part];
        }
        part
    }

    /// Joins what touches of two neighbouring rows, whose runs are in order.
    fn join(&mut self, row: &[Run], other: &[Run]) {
        let mut from = 0;
        for run in row {
            while other.get(from).is_some_and(|other| other.end < run.start) {
                from += 1;
            }
            for neighbour in other[from..].iter().take_while(|other| other.start <= run.end) {
                let (a, b) = (self.root(run.part), self.root(neighbour.part));
                if a != b {
                    self.parent[a] = b;
                    self.voxels[b] += self.voxels[a];
                }
            }
        }
    }

    fn sizes(&self) -> Vec<u64> {
        let roots = self.parent.iter().enumerate().filter(|(part, parent)| part == *parent);
        let mut sizes: Vec<u64> = roots.map(|(part, _)| self.voxels[part]).collect();
        sizes.sort_unstable_by(|a, b| b.cmp(a));
        sizes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_parts_that_touch_at_a_corner_as_one() {
        let corner = Mask::from_fn([2, 2, 130], |voxel| {
            [[0, 0, 63], [0, 0, 64], [1, 1, 65], [0, 0, 0], [1, 1, 129]].contains(&voxel)
        });

        let shape = Shape::of(&corner);

        assert_eq!(shape.parts, [3, 1, 1]);
        assert_eq!(shape.count, 5);
    }

    #[test]
    fn joins_the_arms_of_a_fork_that_meet_late() {
        let fork = Mask::from_fn([1, 3, 5], |[_, r, c]| r < 2 && c % 2 == 0 || r == 2);

        assert_eq!(Shape::of(&fork).parts, [11]);
    }

    #[test]
    fn agrees_with_a_count_voxel_by_voxel() {
        let mask = Mask::from_fn([4, 9, 150], |[s, r, c]| (s * 7 + r * 13 + c * c) % 5 < 2);

        let shape = Shape::of(&mask);

        let mut profiles = [vec![0; 4], vec![0; 9], vec![0; 150]];
        let mut sum = [0.0; 3];
        mask.for_each(|voxel| {
            for axis in 0..3 {
                profiles[axis][voxel[axis]] += 1;
                sum[axis] += voxel[axis] as f64;
            }
        });
        assert_eq!(shape.profiles, profiles);
        assert_eq!(shape.count, mask.count());
        for (sum, centroid) in sum.iter().zip(shape.centroid) {
            assert!((centroid - sum / mask.count() as f64).abs() < 1e-9);
        }
        assert_eq!(shape.parts.iter().sum::<u64>(), mask.count());
    }

    #[test]
    fn an_empty_mask_has_no_parts() {
        let shape = Shape::of(&Mask::empty([2, 2, 2]));

        assert_eq!((shape.count, shape.parts.len()), (0, 0));
    }
}
