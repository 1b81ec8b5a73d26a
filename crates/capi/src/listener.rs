//! Functions on a listener.

use std::ffi::{c_char, c_int};

use echoloop_core::{Kind, ListenerId};

use crate::detail::returned;
use crate::echoloop_listener;
use crate::guard::lend;
use crate::handle::raw;
use crate::pointer::write_address;

/// Writes the text of the address a listener listens on to buf, with the port that the system
/// chose, and returns its length without the end mark. ECHOLOOP_ADDR_MAX bytes always suffice;
/// ECHOLOOP_EINVAL if capacity does not.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_listener_addr(
    listener: *mut echoloop_listener,
    buf: *mut c_char,
    capacity: usize,
) -> c_int {
    let id = raw(listener);
    returned(lend("listener address", id, Kind::Listener, |el| {
        let addr = el.listener_addr(ListenerId::from_raw(id))?;
        // SAFETY: header, "Pointers": NULL, or buf is writable for capacity bytes.
        unsafe { write_address("listener address", &addr, buf, capacity) }
    }))
}

/// Stops listening. Connections that were accepted stay.
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_listener_close(listener: *mut echoloop_listener) -> c_int {
    let id = raw(listener);
    returned(lend("close listener", id, Kind::Listener, |el| {
        el.close_listener(ListenerId::from_raw(id))?;
        Ok(0)
    }))
}
