//! The positional table of the coarsest grid.

/// Sine and cosine codes of every position of a grid, `[h·w·d, width]`, `d` fastest.
///
/// Each axis gets `c = 2⌈width/6⌉` columns in which sine and cosine alternate; the three codes stand
/// side by side, cut to `width`. SPEC: golden `pos_embedding`.
pub(crate) fn positional_table(grid: [usize; 3], width: usize) -> Vec<f32> {
    let columns = 2 * width.div_ceil(6);
    let frequencies: Vec<f32> = (0..columns / 2)
        .map(|index| 1.0 / 10_000_f32.powf(2.0 * index as f32 / columns as f32))
        .collect();
    let code = |position: usize| -> Vec<f32> {
        let angle = |frequency: &f32| position as f32 * frequency;
        frequencies.iter().flat_map(|f| [angle(f).sin(), angle(f).cos()]).collect()
    };
    let axes: Vec<Vec<Vec<f32>>> =
        grid.iter().map(|&length| (0..length).map(code).collect()).collect();
    let mut table = Vec::with_capacity(grid.iter().product::<usize>() * width);
    for h in &axes[0] {
        for w in &axes[1] {
            for d in &axes[2] {
                table.extend(h.iter().chain(w).chain(d).take(width));
            }
        }
    }
    table
}
