//! Taking what a connection received, to hand it to C as a pointer.
//!
//! The rule: what was taken counts as consumed, and stays readable at its address until the next
//! call for an event, whatever the program does to the connection meanwhile. Bytes in the core's
//! shared read buffer have that property; bytes that were put back earlier are in the connection's
//! own buffer, which a close gives away, so they are copied out first. Which case it is, the set
//! `kept` knows.

use echoloop_core::{ConnId, Connection, EventLoop};

use crate::registry::LoopCell;

/// Bytes handed to C.
#[derive(Clone, Copy)]
pub(crate) struct Taken {
    pub(crate) data: *const u8,
    pub(crate) len: usize,
}

/// Takes all that the connection of a data event has received.
#[inline(always)]
pub(crate) fn take(cell: &LoopCell, view: &mut Connection<'_>) -> Taken {
    if cell.any_kept.get() {
        return take_kept(cell, view);
    }
    let received = view.received();
    let taken = Taken {
        data: received.as_ptr(),
        len: received.len(),
    };
    view.consume(usize::MAX);
    taken
}

/// [`take`] when bytes of some connections, perhaps this one, were put back earlier.
#[cold]
fn take_kept(cell: &LoopCell, view: &mut Connection<'_>) -> Taken {
    let received = view.received();
    let mut data = received.as_ptr();
    let mut len = received.len();
    if remove(cell, view.id()) {
        let mut copy = cell.copy.borrow_mut();
        copy.clear();
        if copy.try_reserve(len).is_err() {
            // The bytes are lost, so the stream must not go on.
            view.abort();
            len = 0;
        } else {
            copy.extend_from_slice(received);
        }
        data = copy.as_ptr();
    }
    view.consume(usize::MAX);
    Taken { data, len }
}

/// Puts back what C did not use of the bytes it was handed. False if they could not be kept, for
/// want of memory.
#[cold]
pub(crate) fn put_back(cell: &LoopCell, el: &mut EventLoop, conn: ConnId, rest: &[u8]) -> bool {
    let Ok(mut view) = el.conn(conn) else {
        return true;
    };
    match view.unread(rest) {
        Ok(()) => {
            keep(cell, conn);
            true
        }
        Err(e) if e.kind() == echoloop_core::ErrorKind::Closing => true, // Nobody wants them.
        Err(_) => {
            view.abort();
            false
        }
    }
}

/// Notes that bytes of a connection were put back.
#[cold]
pub(crate) fn keep(cell: &LoopCell, conn: ConnId) {
    cell.kept.borrow_mut().insert(conn.to_raw());
    cell.any_kept.set(true);
}

/// Forgets a connection that has ended.
pub(crate) fn forget(cell: &LoopCell, conn: ConnId) {
    if cell.any_kept.get() {
        remove(cell, conn);
    }
}

fn remove(cell: &LoopCell, conn: ConnId) -> bool {
    let mut kept = cell.kept.borrow_mut();
    let was_kept = kept.remove(&conn.to_raw());
    cell.any_kept.set(!kept.is_empty());
    was_kept
}
