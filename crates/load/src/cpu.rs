//! CPU time of processes, by the kernel's own count.
//!
//! That of all threads, user and kernel. That of other processes is in nanoseconds from `schedstat`,
//! or where the kernel keeps none, in clock ticks from `stat`; it is exact only while they sleep.

use std::fs;
use std::io;
use std::time::Duration;

// Not rustix's: it looks for the vDSO itself, and crashes under valgrind.
use nix::time::{ClockId, clock_gettime};

/// CPU time used so far by this process, to this very moment.
#[must_use]
pub fn own_cpu_time() -> Duration {
    // Without this clock there is nothing to tell, and nothing else goes wrong.
    let time = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID);
    time.map_or(Duration::ZERO, Duration::from)
}

/// CPU time used so far by all living threads of a process.
///
/// # Errors
/// What `/proc` says: the process has ended, or is not ours to look at.
pub fn cpu_time(pid: u32) -> io::Result<Duration> {
    let mut total = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let Ok(line) = fs::read_to_string(task?.path().join("schedstat")) else {
            return ticks(pid);
        };
        let run = line.split_whitespace().next();
        total += parse(run, "schedstat")?;
    }
    Ok(Duration::from_nanos(total))
}

fn ticks(pid: u32) -> io::Result<Duration> {
    let line = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // proc_pid_stat(5): after the command in parentheses, fields 14 and 15 of all, from 1.
    let rest = line.rsplit(')').next().unwrap_or_default();
    let mut fields = rest.split_whitespace().skip(11);
    let ticks = parse(fields.next(), "stat")? + parse(fields.next(), "stat")?;
    let hertz = rustix::param::clock_ticks_per_second();
    Ok(Duration::from_nanos(ticks * 1_000_000_000 / hertz))
}

fn parse(field: Option<&str>, file: &str) -> io::Result<u64> {
    let number = field.and_then(|field| field.parse().ok());
    number.ok_or_else(|| io::Error::other(format!("{file} in /proc has no number where it should")))
}
