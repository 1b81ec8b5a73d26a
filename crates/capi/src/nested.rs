//! A loop within another one: its descriptor and its next deadline.
//!
//! The rule: from the first echoloop_fd() on the descriptor is right whenever the program has the
//! thread, however the last run or batch has ended: `leave` is called at the end of each, since one
//! that ended early has left events behind which the kernel does not know of.

use std::ffi::c_int;
use std::os::fd::AsRawFd;
use std::time::Duration;

use echoloop_core::Kind;

use crate::detail::returned;
use crate::echoloop;
use crate::guard::lend_server;
use crate::handle::raw;
use crate::pointer::{check_out, write};
use crate::registry::{self, LoopCell};

/// The loop's own descriptor, by which it nests in any other loop (GLib, Qt, libuv, libevent,
/// poll(2), another echoloop). It is readable exactly when a turn would do or tell something: input,
/// timers, posts, a stop, what was sent between turns, events that were left over. So: watch it for
/// reading, level-triggered; when it is readable, call echoloop_run_once() or echoloop_poll_batch()
/// with a timeout of 0 (now and then nothing comes of it). Nothing is to be read from it, and it must
/// not be closed.
///
/// It is the same number for the life of the loop, until echoloop_after_fork(). The first call makes
/// the loop keep it right, which costs a system call for each deadline that becomes the first. Where
/// there is no timerfd(2) it does not tell time; echoloop_next_deadline() does. That a watched
/// descriptor was closed (WATCH_DEAD) is found in a turn, and no turn is asked for to look.
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_fd(r#loop: *mut echoloop) -> c_int {
    let (operation, id) = ("descriptor", raw(r#loop));
    returned(registry::exact(operation, id, Kind::Loop).and_then(|cell| {
        lend_server(operation, id, Kind::Loop, |server| {
            cell.nested.set(true);
            let fd = server.event_loop().descriptor().as_raw_fd();
            tell_stop(cell);
            Ok(fd)
        })
    }))
}

/// For the timeout of a loop around this one: returns 1 and writes to *out_us how many microseconds
/// from now the loop wants a turn by itself (0: now; rounded up), for a timer, a deadline of a
/// connection, or because work was left or made since the last turn. Returns 0 when it has nothing
/// planned.
///
/// It holds until the next call on this loop, so ask last, before the wait. After a batch with events
/// it may be 0, for what follows from them. Input, posts and signals come from outside and
/// are told by echoloop_fd() alone, which, where there is timerfd(2), tells deadlines too.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_next_deadline(r#loop: *mut echoloop, out_us: *mut i64) -> c_int {
    let (operation, id) = ("next deadline", raw(r#loop));
    returned(check_out(operation, out_us).and_then(|()| {
        let cell = registry::exact(operation, id, Kind::Loop)?;
        let next = lend_server(operation, id, Kind::Loop, |server| {
            Ok(server.event_loop().next_deadline())
        })?;
        let next = if cell.stop.get() {
            Some(Duration::ZERO)
        } else {
            next
        };
        let Some(left) = next else {
            return Ok(0);
        };
        let us = i64::try_from(left.as_nanos().div_ceil(1_000)).unwrap_or(i64::MAX);
        // SAFETY: header, "Pointers": out_us is writable for a number; it is not NULL.
        unsafe { write(out_us, us) };
        Ok(1)
    }))
}

/// The program goes back to the loop around: a nested loop's descriptor tells what was left.
pub(crate) fn leave(cell: &LoopCell) {
    let unusable = registry::is_poisoned(cell) || registry::is_forked(cell);
    if cell.nested.get() && !unusable && !cell.free_at_end.get() {
        cell.server.borrow_mut().event_loop().nest();
        tell_stop(cell);
    }
}

/// A stop that was asked for on this thread is known to nobody but the C ABI.
pub(crate) fn tell_stop(cell: &LoopCell) {
    if cell.nested.get() && cell.stop.get() {
        registry::wake(cell);
    }
}
