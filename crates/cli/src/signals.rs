//! Signals of an operator: to end, to end at once, and to tell what is going on.
//!
//! The rule: a thread of its own takes them, so that a second Ctrl-C ends the program whatever its
//! loops are doing. The first SIGINT, SIGTERM or SIGHUP drains; SIGUSR1 asks for a dump; SIGUSR2
//! starts a successor.

use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;

use crate::console::complain;
use crate::exit::{ENDED_AT_ONCE, Failure};

/// What signals do to a server that runs.
pub(crate) trait Target: Send + 'static {
    /// Begins to drain; false when there is nothing left that could.
    fn drain(&self) -> bool;
    /// Writes all that is open to standard error.
    fn dump(&self);
    /// Starts a successor, and drains when that serves; does not wait for it.
    fn restart(&self);
}

/// Takes the signals from now on, until the program ends.
pub(crate) fn take(target: impl Target) -> Result<(), Failure> {
    let failed = |e| Failure::io("handle signals", &e);
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2]).map_err(failed)?;
    let listen = move || {
        let mut asked = false;
        for signal in signals.forever() {
            match signal {
                SIGUSR1 => target.dump(),
                SIGUSR2 => target.restart(),
                _ if asked || !target.drain() => {
                    complain!("echoloop: ended at once");
                    std::process::exit(ENDED_AT_ONCE);
                }
                _ => {
                    asked = true;
                    complain!("echoloop: draining; once more to end at once");
                }
            }
        }
    };
    let thread = thread::Builder::new().name("signals".to_owned());
    thread.spawn(listen).map_err(failed)?;
    Ok(())
}
