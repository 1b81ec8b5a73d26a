//! Every system call of the running server fails in turn, with every error that it can give.
//!
//! The short form makes the first, the second and a middle call of each name fail. `ECHOLOOP_FAULTS=all` takes every
//! one until the program makes no more, and prints the table of calls, errors and outcomes to standard error.

use std::collections::{BTreeMap, VecDeque};
use std::env;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use echoloop_tests::faults::judge::Reference;
use echoloop_tests::faults::table::{Row, TABLE};
use echoloop_tests::faults::{Injected, Injection, Outcome, judge};
use echoloop_tests::patience::{PATIENCE, until};
use echoloop_tests::probe;

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

/// Calls that each connection makes, and that fail each time from now on.
const AGAIN_AND_AGAIN: &[(&str, &str)] = &[
    ("recvfrom", "ECONNRESET"),
    ("sendto", "EPIPE"),
    ("sendto", "ENOBUFS"),
    ("close", "EINTR"),
];
/// Clients before the memory is looked at first, and between that and the second look.
const CLIENTS: usize = 2_000;
/// What the allocator may keep more than before.
const SLACK: u64 = 256 << 10;

#[test]
fn thousands_of_failures_leave_no_memory_and_no_descriptor() {
    for (call, what) in AGAIN_AND_AGAIN {
        let fits = |row: &&Row| row.call == *call && row.errors.contains(what);
        let row = TABLE.iter().find(fits).expect("a row of the table");
        let mut server = Injected::start(Injection::of(call, what, 2, 1 << 30), row);
        let reached = || TcpStream::connect(server.address).ok();
        drop(until("the server listens", PATIENCE, reached));
        let mut looks = Vec::new();
        for _ in 0..2 {
            (0..CLIENTS).for_each(|_| ask(&server));
            let idle = || server.descriptors().filter(|n| *n < 40);
            let open = until("the connections are gone", PATIENCE, idle);
            looks.push((open, probe::memory(server.pid)));
        }
        let hits = server.log().hits.len();
        server.terminate();
        assert!(server.wait(PATIENCE).is_some(), "{call} {what}: it ends");
        assert!(hits >= CLIENTS, "{call} {what}: {hits} hits");
        let [(few, before), (same, after)] = looks[..] else {
            unreachable!("two looks")
        };
        assert_eq!(few, same, "{call} {what}: descriptors");
        assert!(
            after < before + SLACK,
            "{call} {what}: {before}, then {after} bytes"
        );
    }
}

/// One client, whatever comes of it.
fn ask(server: &Injected) {
    let Ok(mut client) = TcpStream::connect(server.address) else {
        return;
    };
    client.set_read_timeout(Some(PATIENCE)).expect("a time");
    let sent = client.write_all(&[7; 4096]);
    if sent.is_ok() && client.shutdown(Shutdown::Write).is_ok() {
        let _ = client.read_to_end(&mut Vec::new());
    }
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
