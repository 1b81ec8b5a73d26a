//! What came of one failed call, and what must hold whatever fails.
//!
//! The rules: a connection that was not hit gets exactly its bytes; one that was may end early, where the error says so,
//! with nothing but right bytes before. A new client is served. Every descriptor is given back, the idle server does not
//! spin, and SIGTERM ends it, with its report. A start that fails ends with code 1 and one line with the errno's name.

use std::time::Duration;

use super::table::Row;
use super::workload::{self, End, Told};
use super::{Hit, Injected, Injection};
use crate::patience::{throughout, within};

/// How long the server may take for what is not itself under test.
const PATIENCE: Duration = Duration::from_secs(10);
/// The idle server is watched for so long ...
const IDLE: Duration = Duration::from_millis(200);
/// ... and may use 2% of it, in one of so many looks.
const LOOKS: usize = 3;

/// What was seen of a run in which nothing was broken.
#[derive(Clone, Copy, Debug)]
pub struct Verdict {
    /// What the fault came to.
    pub outcome: Outcome,
    /// How often the call was made in all.
    pub seen: u64,
    /// Its descriptors when it served nobody any more.
    pub descriptors: usize,
}

/// What a failed call came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// The call was not made that often.
    NotReached,
    /// Every client was served and nothing was said.
    Unnoticed,
    /// Every client was served, and the operator told.
    Reported,
    /// Accepting was paused, the operator told, and every client served.
    PausedAndResumed,
    /// The connection that was hit ended, none other.
    ConnectionEnded,
    /// The server did not start: code 1 and one clear line.
    StartRefused,
    /// There was no memory for a thread's beginning: the program ended with a line that says so.
    OutOfMemory,
}

/// Runs the server with this one fault and judges it; `base` is how many descriptors it has when idle.
///
/// # Errors
///
/// The rule that was broken, in words. With it come the lines that the server has printed.
pub fn judge(injection: Injection, row: &Row, base: usize) -> Result<Verdict, String> {
    let mut server = Injected::start(injection, row);
    let mut descriptors = 0;
    let mut outcome = observe(&mut server, injection, row, base, &mut descriptors);
    if outcome.is_err() && row.may_die && without_memory(&mut server) {
        outcome = Ok(Outcome::OutOfMemory);
    }
    let log = server.log();
    match outcome {
        Ok(outcome) => Ok(Verdict {
            outcome,
            seen: log.seen.unwrap_or(0),
            descriptors,
        }),
        Err(broken) => {
            let hits: Vec<_> = log.hits.iter().take(20).collect();
            let said = [server.stdout(), server.stderr()].concat().join("\n    ");
            let said: String = said.chars().take(2000).collect();
            Err(format!("{broken}\n  hits: {hits:?}\n  said: {said}"))
        }
    }
}

fn observe(
    server: &mut Injected,
    injection: Injection,
    row: &Row,
    base: usize,
    descriptors: &mut usize,
) -> Result<Outcome, String> {
    let mut told = Vec::new();
    if !serves(server, &mut told) {
        return refused(server, injection, row);
    }
    if row.deadline {
        told.push(workload::until_cut(server.address));
    } else {
        told.extend(workload::run(server.address));
    }
    if server.ended().is_none() && !serves(server, &mut told) {
        return Err("a new client is not served".into());
    }
    if let Some(status) = server.ended() {
        if row.may_refuse {
            return refused(server, injection, row); // One of its threads served already.
        }
        return Err(format!("the server ended by itself: {status}"));
    }
    let all_back = within(PATIENCE, || (server.descriptors()? <= base).then_some(()));
    all_back.ok_or_else(|| format!("{:?} descriptors, not {base}", server.descriptors()))?;
    *descriptors = server.descriptors().unwrap_or(0);
    if base == usize::MAX {
        // The last client's connection may take a moment to be gone.
        throughout("time passes", IDLE, || {
            *descriptors = server.descriptors().unwrap_or(0).min(*descriptors);
            true
        });
    }
    // One that is connected when the server drains is told the end, having sent nothing more.
    let mut idle = Ok(());
    told.push(workload::through(server.address, || {
        idle = spins(server);
        server.terminate();
    }));
    idle?;
    let status = server.wait(PATIENCE).ok_or("SIGTERM does not end it")?;
    // Code 3 tells of bytes that the drain lost.
    if !(status.success() || row.may_end && status.code() == Some(3)) {
        return Err(format!("after SIGTERM it ended with {status}"));
    }
    let report = server.stdout().iter().any(|l| l.starts_with("drained"));
    if !report && injection.call != "write" {
        return Err("it ended without its report".into());
    }
    outcome(server, row, &told)
}

/// Whether the server has ended for want of memory, and says so.
fn without_memory(server: &mut Injected) -> bool {
    let ended = server.wait(PATIENCE).is_some();
    let says = |line: &String| line.contains("alternative stack") || line.contains("memory all");
    ended && server.stderr().iter().any(says)
}

/// Whether the server serves a client, in the end; false when it has ended instead.
fn serves(server: &mut Injected, told: &mut Vec<Told>) -> bool {
    let mut seed = 1000;
    within(PATIENCE, || {
        seed += 1;
        let one = workload::one(server.address, seed);
        let served = one.end == End::Whole;
        if !served && !not_yet(&one) {
            told.push(one);
        }
        (served || server.ended().is_some()).then_some(served)
    })
    .unwrap_or(false)
}

/// Nobody listens there (yet), which is nobody's fault.
fn not_yet(told: &Told) -> bool {
    told.port == 0 && matches!(&told.end, End::Early(how) if how.contains("refused"))
}

fn refused(server: &mut Injected, injection: Injection, row: &Row) -> Result<Outcome, String> {
    let status = server.wait(PATIENCE).ok_or("it neither serves nor ends")?;
    let said = server.stderr();
    if status.code() != Some(1) {
        return Err(format!("the start failed with {status}, not with code 1"));
    }
    let [line] = &said[..] else {
        return Err(format!("{} lines about a start that failed", said.len()));
    };
    let named = |name: &&str| line.contains(*name);
    let says = named(&injection.what) || row.told_as.iter().any(named);
    if !line.starts_with("echoloop: ") || !says {
        return Err(format!("the line does not say what and why: {line:?}"));
    }
    if !row.may_refuse {
        return Err("this is no reason not to start".into());
    }
    Ok(Outcome::StartRefused)
}

fn spins(server: &Injected) -> Result<(), String> {
    let mut least = IDLE;
    for _ in 0..LOOKS {
        let before = server.cpu_time().ok_or("it has ended by itself")?;
        throughout("time passes", IDLE, || true);
        let after = server.cpu_time().ok_or("it has ended by itself")?;
        least = least.min(after - before);
        if least < IDLE / 50 {
            return Ok(());
        }
    }
    Err(format!("the idle server used {least:?} of {IDLE:?}"))
}

fn outcome(server: &Injected, row: &Row, told: &[Told]) -> Result<Outcome, String> {
    let log = server.log();
    if log.started != Some(true) {
        return Err("the injector never saw the beginning of main".into());
    }
    let mut ended = false;
    for one in told.iter().filter(|one| one.end != End::Whole) {
        let hit = |hit: &Hit| hit.kind == one.kind && hit.port == one.port;
        let excused = row.may_end && log.hits.iter().any(hit);
        if !excused || !matches!(one.end, End::Early(_)) {
            return Err(format!("{} (port {}): {:?}", one.name, one.port, one.end));
        }
        ended = true;
    }
    let said = server.stderr();
    let pauses = said.iter().any(|line| line.contains("accept, paused"));
    let reports = said
        .iter()
        .any(|line| !line.contains("draining; once more"));
    Ok(match () {
        () if log.hits.is_empty() => Outcome::NotReached,
        () if ended => Outcome::ConnectionEnded,
        () if pauses => Outcome::PausedAndResumed,
        () if reports => Outcome::Reported,
        () => Outcome::Unnoticed,
    })
}

/// What a row's server is like when nothing fails.
#[derive(Clone, Copy, Debug)]
pub struct Reference {
    /// How often it makes the call.
    pub seen: u64,
    /// Its descriptors when it serves nobody.
    pub descriptors: usize,
}

/// Runs a row's server with nothing that fails.
///
/// # Errors
///
/// As [`judge`].
pub fn reference(row: &Row) -> Result<Reference, String> {
    let never = Injection::of(row.call, row.errors[0], u64::MAX, 1);
    let Verdict {
        seen, descriptors, ..
    } = judge(never, row, usize::MAX)?;
    Ok(Reference { seen, descriptors })
}
