//! Callbacks that a timer or a watch has of its own, and the user pointers of lookups.
//!
//! The rule: what is kept here is found by a whole handle, so an entry of an object that is gone is
//! never met again; such entries are swept out before the table grows. This is how the adapters of
//! other libraries live in a loop beside a program's own hooks.

use std::collections::HashMap;
use std::ffi::{c_int, c_void};

use echoloop_core::{ErrorKind, EventLoop, Kind, LookupId, TimerId, WatchId};

use crate::detail::Refused;
use crate::registry::LoopCell;
use crate::{ECHOLOOP_ENOMEM, echoloop_timer, echoloop_watch};

/// Called when a timer is due, in place of on_timer; see echoloop_timer_set_callback().
pub type echoloop_timer_fn =
    Option<unsafe extern "C-unwind" fn(timer_user: *mut c_void, timer: *mut echoloop_timer)>;

/// Called when a watched descriptor is ready for readiness, in place of on_watch; see
/// echoloop_watch_set_callback(). ECHOLOOP_INVALID: the descriptor was closed, and the watch is
/// gone when the callback returns.
pub type echoloop_watch_fn = Option<
    unsafe extern "C-unwind" fn(
        watch_user: *mut c_void,
        watch: *mut echoloop_watch,
        readiness: c_int,
    ),
>;

/// What one object has of its own.
#[derive(Clone, Copy)]
pub(crate) enum Own {
    Timer(echoloop_timer_fn),
    Watch(echoloop_watch_fn),
    /// The user pointer of a lookup.
    #[allow(dead_code, reason = "lookups are to come")]
    Lookup(usize),
}

/// What the objects of one loop have of their own, by handle.
#[derive(Default)]
pub(crate) struct Owned {
    by_handle: HashMap<u64, Own>,
}

impl Owned {
    #[inline]
    pub(crate) fn get(&self, handle: u64) -> Option<Own> {
        if self.by_handle.is_empty() {
            return None;
        }
        self.by_handle.get(&handle).copied()
    }

    pub(crate) fn remove(&mut self, handle: u64) -> Option<Own> {
        self.by_handle.remove(&handle)
    }

    pub(crate) fn set(
        &mut self,
        operation: &'static str,
        el: &mut EventLoop,
        handle: u64,
        own: Own,
    ) -> Result<(), Refused> {
        if self.by_handle.len() == self.by_handle.capacity() {
            self.by_handle
                .retain(|handle, own| lives(el, *handle, *own));
            if self
                .by_handle
                .try_reserve(self.by_handle.len() + 1)
                .is_err()
            {
                return Err(Refused::new(operation, ECHOLOOP_ENOMEM));
            }
        }
        self.by_handle.insert(handle, own);
        Ok(())
    }
}

/// Refuses a timer or watch that is gone.
pub(crate) fn check_alive(cell: &LoopCell, kind: Kind, handle: u64) -> Result<(), Refused> {
    let mut server = cell.server.borrow_mut();
    let el = server.event_loop();
    match kind {
        Kind::Timer => el.timer_user_data(TimerId::from_raw(handle)),
        _ => el.watch_user_data(WatchId::from_raw(handle)),
    }?;
    Ok(())
}

fn lives(el: &EventLoop, handle: u64, own: Own) -> bool {
    match own {
        Own::Timer(_) => el.timer_user_data(TimerId::from_raw(handle)).is_ok(),
        Own::Watch(_) => el.watch_user_data(WatchId::from_raw(handle)).is_ok(),
        Own::Lookup(_) => {
            let answer = el.resolved(LookupId::from_raw(handle));
            !matches!(answer, Err(e) if e.kind() == ErrorKind::BadHandle)
        }
    }
}
