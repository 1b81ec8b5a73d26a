//! Every system call of the running server fails in turn, with every error that it can give.
//!
//! The short form makes the first, the second and a middle call of each name fail. `ECHOLOOP_FAULTS=all` takes every
//! one until the program makes no more, and prints the table of calls, errors and outcomes to standard error.

use std::collections::{BTreeMap, VecDeque};
use std::env;
use std::io::{self, Write};
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use echoloop_tests::faults::judge::Reference;
use echoloop_tests::faults::table::{Row, TABLE};
use echoloop_tests::faults::{Injection, Outcome, judge};

/// Servers that are tried at the same time.
const AT_ONCE: usize = 4;

#[test]
fn no_system_call_that_fails_loses_a_byte_a_descriptor_or_the_server() {
    let began = Instant::now();
    let all = env::var_os("ECHOLOOP_FAULTS").is_some_and(|form| form == "all");
    let only = env::var("ECHOLOOP_FAULTS_CALL").unwrap_or_default();
    let rows = TABLE
        .iter()
        .filter(|row| only.is_empty() || row.call == only);
    let todo: Mutex<VecDeque<_>> = Mutex::new(rows.enumerate().collect());
    let found = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((n, row)) = next(&todo) {
                    let reference = judge::reference(row).unwrap_or_else(|broken| {
                        panic!("{}, and nothing fails: {broken}", row.call)
                    });
                    for what in row.errors {
                        let cell = Cell::fill(row, what, reference, all);
                        let mut found = found.lock().expect("nobody panics with it");
                        found.push((n, cell));
                    }
                }
            });
        }
    });
    let mut found = found.into_inner().expect("nobody panics with it");
    found.sort_by_key(|(row, _)| *row);
    let found: Vec<_> = found.into_iter().map(|(_, cell)| cell).collect();
    print_table(&found, began);
    let broken: Vec<_> = found.iter().flat_map(|cell| &cell.broken).collect();
    assert!(broken.is_empty(), "{} rules were broken", broken.len());
}

fn next<T>(todo: &Mutex<VecDeque<T>>) -> Option<T> {
    todo.lock().expect("nobody panics with it").pop_front()
}

/// One call with one error, and what came of each time.
struct Cell {
    row: Row,
    what: &'static str,
    outcomes: BTreeMap<Outcome, usize>,
    broken: Vec<String>,
}

impl Cell {
    fn fill(row: &Row, what: &'static str, reference: Reference, all: bool) -> Self {
        let Reference {
            seen,
            descriptors: base,
        } = reference;
        let mut cell = Self {
            row: *row,
            what,
            outcomes: BTreeMap::new(),
            broken: Vec::new(),
        };
        if all {
            (1..).find(|nth| cell.run(*nth, 1, base).is_none());
            return cell;
        }
        cell.run(1, 1, base);
        if seen > 1 {
            cell.run(2, 1, base);
            cell.run(seen / 2 + 1, 1, base);
            cell.run(seen * 3 / 4 + 1, 1, base);
            cell.run(1, 3, base);
            cell.run(2, row.in_a_row, base);
        }
        cell
    }

    /// One run; answers how often the call was made, or `None` when that is less than `nth`.
    fn run(&mut self, nth: u64, times: u64, base: usize) -> Option<u64> {
        let injection = Injection::of(self.row.call, self.what, nth, times);
        match judge::judge(injection, &self.row, base) {
            Ok(verdict) if verdict.outcome == Outcome::NotReached => None,
            Ok(verdict) => {
                *self.outcomes.entry(verdict.outcome).or_default() += 1;
                Some(verdict.seen)
            }
            Err(broken) => {
                let told = format!("{} {} {nth}+{times}: {broken}", self.row.call, self.what);
                let _ = writeln!(io::stderr(), "{told}");
                self.broken.push(told);
                Some(0)
            }
        }
    }
}

fn print_table(cells: &[Cell], began: Instant) {
    let mut out = io::stderr().lock();
    let total: usize = cells.iter().flat_map(|c| c.outcomes.values()).sum();
    for cell in cells {
        let outcomes: Vec<_> = cell
            .outcomes
            .iter()
            .map(|(outcome, n)| format!("{outcome:?} {n}"))
            .collect();
        let _ = writeln!(
            out,
            "{:16} {:14} {}",
            cell.row.call,
            cell.what,
            outcomes.join(", ")
        );
    }
    let _ = writeln!(out, "{total} injections in {:.1?}", began.elapsed());
}
