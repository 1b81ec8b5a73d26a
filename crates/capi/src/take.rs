//! Taking what a connection received, to hand it to C as a pointer.
//!
//! The rule: what was taken counts as consumed, and stays readable at its address until the next
//! call for an event, whatever the program does to the connection meanwhile. Bytes in the core's
//! shared read buffer have that property; bytes that were put back earlier are in the connection's
//! own buffer, which a close gives away, so they are copied out first.

use echoloop_core::{ConnId, EventLoop};

use crate::registry::LoopCell;

/// Bytes handed to C.
#[derive(Clone, Copy)]
pub(crate) struct Taken {
    pub(crate) data: *const u8,
    pub(crate) len: usize,
}

/// Takes all that the connection of a data event has received.
#[inline(always)]
pub(crate) fn take(cell: &LoopCell, el: &mut EventLoop, conn: ConnId) -> Taken {
    match el.take_data() {
        Some(data) => Taken {
            data: data.as_ptr(),
            len: data.len(),
        },
        None => take_kept(cell, el, conn),
    }
}

/// [`take`] when some of the bytes were put back earlier: they are in the connection's own buffer.
#[cold]
fn take_kept(cell: &LoopCell, el: &mut EventLoop, conn: ConnId) -> Taken {
    let mut copy = cell.copy.borrow_mut();
    copy.clear();
    if let Ok(mut view) = el.conn(conn) {
        let received = view.received();
        if copy.try_reserve(received.len()).is_err() {
            view.abort_without_memory(); // The bytes are lost.
        } else {
            copy.extend_from_slice(received);
        }
        view.consume(usize::MAX);
    }
    Taken {
        data: copy.as_ptr(),
        len: copy.len(),
    }
}

/// Puts back what C did not use of the bytes it was handed. False if they could not be kept, for
/// want of memory.
#[cold]
pub(crate) fn put_back(el: &mut EventLoop, conn: ConnId, rest: &[u8]) -> bool {
    let Ok(mut view) = el.conn(conn) else {
        return true;
    };
    match view.put_back(rest) {
        Ok(()) => true,
        Err(e) if e.kind() == echoloop_core::ErrorKind::Closing => true, // Nobody wants them.
        Err(_) => {
            view.abort_without_memory();
            false
        }
    }
}
