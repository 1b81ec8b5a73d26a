//! Selectors: waiting for many descriptors without a loop.
//!
//! The rule: a selector has a life of its own, in a table, and no thread. Whoever waits takes it out
//! of its place for that long, so no lock is held over a wait; who finds the place empty is told so
//! at once, save that it can be woken and freed. What a short array had no room for is kept, and
//! handed out by the next wait.

use std::ffi::c_int;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use echoloop_core::{Kind, Selected, Selector};

use crate::convert::readiness_bits;
use crate::detail::{Refused, returned};
use crate::handle::{handle, raw};
use crate::held::Patience;
use crate::options::timeout;
use crate::pointer::{check_out, write};
use crate::table::Table;
use crate::watch::{borrow, interest_of, mode_of};
use crate::{
    ECHOLOOP_EBADHANDLE, ECHOLOOP_ECLOSED, ECHOLOOP_EFORKED, ECHOLOOP_EINVAL, ECHOLOOP_ENULL,
    ECHOLOOP_EPANIC, ECHOLOOP_EREENTRY, bug, echoloop_selector, fork,
};

/// What echoloop_selector_wait() found ready.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct echoloop_ready {
    /// The descriptor.
    pub fd: c_int,
    /// What it is ready for: ECHOLOOP_READABLE and so on. ECHOLOOP_INVALID: it was closed, and is
    /// registered no more.
    pub readiness: c_int,
    /// What was given with it.
    pub key: u64,
}

/// A selector, and what is known of it while a thread waits on it.
struct Shared {
    waker: Box<dyn Fn() + Send + Sync>,
    /// Forks that led to this process when it was made.
    forks: u64,
    state: Mutex<State>,
}

struct State {
    place: Place,
    /// Found by the last wait and not handed out yet, the first at the end.
    left: Vec<Selected>,
}

enum Place {
    Idle(Box<Selector>),
    /// A thread waits.
    Waited,
    Freed,
    /// A bug was met inside.
    Poisoned,
}

static SELECTORS: Table<Arc<Shared>> = Table::new(Kind::Selector);

/// Makes a selector: what select(2), poll(2) and epoll(7) do, for programs with a loop of their own.
/// It belongs to no loop and no thread, but one thread at a time waits on it. End it with
/// echoloop_selector_free(). Errors: -EMFILE, -ENFILE, -ENOMEM, ECHOLOOP_ETOOMANY, ECHOLOOP_ENOMEM.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_selector_new(out: *mut *mut echoloop_selector) -> c_int {
    let operation = "create selector";
    returned(check_out(operation, out).and_then(|()| {
        fork::mark_in_children();
        bug::watch();
        let selector = bug::caught(Selector::new).ok_or_else(|| bug::refused(operation))??;
        let shared = Shared {
            waker: Box::new(selector.waker()),
            forks: fork::count(),
            state: Mutex::new(State {
                place: Place::Idle(Box::new(selector)),
                left: Vec::new(),
            }),
        };
        let made = SELECTORS.insert(operation, 0, Arc::new(shared))?;
        // SAFETY: header, "Pointers": out is writable for a handle; it is not NULL.
        unsafe { write(out, handle(made)) };
        Ok(0)
    }))
}

/// Registers a descriptor. interest is ECHOLOOP_READABLE, ECHOLOOP_WRITABLE and ECHOLOOP_PRIORITY,
/// or'ed; errors and hang-ups are always told. mode is ECHOLOOP_WATCH_LEVEL (0), _EDGE or _ONCE.
/// key comes back with each report: an index, or a pointer as uintptr_t.
///
/// Any descriptor that poll(2) takes is taken, and there is no limit of 1,024; what is always ready to
/// poll(2), such as a file or /dev/null, is so here. Only the number is kept: unregister it before
/// it is closed. One that was closed all the same is told once, as ECHOLOOP_INVALID, and is gone then.
///
/// Errors: -EEXIST if it is registered already, -EBADF if it is not open, ECHOLOOP_EINVAL, -ENOMEM,
/// -ENOSPC (epoll(7), max_user_watches), -ELOOP (epoll_ctl(2)). Of this and all that follow:
/// ECHOLOOP_EREENTRY while a thread waits on the selector, ECHOLOOP_EFORKED in the child of a fork
/// (make one there; this one can be freed, which does not disturb the parent).
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_selector_register(
    selector: *mut echoloop_selector,
    fd: c_int,
    interest: c_int,
    mode: c_int,
    key: u64,
) -> c_int {
    let operation = "register";
    with(operation, selector, None, |selector| {
        let (interest, mode) = (interest_of(operation, interest)?, mode_of(operation, mode)?);
        let fd = borrow(operation, fd)?;
        Ok(selector.register_as(&fd, interest, mode, key)?)
    })
}

/// Sets what a registered descriptor is waited for, and arms it again: if it is ready for that, the
/// next wait tells, in every mode. With an interest of 0 an error or a hang-up is told still, once.
/// Errors: -ENOENT if it is not registered, -EBADF if it was closed since, which the next wait tells
/// too, ECHOLOOP_EINVAL.
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_selector_modify(
    selector: *mut echoloop_selector,
    fd: c_int,
    interest: c_int,
) -> c_int {
    let operation = "modify";
    with(operation, selector, Some(fd), |selector| {
        Ok(selector.modify(fd, interest_of(operation, interest)?)?)
    })
}

/// Ends a registration; nothing more is told of the descriptor, which may have been closed before.
/// Errors: -ENOENT if it is not registered.
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_selector_unregister(
    selector: *mut echoloop_selector,
    fd: c_int,
) -> c_int {
    with("unregister", selector, Some(fd), |selector| {
        Ok(selector.unregister(fd)?)
    })
}

/// Waits until a descriptor is ready, at most timeout_us (0: not at all, negative: for ever; rounded
/// up to milliseconds), and fills ready. Returns how many there are; 0 after the timeout, and early
/// when a signal came or echoloop_selector_wake() was called. What did not fit is handed out by the
/// next waits, before they wait; in mode LEVEL what is still ready is told again then. Readiness is
/// a hint: other code may have read what was there.
///
/// Errors: ECHOLOOP_EREENTRY while another thread waits, ECHOLOOP_ECLOSED if another thread freed the
/// selector meanwhile, ECHOLOOP_EINVAL for a capacity of 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_selector_wait(
    selector: *mut echoloop_selector,
    ready: *mut echoloop_ready,
    capacity: usize,
    timeout_us: i64,
) -> c_int {
    let operation = "wait";
    returned(find(operation, selector).and_then(|shared| {
        if ready.is_null() {
            return Err(Refused::new(operation, ECHOLOOP_ENULL));
        }
        if capacity == 0 {
            let why = format_args!("the capacity is 0");
            return Err(Refused::because(operation, ECHOLOOP_EINVAL, why));
        }
        let mut state = shared.wait(operation, timeout(timeout_us))?;
        let n = state.left.len().min(capacity).min(c_int::MAX as usize);
        let rest = state.left.len() - n;
        for (place, selected) in state.left.drain(rest..).rev().enumerate() {
            let found = echoloop_ready {
                fd: selected.fd,
                readiness: readiness_bits(selected.readiness),
                key: selected.key,
            };
            // SAFETY: header, "Pointers": ready is writable for capacity entries, and n is no more; it
            // is not NULL.
            unsafe { ready.add(place).write_unaligned(found) };
        }
        Ok(n as c_int)
    }))
}

/// Ends the current wait on the selector, or the next one, early; from any thread.
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_selector_wake(selector: *mut echoloop_selector) -> c_int {
    returned(find("wake", selector).map(|shared| {
        (shared.waker)();
        0
    }))
}

/// Frees a selector, from any thread; a thread that waits on it gets ECHOLOOP_ECLOSED. The
/// descriptors stay open.
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_selector_free(selector: *mut echoloop_selector) -> c_int {
    let Some(shared) = SELECTORS.remove(raw(selector)) else {
        return Refused::new("free selector", ECHOLOOP_EBADHANDLE).status();
    };
    if shared.is_of_parent() {
        return 0; // Who waited in the parent does not here, and its lock may be held for ever.
    }
    let place = std::mem::replace(&mut shared.lock().place, Place::Freed);
    if let Place::Waited = place {
        (shared.waker)();
    }
    0
}

/// The lock of the table, for a fork.
pub(crate) fn hold(patience: &Patience) -> Option<impl Sized + 'static> {
    SELECTORS.hold(patience)
}

/// How many selectors there are.
pub(crate) fn live() -> i64 {
    SELECTORS.len()
}

/// The selector behind a handle.
fn find(operation: &'static str, selector: *mut echoloop_selector) -> Result<Arc<Shared>, Refused> {
    let found = SELECTORS.get(raw(selector));
    let shared = found.ok_or_else(|| Refused::new(operation, ECHOLOOP_EBADHANDLE))?;
    if shared.is_of_parent() {
        let why = format_args!("the selector was made before a fork; make one here");
        return Err(Refused::because(operation, ECHOLOOP_EFORKED, why));
    }
    Ok(shared)
}

/// Acts on a selector that nobody waits on; what was found of `forgotten` before is told no more.
fn with(
    operation: &'static str,
    selector: *mut echoloop_selector,
    forgotten: Option<c_int>,
    act: impl FnOnce(&mut Selector) -> Result<(), Refused>,
) -> c_int {
    returned(find(operation, selector).and_then(|shared| {
        let mut state = shared.lock();
        let selector = state.idle(operation)?;
        let Some(outcome) = bug::caught(|| act(selector)) else {
            state.place = Place::Poisoned;
            return Err(bug::refused(operation));
        };
        outcome?;
        state.left.retain(|selected| Some(selected.fd) != forgotten);
        Ok(0)
    }))
}

impl Shared {
    /// Waits, unless something is left to be handed out from before.
    fn wait(
        &self,
        operation: &'static str,
        timeout: Option<Duration>,
    ) -> Result<MutexGuard<'_, State>, Refused> {
        let mut state = self.lock();
        state.idle(operation)?;
        if !state.left.is_empty() {
            return Ok(state);
        }
        let Place::Idle(mut selector) = std::mem::replace(&mut state.place, Place::Waited) else {
            return Err(Refused::new(operation, ECHOLOOP_EBADHANDLE)); // Not so, by `idle`.
        };
        let mut found = std::mem::take(&mut state.left);
        drop(state);
        let waited = bug::caught(|| selector.wait(timeout, &mut found));
        let mut state = self.lock();
        if let Place::Freed = state.place {
            return Err(Refused::because(
                operation,
                ECHOLOOP_ECLOSED,
                format_args!("the selector was freed meanwhile"),
            ));
        }
        let Some(waited) = waited else {
            state.place = Place::Poisoned;
            return Err(bug::refused(operation));
        };
        state.place = Place::Idle(selector);
        waited?;
        found.reverse();
        state.left = found;
        Ok(state)
    }

    fn is_of_parent(&self) -> bool {
        self.forks != fork::count()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Panics of the core are caught under the lock, so a poisoned one still holds a good value.
        self.state
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl State {
    fn idle(&mut self, operation: &'static str) -> Result<&mut Selector, Refused> {
        match &mut self.place {
            Place::Idle(selector) => Ok(selector),
            Place::Waited => {
                let why = format_args!("another thread waits on the selector");
                Err(Refused::because(operation, ECHOLOOP_EREENTRY, why))
            }
            Place::Freed => Err(Refused::new(operation, ECHOLOOP_EBADHANDLE)),
            Place::Poisoned => Err(Refused::new(operation, ECHOLOOP_EPANIC)),
        }
    }
}
