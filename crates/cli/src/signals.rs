//! Signals of an operator: to end, to end at once, and to tell what is going on.
//!
//! The rule: a thread of its own takes them, so that a second Ctrl-C ends the program whatever its
//! loops are doing. The first SIGINT, SIGTERM or SIGHUP ends in order; SIGUSR1 asks for a dump;
//! SIGUSR2 starts a successor. What comes in the same moment as the first is the same wish:
//! timeout(1) signals its child and then its group, a terminal that is closed signals twice.

use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;

use crate::console::complain;
use crate::exit::{ENDED_AT_ONCE, Failure};

/// How long a moment is.
const MOMENT: Duration = Duration::from_millis(50);

/// What signals do to a program that runs.
pub(crate) trait Target: Send + 'static {
    /// Begins to end; false when there is nothing left that could.
    fn end(&self) -> bool;

    /// Says so, if that takes more than a moment.
    fn ending(&self) {}

    /// What SIGUSR1 and SIGUSR2 do.
    fn other(&self, signal: i32) {
        let _ = signal;
    }
}

/// Takes the signals from now on, until the program ends: those that end it and `others`.
pub(crate) fn take(target: impl Target, others: &[i32]) -> Result<(), Failure> {
    let failed = |e| Failure::io("handle signals", &e);
    let all = [SIGINT, SIGTERM, SIGHUP].iter().chain(others);
    let mut signals = Signals::new(all).map_err(failed)?;
    let listen = move || {
        let mut asked = false;
        loop {
            if !end_asked(&target, signals.wait()) {
                continue;
            }
            if asked || !target.end() {
                complain!("echoloop: ended at once");
                std::process::exit(ENDED_AT_ONCE);
            }
            asked = true;
            thread::sleep(MOMENT);
            end_asked(&target, signals.pending());
            target.ending();
        }
    };
    let thread = thread::Builder::new().name("signals".to_owned());
    thread.spawn(listen).map_err(failed)?;
    Ok(())
}

/// Whether one of these asks for the end; the others are done.
fn end_asked(target: &impl Target, signals: impl Iterator<Item = i32>) -> bool {
    let mut end = false;
    for signal in signals {
        match signal {
            SIGUSR1 | SIGUSR2 => target.other(signal),
            _ => end = true,
        }
    }
    end
}
