//! Figures as they are printed: each beside its aims, as soon as it is known.

use std::io::Write;

/// Prints lines of aligned columns.
pub struct Table {
    widths: Vec<usize>,
}

impl Table {
    /// Prints the head of a table with these columns.
    pub fn new(columns: &[(&str, usize)]) -> Table {
        let table = Table { widths: columns.iter().map(|(_, width)| *width).collect() };
        table.row(columns.iter().map(|(name, _)| (*name).to_owned()));
        table.row(table.widths.iter().map(|width| "-".repeat(*width)));
        table
    }

    /// Prints one line.
    pub fn row(&self, cells: impl IntoIterator<Item = String>) {
        let mut line = String::new();
        for (cell, width) in cells.into_iter().zip(&self.widths) {
            line.push_str(&format!("{cell:width$}  "));
        }
        println!("{}", line.trim_end());
        let _ = std::io::stdout().flush();
    }
}

/// Seconds or milliseconds, whichever reads better.
pub fn seconds(value: f64) -> String {
    match value {
        v if v >= 1.0 => format!("{v:.2} s"),
        v if v >= 0.0095 => format!("{:.0} ms", v * 1e3),
        v if v >= 0.0001 => format!("{:.2} ms", v * 1e3),
        v => format!("{:.1} µs", v * 1e6),
    }
}

/// Bytes in MiB.
pub fn mebibytes(bytes: f64) -> String {
    format!("{:.1} MiB", bytes / f64::from(1 << 20))
}

/// The middle one of several figures.
pub fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_well() {
        let texts = [2.5, 0.25, 0.0042, 0.00002].map(seconds);
        assert_eq!(texts, ["2.50 s", "250 ms", "4.20 ms", "20.0 µs"]);
        assert_eq!(mebibytes(1_572_864.0), "1.5 MiB");
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
    }
}
