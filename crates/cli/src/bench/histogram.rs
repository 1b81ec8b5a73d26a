//! Latencies in rows of 1, 2, 5, 10, 20, 50 and so on, and the rows as bars of text.
//!
//! The rule: every message is in exactly one row, so the counts add up to the messages. Rows begin
//! with the first that has a message and end with the last.

use std::fmt::Write;

use echoloop_load::Report;

use crate::units::{grouped, time};

/// How many characters the longest bar has.
const WIDTH: u64 = 40;

/// Messages whose latency was at least `from` and below `to`, in nanoseconds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) count: u64,
}

/// The rows of a run.
pub(super) fn rows(report: &Report) -> Vec<Row> {
    let recorded = report.latency.iter_recorded();
    rows_of(recorded.map(|step| (step.value_iterated_to(), step.count_since_last_iteration())))
}

/// Rows of values in rising order and their counts.
fn rows_of(values: impl Iterator<Item = (u64, u64)>) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    let (mut from, mut to) = (0, 1);
    for (value, count) in values {
        while value >= to {
            (from, to) = (to, after(to));
            if !rows.is_empty() {
                let count = 0;
                rows.push(Row { from, to, count });
            }
        }
        // The last row, if there is one, is that of the bounds.
        match rows.last_mut() {
            Some(row) => row.count += count,
            None => rows.push(Row { from, to, count }),
        }
    }
    rows
}

/// The bound after this one: 1, 2, 5, 10, 20, 50 ...
fn after(bound: u64) -> u64 {
    let mut power = 1;
    while bound / power >= 10 {
        power *= 10;
    }
    match bound / power {
        2 => power.saturating_mul(5),
        _ => bound.saturating_mul(2),
    }
}

/// The rows as text, a line each.
pub(super) fn draw(rows: &[Row]) -> String {
    let most = rows.iter().map(|row| row.count).max().unwrap_or(0).max(1);
    let bound = |ns: u64| time(ns as f64);
    let mut text = String::new();
    for row in rows {
        // Rounded up: one message is seen beside a million.
        let bar = "#".repeat((row.count * WIDTH).div_ceil(most) as usize);
        let (from, to, count) = (bound(row.from), bound(row.to), grouped(row.count as f64));
        let line = format!("  {from:>6} to {to:>6}  {bar:<40}  {count:>12}");
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Row, draw, rows_of};

    fn row(from: u64, to: u64, count: u64) -> Row {
        Row { from, to, count }
    }

    #[test]
    fn every_value_is_in_one_row_and_empty_rows_stand_between() {
        let values = [(3, 1), (4, 2), (5, 1), (49, 1), (50, 7), (1_000_000, 1)];
        let rows = rows_of(values.into_iter());
        assert_eq!(
            rows[..5],
            [
                row(2, 5, 3),
                row(5, 10, 1),
                row(10, 20, 0),
                row(20, 50, 1),
                row(50, 100, 7)
            ]
        );
        assert_eq!(rows.last(), Some(&row(1_000_000, 2_000_000, 1)));
        assert_eq!(rows.iter().map(|r| r.count).sum::<u64>(), 13);
        let ends = rows.windows(2).all(|pair| pair[0].to == pair[1].from);
        assert!(ends, "{rows:?}");
        assert_eq!(rows_of([].into_iter()), []);
        assert_eq!(rows_of([(0, 1)].into_iter()), [row(0, 1, 1)]);
    }

    #[test]
    fn the_longest_bar_has_40_characters_and_the_shortest_one() {
        let text = draw(&[row(1_000, 2_000, 1_000_000), row(2_000, 5_000, 1)]);
        let bars: Vec<usize> = text.lines().map(|l| l.matches('#').count()).collect();
        assert_eq!(bars, [40, 1]);
        assert!(text.starts_with("    1 µs to   2 µs  ####"), "{text}");
    }
}
