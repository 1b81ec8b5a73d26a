//! Functions on watches: descriptors of the program's own in a loop.
//!
//! The rule: a descriptor comes as a number, which the program may have got wrong, so the kernel is
//! asked whether it is open; nobody else's is touched. Who has lent one closes it, who has given it
//! away (`owned`) does not. What a loop by itself can do with many descriptors is in `selector`.

use std::ffi::{c_int, c_void};
use std::os::fd::{BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

use echoloop_core::{Error, ErrorKind, Interest, Kind, WatchId, WatchMode};

use crate::convert::pointer;
use crate::detail::{Refused, returned};
use crate::guard::{lend, lend_server};
use crate::handle::{handle, raw};
use crate::own::{Own, echoloop_watch_fn};
use crate::pointer::{check_out, read_sized, write};
use crate::{ECHOLOOP_EINVAL, echoloop, echoloop_watch, registry};

/// A read would find something, or end of stream, or an error: it would not block.
pub const ECHOLOOP_READABLE: c_int = 1;
/// A write would be taken, or fail: it would not block.
pub const ECHOLOOP_WRITABLE: c_int = 2;
/// There is something exceptional to read, such as urgent data of TCP (POLLPRI of poll(2)). Linux
/// only; elsewhere it is never told.
pub const ECHOLOOP_PRIORITY: c_int = 4;
/// Readiness only: the peer has finished sending (POLLRDHUP), or hung up.
pub const ECHOLOOP_READ_CLOSED: c_int = 8;
/// Readiness only: an error is pending; for a pipe, the reading end is closed (POLLERR).
pub const ECHOLOOP_FAILED: c_int = 16;
/// Readiness only: the other end is gone (POLLHUP). What it sent before may still be to be read.
pub const ECHOLOOP_HANG_UP: c_int = 32;
/// Readiness only: the descriptor is not open, or its number names another one by now (POLLNVAL).
pub const ECHOLOOP_INVALID: c_int = 64;

/// Mode: told every turn as long as it is ready, as poll(2) has it.
pub const ECHOLOOP_WATCH_LEVEL: c_int = 0;
/// Mode: told when it becomes ready, or something new comes, and after each modify. Read or write
/// until EAGAIN.
pub const ECHOLOOP_WATCH_EDGE: c_int = 1;
/// Mode: told once, and then not again before a modify, to the same interest or another one.
pub const ECHOLOOP_WATCH_ONCE: c_int = 2;

/// Options of echoloop_watch_new(). Start with ECHOLOOP_WATCH_OPTIONS_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct echoloop_watch_options {
    /// sizeof(echoloop_watch_options); ECHOLOOP_WATCH_OPTIONS_INIT sets it.
    pub size: usize,
    /// ECHOLOOP_WATCH_LEVEL (0), ECHOLOOP_WATCH_EDGE or ECHOLOOP_WATCH_ONCE.
    pub mode: c_int,
    /// Not 0: the descriptor is the loop's, which closes it with the watch; echoloop_watch_release()
    /// gives it back.
    pub owned: c_int,
}

/// Watches a descriptor of the program's own, such as a pipe, a device, or the socket of another
/// library. interest is ECHOLOOP_READABLE, ECHOLOOP_WRITABLE and ECHOLOOP_PRIORITY, or'ed; errors
/// and hang-ups are always told. That it is ready is told by the watch's own callback
/// (echoloop_watch_set_callback()), on_watch or WATCH. user comes with its events. options may be
/// NULL.
///
/// The loop never reads, writes or changes the descriptor, not even its O_NONBLOCK. Readiness is a
/// hint: other code may have read what was there, so the descriptor had better be non-blocking.
/// With an error or a hang-up neither a read nor a write would block, so ECHOLOOP_READABLE and
/// ECHOLOOP_WRITABLE are told with it, as far as they were asked for. What poll(2) calls always
/// ready, such as a file or /dev/null, is so here: in mode LEVEL each turn, else once and after each
/// modify.
///
/// Unless owned, the descriptor stays the program's: close the watch first, then the descriptor. One
/// that was closed all the same is told by WATCH_DEAD, soon: at its next event, or before the loop
/// sleeps long.
///
/// Errors: -EEXIST if this descriptor is watched already, -EBADF if it is not open, ECHOLOOP_EINVAL,
/// ECHOLOOP_ETOOMANY, -ENOMEM, -ENOSPC (epoll(7), max_user_watches), -ELOOP (epoll_ctl(2)). After an
/// error an owned descriptor is the program's again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_watch_new(
    r#loop: *mut echoloop,
    fd: c_int,
    interest: c_int,
    options: *const echoloop_watch_options,
    user: *mut c_void,
    out: *mut *mut echoloop_watch,
) -> c_int {
    let operation = "watch";
    returned(check_out(operation, out).and_then(|()| {
        // SAFETY: header, "Structs": NULL, or readable for its size.
        let options = unsafe { read_sized(operation, options) }?.unwrap_or_default();
        let user = user.expose_provenance() as u64;
        let watch = lend_server(operation, raw(r#loop), Kind::Loop, |server| {
            let el = server.event_loop();
            let interest = interest_of(operation, interest)?;
            let mode = mode_of(operation, options.mode)?;
            let id = el.watch(&borrow(operation, fd)?, interest, mode)?;
            el.set_watch_user_data(id, user)?;
            if options.owned != 0 {
                // SAFETY: header, `owned`: the descriptor is the loop's from here on; it is open, as
                // the kernel has just taken it.
                el.adopt_watched(id, unsafe { OwnedFd::from_raw_fd(fd) });
            }
            Ok(id)
        })?;
        // SAFETY: header, "Pointers": out is writable for a handle; it is not NULL.
        unsafe { write(out, handle(watch.to_raw())) };
        Ok(0)
    }))
}

/// Sets what a watch asks for, and arms it again: if the descriptor is ready for it, that is told, in
/// every mode. With an interest of 0 an error or a hang-up is told still, once. Errors: -EBADF if
/// the descriptor was closed, which WATCH_DEAD tells too; ECHOLOOP_EINVAL.
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_watch_modify(watch: *mut echoloop_watch, interest: c_int) -> c_int {
    let (operation, id) = ("modify watch", raw(watch));
    returned(lend(operation, id, Kind::Watch, |el| {
        let id = WatchId::from_raw(id);
        el.watched_fd(id)?;
        el.modify_watch(id, interest_of(operation, interest)?)?;
        Ok(0)
    }))
}

/// Ends a watch, also in its callback; nothing more is told of it. An owned descriptor is closed.
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_watch_close(watch: *mut echoloop_watch) -> c_int {
    let (operation, id) = ("close watch", raw(watch));
    returned(registry::find(operation, id, Kind::Watch).and_then(|cell| {
        lend(operation, id, Kind::Watch, |el| {
            el.unwatch(WatchId::from_raw(id))?;
            cell.own.borrow_mut().remove(id);
            Ok(0)
        })
    }))
}

/// Ends the watch of an owned descriptor and gives it back: returns its number, and the program is to
/// close it. Errors: ECHOLOOP_EINVAL if it was not owned, and the watch stays; -EBADF if it was
/// closed without the loop's knowledge, and the watch is gone.
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_watch_release(watch: *mut echoloop_watch) -> c_int {
    let (operation, id) = ("release watch", raw(watch));
    returned(registry::find(operation, id, Kind::Watch).and_then(|cell| {
        lend(operation, id, Kind::Watch, |el| {
            let released = el.unwatch_owned(WatchId::from_raw(id));
            if el.watched_fd(WatchId::from_raw(id)).is_err() {
                cell.own.borrow_mut().remove(id);
            }
            Ok(released?.into_raw_fd())
        })
    }))
}

/// The number of the descriptor that a watch watches.
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_watch_fd(watch: *mut echoloop_watch) -> c_int {
    let id = raw(watch);
    returned(lend("watched descriptor", id, Kind::Watch, |el| {
        Ok(el.watched_fd(WatchId::from_raw(id))?)
    }))
}

/// Writes the user pointer of a watch to *out.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_watch_user(
    watch: *mut echoloop_watch,
    out: *mut *mut c_void,
) -> c_int {
    let id = raw(watch);
    returned(check_out("watch user", out).and_then(|()| {
        let user = lend("watch user", id, Kind::Watch, |el| {
            Ok(el.watch_user_data(WatchId::from_raw(id))?)
        })?;
        // SAFETY: header, "Pointers": out is writable for a pointer; it is not NULL.
        unsafe { write(out, pointer(user)) };
        Ok(0)
    }))
}

/// Sets the user pointer of a watch, which comes with its events from now on.
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_watch_set_user(watch: *mut echoloop_watch, user: *mut c_void) -> c_int {
    let id = raw(watch);
    returned(lend("set watch user", id, Kind::Watch, |el| {
        el.set_watch_user_data(WatchId::from_raw(id), user.expose_provenance() as u64)?;
        Ok(0)
    }))
}

/// Has a watch call callback with its user pointer, in place of on_watch; NULL takes that back. With
/// batches its WATCH and WATCH_DEAD events are handed out as ever, and echoloop_dispatch() calls. So
/// a library's watches live in a loop beside the program's. Errors: ECHOLOOP_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_watch_set_callback(
    watch: *mut echoloop_watch,
    callback: echoloop_watch_fn,
) -> c_int {
    let (operation, id) = ("set watch callback", raw(watch));
    returned(registry::find(operation, id, Kind::Watch).and_then(|cell| {
        lend(operation, id, Kind::Watch, |el| {
            el.watched_fd(WatchId::from_raw(id))?;
            let mut own = cell.own.borrow_mut();
            match callback {
                Some(_) => own.set(operation, el, id, Own::Watch(callback))?,
                None => drop(own.remove(id)),
            }
            Ok(0)
        })
    }))
}

/// A descriptor of the program's by its number; whether it is open is for the kernel to say.
pub(crate) fn borrow<'a>(operation: &'static str, fd: RawFd) -> Result<BorrowedFd<'a>, Refused> {
    if fd < 0 {
        return Err(Error::new(operation, ErrorKind::BadDescriptor(fd)).into());
    }
    // SAFETY: not -1. That the number is the program's to name is the contract of each function that
    // takes one; it is handed to the kernel within the call and kept as a number only.
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// What a set of bits asks for.
pub(crate) fn interest_of(operation: &'static str, bits: c_int) -> Result<Interest, Refused> {
    let known = [
        (ECHOLOOP_READABLE, Interest::READABLE),
        (ECHOLOOP_WRITABLE, Interest::WRITABLE),
        (ECHOLOOP_PRIORITY, Interest::PRIORITY),
    ];
    let mut rest = bits;
    let mut interest = Interest::NONE;
    for (bit, of) in known {
        if bits & bit != 0 {
            interest = interest | of;
            rest &= !bit;
        }
    }
    if rest == 0 {
        return Ok(interest);
    }
    let why = format_args!("an interest is READABLE, WRITABLE and PRIORITY, not {rest:#x}");
    Err(Refused::because(operation, ECHOLOOP_EINVAL, why))
}

pub(crate) fn mode_of(operation: &'static str, mode: c_int) -> Result<WatchMode, Refused> {
    match mode {
        ECHOLOOP_WATCH_LEVEL => Ok(WatchMode::Level),
        ECHOLOOP_WATCH_EDGE => Ok(WatchMode::Edge),
        ECHOLOOP_WATCH_ONCE => Ok(WatchMode::OneShot),
        _ => {
            let why = format_args!("a mode is ECHOLOOP_WATCH_LEVEL, _EDGE or _ONCE, not {mode}");
            Err(Refused::because(operation, ECHOLOOP_EINVAL, why))
        }
    }
}
