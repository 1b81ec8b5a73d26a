//! What noise can't touch: user-space instructions and system calls per message.
//!
//! The server runs under callgrind, or under strace, for N messages and again for 2N; the difference
//! is that of N messages, so start-up, connecting and ending cancel. The tool slows the server, so all
//! connections that can be ready are: calls shared by them cost a message little, as under full load.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use echoloop_load::{Plan, Until};

use crate::RunOptions;
use crate::child::{self, Child};
use crate::drive::Driver;
use crate::process::Cores;
use crate::progress::Progress;
use crate::rounds::Line;
use crate::servers::Program;
use crate::workload::Workload;

/// Adds to every line what the options ask for.
pub(crate) fn measure(
    lines: &mut [Line],
    servers: &[Program],
    cores: Cores,
    workload: Workload,
    options: &RunOptions,
    progress: &mut Progress,
) {
    for (line, program) in lines.iter_mut().zip(servers) {
        let name = program.row.name();
        if options.instructions {
            progress.show(&format!("{}: instructions of {name}", workload.name()));
            match instructions(program, cores, workload) {
                Ok(count) => line.instructions = Some(count),
                Err(error) => progress.note(&format!("{name}: no instructions, {error:#}")),
            }
        }
        if options.syscalls {
            progress.show(&format!("{}: system calls of {name}", workload.name()));
            match syscalls(program, cores, workload) {
                Ok(counts) => line.syscalls = Some(counts),
                Err(error) => progress.note(&format!("{name}: no system calls, {error:#}")),
            }
        }
    }
}

fn instructions(program: &Program, cores: Cores, workload: Workload) -> Result<f64> {
    let report = program.log.with_extension("callgrind");
    let mut file = OsString::from("--callgrind-out-file=");
    file.push(&report);
    let tool = ["valgrind".into(), "--tool=callgrind".into(), file];
    let total = |count| -> Result<f64> {
        run_under(&tool, program, cores, workload, count, |child| child)?;
        let text = fs::read_to_string(&report).context("callgrind wrote nothing")?;
        let total = text
            .lines()
            .find_map(|line| {
                line.strip_prefix("totals: ")
                    .or(line.strip_prefix("summary: "))
            })
            .context("callgrind counted nothing")?;
        Ok(total.trim().parse()?)
    };
    let count = workload.counted();
    Ok((total(2 * count)? - total(count)?) / count as f64)
}

fn syscalls(program: &Program, cores: Cores, workload: Workload) -> Result<Vec<(String, f64)>> {
    let report = program.log.with_extension("strace");
    let mut tool: Vec<OsString> = vec!["strace".into(), "-c".into(), "-f".into(), "-o".into()];
    tool.push(report.clone().into());
    // The server dies with its tracer, as the tracer dies with us.
    tool.extend(child::exec_prefix(None, 0)?);
    let calls = |count| -> Result<Vec<(String, f64)>> {
        run_under(&tool, program, cores, workload, count, only_child)?;
        let text = fs::read_to_string(&report).context("strace wrote nothing")?;
        Ok(parse(&text))
    };
    let count = workload.counted();
    let once = calls(count)?;
    let mut twice = calls(2 * count)?;
    for (name, calls) in &mut twice {
        let before = once.iter().find(|(other, _)| other == name);
        *calls = (*calls - before.map_or(0.0, |(_, calls)| *calls)) / count as f64;
    }
    twice.retain(|(_, calls)| calls.abs() >= 0.0005);
    twice.sort_by(|a, b| b.1.total_cmp(&a.1));
    Ok(twice)
}

/// Starts the server under a tool, sends it `count` messages and ends it. `server` finds the process
/// to end, given the tool's.
fn run_under(
    tool: &[OsString],
    program: &Program,
    cores: Cores,
    workload: Workload,
    count: u64,
    server: fn(u32) -> u32,
) -> Result<()> {
    let (child, address) = Child::serve(program, cores.server, tool)?;
    let plan = Plan {
        patience: Duration::from_secs(120),
        ..workload.plan(address)
    };
    let mut driver = Driver::start(&plan, 1, cores.load)?;
    driver.run(Until::Messages(count))?;
    drop(driver);
    let pid = server(child.pid());
    child.end(pid, Duration::from_secs(60))
}

/// The server is what the tracer started: its first child (proc_tid_children(5)).
fn only_child(tracer: u32) -> u32 {
    let path = PathBuf::from(format!("/proc/{tracer}/task/{tracer}/children"));
    read_pid(&path).unwrap_or(tracer)
}

fn read_pid(path: &Path) -> Option<u32> {
    let text = fs::read_to_string(path).ok()?;
    text.split_whitespace().next()?.parse().ok()
}

/// Calls by name from the table of `strace -c`: share, seconds, usecs, calls, errors or none, name.
fn parse(table: &str) -> Vec<(String, f64)> {
    table
        .lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [share, _, _, calls, .., name] = fields[..] else {
                return None;
            };
            share.parse::<f64>().ok()?;
            (name != "total").then_some((name.to_owned(), calls.parse().ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn the_calls_of_an_strace_table_are_read_with_and_without_errors() {
        let table = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 52.10    0.104000           5     20000           sendto
 47.90    0.095000           4     20100       100 recvfrom
------ ----------- ----------- --------- --------- ----------------
100.00    0.199000           4     40100       100 total
";
        let expected = [
            ("sendto".to_owned(), 20000.0),
            ("recvfrom".to_owned(), 20100.0),
        ];
        assert_eq!(parse(table), expected);
    }
}
