//! Signals as events.
//!
//! The rule: none of the program's code runs in a signal handler; the handler that is installed
//! sets a flag and wakes the loop.

use std::ffi::c_int;

use echoloop_core::{Kind, SignalId};

use crate::detail::returned;
use crate::guard::{lend, lend_server};
use crate::handle::{handle, raw};
use crate::pointer::{check_out, write};
use crate::{echoloop, echoloop_signal};

/// Makes a signal an event, told by on_signal or SIGNAL on the loop's thread, where everything may
/// be called; a burst is told once. Any loop of the process, and any number of watches, may ask for
/// one signal: each is told, whichever thread the signal reaches. One that is blocked in all
/// threads does not arrive.
///
/// The first watch of a signal in the process installs a handler by sigaction(2), with SA_RESTART.
/// A handler that the program had before is called too, first and as ever, in the signal handler.
/// One that the program installs later, by sigaction(2) or signal(3), takes the place of this one:
/// nothing is told any more, unless it calls the old one itself. The default action is gone from
/// the first watch on, also after the last echoloop_signal_close(): the signal then does nothing,
/// until the program sets SIG_DFL itself.
///
/// Errors: ECHOLOOP_EINVAL for a number that is no signal, and for SIGKILL, SIGSTOP, SIGILL, SIGFPE
/// and SIGSEGV; -EMFILE, -ENFILE, -ENOMEM.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_signal_watch(
    r#loop: *mut echoloop,
    number: c_int,
    out: *mut *mut echoloop_signal,
) -> c_int {
    let operation = "watch signal";
    returned(check_out(operation, out).and_then(|()| {
        let signal = lend_server(operation, raw(r#loop), Kind::Loop, |server| {
            Ok(server.event_loop().watch_signal(number)?)
        })?;
        // SAFETY: header, "Pointers": out is writable for a handle; it is not NULL.
        unsafe { write(out, handle(signal.to_raw())) };
        Ok(0)
    }))
}

/// Ends a watch of a signal; nothing more is told of it. The default action does not come back.
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_signal_close(signal: *mut echoloop_signal) -> c_int {
    let id = raw(signal);
    returned(lend("unwatch signal", id, Kind::Signal, |el| {
        el.unwatch_signal(SignalId::from_raw(id))?;
        Ok(0)
    }))
}
