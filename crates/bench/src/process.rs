//! What the kernel says about a process and the cores it may use: `/proc` and sched_setaffinity(2).
//!
//! CPU time is in `echoloop_load::cpu_time`, for the command line tells it too.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The cores that server and load are pinned to; none when there is only one to share.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cores {
    pub(crate) server: Option<usize>,
    pub(crate) load: Option<usize>,
}

impl Cores {
    /// The last core for the server, the first, where interrupts mostly arrive, for the load.
    pub(crate) fn choose() -> Result<Cores> {
        let allowed = sched_getaffinity(None).context("sched_getaffinity")?;
        let mut cores = (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core));
        let (first, last) = (cores.next(), cores.next_back());
        Ok(Cores {
            server: last,
            load: first.filter(|_| last.is_some()),
        })
    }
}

/// Moves this thread to one core.
pub(crate) fn pin(core: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    Ok(sched_setaffinity(None, &set)?)
}

/// The words in front of a command that put it before all others that want the same core, by chrt(1),
/// where that is allowed: what else a shared machine does is then not measured.
pub(crate) fn before_all() -> Vec<OsString> {
    if_allowed(&["chrt", "--rr", "1"])
}

/// The same by nice(1): before most others, but after those.
pub(crate) fn before_most() -> Vec<OsString> {
    if_allowed(&["nice", "-n", "-10"])
}

fn if_allowed(words: &[&str]) -> Vec<OsString> {
    let mut trial = Command::new(words[0]);
    trial.args(&words[1..]).arg("true").stderr(Stdio::null());
    match trial.status() {
        Ok(status) if status.success() => words.iter().map(Into::into).collect(),
        _ => Vec::new(),
    }
}

/// Resident memory of a process, in bytes, at a glance (proc_pid_statm(5)): the kernel's own count may be
/// some pages behind, but to take it stops nobody, as [`resident`] does.
pub(crate) fn resident_about(pid: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).context("the server has ended")?;
    let pages = text.split(' ').nth(1).and_then(|pages| pages.parse().ok());
    let pages: u64 = pages.context("no resident size in /proc")?;
    Ok(pages * rustix::param::page_size() as u64)
}

/// Resident memory of a process, in bytes.
pub(crate) fn resident(pid: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))
        .or_else(|_| fs::read_to_string(format!("/proc/{pid}/status")))
        .context("the server has ended")?;
    let kilobytes: u64 = text
        .lines()
        .find_map(|line| line.strip_prefix("Rss:").or(line.strip_prefix("VmRSS:")))
        .and_then(|rest| rest.trim().strip_suffix("kB"))
        .context("no resident size in /proc")?
        .trim()
        .parse()?;
    Ok(kilobytes * 1024)
}

/// How many descriptors a process has open.
pub(crate) fn descriptors(pid: u32) -> Result<usize> {
    let directory = fs::read_dir(format!("/proc/{pid}/fd")).context("the server has ended")?;
    Ok(directory.count())
}
