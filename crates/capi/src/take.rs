//! Taking what a connection received, to hand it to C as a pointer.
//!
//! The rule: what was taken counts as consumed, and stays readable at its address until the next
//! call for an event, whatever the program does to the connection meanwhile. Bytes in the core's
//! shared read buffer have that property; bytes that were put back earlier are in the connection's
//! own buffer, which a close gives away, so they are copied out first. Which case it is, the set
//! `kept` knows.

use echoloop_core::{ConnId, EventLoop};

use crate::registry::LoopCell;

/// Bytes handed to C.
#[derive(Clone, Copy)]
pub(crate) struct Taken {
    pub(crate) data: *const u8,
    pub(crate) len: usize,
    pub(crate) user: u64,
}

/// Takes all that the connection of a data event has received.
#[inline]
pub(crate) fn take(cell: &LoopCell, el: &mut EventLoop, conn: ConnId) -> Option<Taken> {
    let mut view = el.conn(conn).ok()?;
    let received = view.received();
    let mut data = received.as_ptr();
    let len = received.len();
    if !cell.kept.borrow().is_empty() && cell.kept.borrow_mut().remove(&conn.to_raw()) {
        data = copy_out(cell, received)?;
    }
    let user = view.user_data();
    view.consume(usize::MAX);
    Some(Taken { data, len, user })
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
            cell.kept.borrow_mut().insert(conn.to_raw());
            true
        }
        Err(e) if e.kind() == echoloop_core::ErrorKind::Closing => true, // Nobody wants them.
        Err(_) => {
            view.abort();
            false
        }
    }
}

/// Forgets a connection that has ended.
#[inline]
pub(crate) fn forget(cell: &LoopCell, conn: ConnId) {
    if !cell.kept.borrow().is_empty() {
        cell.kept.borrow_mut().remove(&conn.to_raw());
    }
}

/// Copies bytes to the loop's own memory, which the next copy overwrites.
#[cold]
fn copy_out(cell: &LoopCell, bytes: &[u8]) -> Option<*const u8> {
    let mut copy = cell.copy.borrow_mut();
    copy.clear();
    copy.try_reserve(bytes.len()).ok()?;
    copy.extend_from_slice(bytes);
    Some(copy.as_ptr())
}
