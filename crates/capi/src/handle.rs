//! Handles as C sees them: typed opaque pointers whose value is not an address.
//!
//! The value is the core's 64-bit handle (kind, loop, slot, generation; always odd), so mixing
//! kinds does not compile and every other mistake is found by a comparison. No pointer of these
//! types is ever dereferenced, here or in the caller.

use std::ptr;

/// A loop. Made by echoloop_new(), ended by echoloop_free().
pub struct echoloop {
    _opaque: (),
}

/// A connection. Begins with an OPENED or CONNECTED event (or with echoloop_connect()), ends after
/// its CLOSED event by itself; there is nothing to free.
pub struct echoloop_conn {
    _opaque: (),
}

/// A listener. Made by echoloop_listen(), ended by echoloop_listener_close() or with its loop.
pub struct echoloop_listener {
    _opaque: (),
}

/// A timer. Made by echoloop_timer_new(), ended by echoloop_timer_cancel(), with its loop, or,
/// when it fires once, after its TIMER event.
pub struct echoloop_timer {
    _opaque: (),
}

/// What other threads may use of a loop. Made by echoloop_remote_new(), ended by
/// echoloop_remote_free().
pub struct echoloop_remote {
    _opaque: (),
}

/// A server: a loop with limits, a tick and a graceful drain. Made by echoloop_server_new(), ended
/// by echoloop_server_free().
pub struct echoloop_server {
    _opaque: (),
}

/// One server on several threads. Made by echoloop_workers_new(), ended by echoloop_workers_free().
pub struct echoloop_workers {
    _opaque: (),
}

/// A watch of a descriptor. Made by echoloop_watch_new(), ended by echoloop_watch_close(), with its
/// loop, or, when its descriptor was closed by the program, after its WATCH_DEAD event.
pub struct echoloop_watch {
    _opaque: (),
}

/// A UDP socket. Made by echoloop_udp_bind(), ended by echoloop_udp_close() or with its loop.
pub struct echoloop_udp {
    _opaque: (),
}

/// A signal that is an event. Made by echoloop_signal_watch(), ended by echoloop_signal_close() or
/// with its loop.
pub struct echoloop_signal {
    _opaque: (),
}

/// A name that is being resolved. Made by echoloop_resolve(), ended after its RESOLVED event, by
/// echoloop_lookup_cancel() or with its loop.
pub struct echoloop_lookup {
    _opaque: (),
}

/// A selector: waits for descriptors without a loop. Made by echoloop_selector_new(), ended by
/// echoloop_selector_free().
pub struct echoloop_selector {
    _opaque: (),
}

/// The 64 bits of a handle.
#[inline]
pub(crate) fn raw<T>(handle: *mut T) -> u64 {
    handle.addr() as u64
}

/// The handle of 64 bits.
#[inline]
pub(crate) fn handle<T>(raw: u64) -> *mut T {
    ptr::without_provenance_mut(raw as usize)
}

const _: () = assert!(size_of::<*mut ()>() == 8, "handles need 64-bit pointers");
