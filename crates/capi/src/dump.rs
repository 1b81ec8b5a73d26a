//! What a loop holds, as text, for the moment something hangs.
//!
//! The rule: the text is written straight to the caller's memory, so a dump needs no memory of its own
//! that grows with the loop.

use std::ffi::{c_char, c_int};
use std::{fmt, ptr};

use echoloop_core::Kind;

use crate::detail::{Refused, returned};
use crate::guard::lend_server;
use crate::handle::raw;
use crate::{ECHOLOOP_ENULL, echoloop};

/// Writes all that is open in the loop to buf, a line each (slot and generation of the handle,
/// addresses, state, bytes queued and unread, deadlines), then what waits to be handed out, counters
/// and times: text for people, whose form may change with any version. It takes some microseconds for
/// each object, and changes nothing.
///
/// As snprintf(3): returns the length of the whole text without its end mark, writes as much as fits,
/// always with an end mark, and with a capacity of 0 nothing (buf may be NULL then). The text of the
/// next call may be longer, also in the same callback.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_dump(
    r#loop: *mut echoloop,
    buf: *mut c_char,
    capacity: usize,
) -> c_int {
    if buf.is_null() && capacity > 0 {
        return Refused::new("dump", ECHOLOOP_ENULL).status();
    }
    returned(lend_server("dump", raw(r#loop), Kind::Loop, |server| {
        let mut text = Bounded {
            buf: buf.cast(),
            room: capacity.saturating_sub(1),
            written: 0,
            length: 0,
        };
        // It takes all that is written.
        let _ = server.event_loop().write_dump(&mut text);
        if capacity > 0 {
            // SAFETY: header, "Pointers": buf is writable for capacity bytes; no more than
            // capacity - 1 were written.
            unsafe { text.buf.add(text.written).write(0) };
        }
        Ok(c_int::try_from(text.length).unwrap_or(c_int::MAX))
    }))
}

/// Memory of the caller that takes as much text as fits, and counts the rest.
struct Bounded {
    buf: *mut u8,
    room: usize,
    written: usize,
    length: usize,
}

impl fmt::Write for Bounded {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        self.length = self.length.saturating_add(s.len());
        let left = self.room - self.written;
        if left == 0 {
            return Ok(());
        }
        let fits = (0..=left.min(s.len()))
            .rev()
            .find(|n| s.is_char_boundary(*n))
            .unwrap_or(0);
        // SAFETY: header, "Pointers": buf is writable for capacity bytes, of which `room` is all but
        // one, and `fits` is no more than what is left of it.
        unsafe { ptr::copy_nonoverlapping(s.as_ptr(), self.buf.add(self.written), fits) };
        self.written += fits;
        if fits < s.len() {
            self.room = self.written; // What comes after a gap is no part of the text.
        }
        Ok(())
    }
}
