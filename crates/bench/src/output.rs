//! The results on paper: a table for each workload, one for idle connections, or all of it as JSON.
//!
//! The JSON is written by hand: names and numbers, and texts in which only quotes, backslashes and
//! control characters need care. A figure that was not measured is `null`, in a table `-`.

use std::fmt::Write;

use crate::idle::Idle;
use crate::process::Cores;
use crate::rounds::{Line, Times};
use crate::servers::Row;
use crate::workload::Workload;

/// Everything that was measured.
#[derive(Debug)]
pub(crate) struct Results {
    cores: Cores,
    pub(crate) skipped: Vec<(Row, String)>,
    pub(crate) workloads: Vec<(Workload, Vec<Line>)>,
    pub(crate) idle: Vec<Idle>,
}

impl Results {
    pub(crate) fn new(cores: Cores) -> Results {
        Results {
            cores,
            skipped: Vec::new(),
            workloads: Vec::new(),
            idle: Vec::new(),
        }
    }

    fn idle_bytes(&self, row: Row) -> Option<f64> {
        self.idle.iter().find(|i| i.row == row)?.bytes()
    }
}

/// The table of one workload.
pub(crate) fn table(workload: Workload, lines: &[Line], results: &Results) -> String {
    let columns = [
        "server",
        "messages/s",
        "CPU ns/msg",
        "to floor",
        "spread",
        "p50 µs",
        "p99 µs",
        "p99.9 µs",
        "idle B/conn",
        "instr/msg",
        "calls/msg",
    ];
    let mut rows = vec![columns.map(str::to_owned).to_vec()];
    for line in lines {
        let times = |show: fn(&Times) -> String| line.times.as_ref().map(show);
        let calls = line.syscalls.as_ref();
        rows.push(
            [
                Some(line.row.name().to_owned()),
                times(|t| grouped(t.messages_per_second)),
                times(|t| grouped(t.cpu_ns)),
                times(|t| format!("{:.3}", t.ratio)),
                times(|t| format!("±{:.3}", t.spread)),
                times(|t| format!("{:.0}", t.latency[0] as f64 / 1e3)),
                times(|t| format!("{:.0}", t.latency[1] as f64 / 1e3)),
                times(|t| format!("{:.0}", t.latency[2] as f64 / 1e3)),
                results.idle_bytes(line.row).map(grouped),
                line.instructions.map(grouped),
                calls.map(|calls| format!("{:.3}", calls.iter().map(|c| c.1).sum::<f64>())),
            ]
            .map(|cell| cell.unwrap_or("-".into()))
            .to_vec(),
        );
    }
    let mut text = format!("\n{}\n{}", workload.title(), aligned(rows));
    for line in lines {
        if let Some(why) = &line.failed {
            let _ = writeln!(text, "  {} failed: {why}", line.row.name());
        }
        if let Some(calls) = &line.syscalls {
            let each: Vec<String> = calls
                .iter()
                .map(|(name, calls)| format!("{name} {calls:.3}"))
                .collect();
            let _ = writeln!(text, "  calls of {}: {}", line.row.name(), each.join(", "));
        }
    }
    text
}

/// The table of idle connections; nothing when none were measured.
pub(crate) fn idle_table(results: &Results) -> String {
    let Some(first) = results.idle.first() else {
        return String::new();
    };
    let columns = ["server", "bytes each", "growth", "rounds"];
    let mut rows = vec![columns.map(str::to_owned).to_vec()];
    let mut failures = String::new();
    for idle in &results.idle {
        if let Err(why) = &idle.rounds {
            let _ = writeln!(failures, "  {} failed: {why}", idle.row.name());
        }
        let count = idle.rounds.as_ref().map(|r| r.len().to_string());
        rows.push(vec![
            idle.row.name().to_owned(),
            idle.bytes().map_or("-".into(), grouped),
            idle.growth().map_or("-".into(), |g| format!("{g:+.0}")),
            count.unwrap_or("-".into()),
        ]);
    }
    let title = format!(
        "{} idle connections: resident bytes of the server each, after one echoed message",
        grouped(first.connections as f64)
    );
    format!("\n{title}\n{}{failures}", aligned(rows))
}

/// Everything as one JSON object.
pub(crate) fn json(results: &Results) -> String {
    let core = |core: Option<usize>| core.map_or("null".into(), |core| core.to_string());
    let skipped = results
        .skipped
        .iter()
        .map(|(row, why)| format!("{}:{}", quoted(row.name()), quoted(why)));
    let workloads = results.workloads.iter().map(|(workload, lines)| {
        let lines: Vec<String> = lines.iter().map(json_line).collect();
        format!("{}:[{}]", quoted(workload.name()), lines.join(","))
    });
    let idle = results.idle.iter().map(|idle| {
        let (rounds, failed) = match &idle.rounds {
            Ok(rounds) => (rounds.iter().map(|&bytes| number(Some(bytes))).collect(), None),
            Err(why) => (Vec::new(), Some(why)),
        };
        format!(
            "{{\"server\":{},\"connections\":{},\"bytes\":{},\"growth\":{},\"rounds\":[{}],\"failed\":{}}}",
            quoted(idle.row.name()),
            idle.connections,
            number(idle.bytes()),
            number(idle.growth()),
            rounds.join(","),
            failed.map_or("null".into(), |why| quoted(why)),
        )
    });
    format!(
        "{{\"cores\":{{\"server\":{},\"load\":{}}},\"skipped\":{{{}}},\"workloads\":{{{}}},\"idle\":[{}]}}",
        core(results.cores.server),
        core(results.cores.load),
        joined(skipped),
        joined(workloads),
        joined(idle),
    )
}

fn json_line(line: &Line) -> String {
    let times = |value: fn(&Times) -> f64| number(line.times.as_ref().map(value));
    let syscalls = line.syscalls.as_ref().map(|calls| {
        let each = calls
            .iter()
            .map(|(name, calls)| format!("{}:{}", quoted(name), number(Some(*calls))));
        format!("{{{}}}", joined(each))
    });
    let members = [
        ("server", quoted(line.row.name())),
        ("messages_per_second", times(|t| t.messages_per_second)),
        ("cpu_ns_per_message", times(|t| t.cpu_ns)),
        ("ratio_to_floor", times(|t| t.ratio)),
        ("spread", times(|t| t.spread)),
        ("p50_ns", times(|t| t.latency[0] as f64)),
        ("p99_ns", times(|t| t.latency[1] as f64)),
        ("p999_ns", times(|t| t.latency[2] as f64)),
        ("instructions_per_message", number(line.instructions)),
        ("syscalls_per_message", syscalls.unwrap_or("null".into())),
        (
            "failed",
            line.failed
                .as_ref()
                .map_or("null".into(), |why| quoted(why)),
        ),
    ];
    let members = members
        .iter()
        .map(|(name, value)| format!("{}:{value}", quoted(name)));
    format!("{{{}}}", joined(members))
}

fn joined(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(",")
}

fn number(value: Option<f64>) -> String {
    match value {
        Some(value) if value.is_finite() => format!("{value}"),
        _ => "null".into(),
    }
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c < ' ' => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A whole number with commas.
pub(crate) fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut out = String::from(if value <= -0.5 { "-" } else { "" });
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Columns as wide as they need to be, the first to the left, the others to the right; a column with
/// no figure in it is left out.
pub(crate) fn aligned(rows: Vec<Vec<String>>) -> String {
    let filled = |column: usize| rows[1..].iter().any(|row| row[column] != "-");
    let columns: Vec<usize> = (0..rows[0].len())
        .filter(|&c| c == 0 || filled(c))
        .collect();
    let width = |c: usize| rows.iter().map(|row| row[c].chars().count()).max();
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for &c in &columns {
            let (cell, width) = (&row[c], width(c).unwrap_or(0));
            let _ = match c {
                0 => write!(line, "  {cell:<width$}"),
                _ => write!(line, "  {cell:>width$}"),
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{aligned, grouped, quoted};

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!(grouped(0.4), "0");
        assert_eq!(grouped(-0.4), "0");
        assert_eq!(grouped(999.0), "999");
        assert_eq!(grouped(1234567.8), "1,234,568");
        assert_eq!(grouped(-1000.0), "-1,000");
    }

    #[test]
    fn text_in_json_is_escaped() {
        assert_eq!(quoted("a \"b\" \\ \n"), r#""a \"b\" \\ \u000a""#);
    }

    #[test]
    fn a_column_without_figures_is_left_out() {
        let rows = [["server", "a", "b"], ["x", "-", "10"], ["longer", "-", "2"]];
        let text = aligned(rows.map(|row| row.map(str::to_owned).to_vec()).to_vec());
        assert_eq!(text, "  server   b\n  x       10\n  longer   2\n");
    }
}
