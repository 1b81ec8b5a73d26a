//! Room in the loop's lists, had before it is needed (promise 9).
//!
//! The rule: what a turn has to note (who stands in line, what falls due, whom to flush) finds its
//! room there, since the handle it is about took it when it was made. So a turn fails for want of
//! memory only where bytes are to be kept, and then one connection ends; everything else is the
//! answer of a call, or accepting that pauses. Lists that grow in a turn all the same have something
//! to do without room, beside the line that does it.
//!
//! Small pieces of a size that neither the program nor a peer chooses (a box, an address) are left
//! to the allocator, which may keep a reserve for them, as that of the C library does.

use std::collections::VecDeque;

use crate::conn::MIN_READ;
use crate::event_loop::EventLoop;
use crate::sys::System;
use crate::{Error, ErrorKind};

/// Lets `queue` hold an entry for each of so many.
pub(crate) fn queue_room<T>(queue: &mut VecDeque<T>, most: usize) -> Result<(), Error> {
    let more = most.saturating_sub(queue.len());
    queue.try_reserve(more).map_err(|_| no_memory())
}

/// Lets `list` hold an entry for each of so many.
pub(crate) fn list_room<T>(list: &mut Vec<T>, most: usize) -> Result<(), Error> {
    let more = most.saturating_sub(list.len());
    list.try_reserve(more).map_err(|_| no_memory())
}

fn no_memory() -> Error {
    Error::new("create handle", ErrorKind::OutOfMemory)
}

impl<S: System> EventLoop<S> {
    /// To be called first by each call that makes a handle: an error in the child of a fork, and
    /// while memory is short.
    pub(crate) fn check_new(&mut self, operation: &'static str) -> Result<(), Error> {
        self.check_process(operation)?;
        if self.is_short() {
            return Err(Error::new(operation, ErrorKind::OutOfMemory));
        }
        Ok(())
    }

    /// Memory is short, as whoever provides it says.
    pub(crate) fn is_short(&self) -> bool {
        self.options.memory_is_short.is_some_and(|short| short())
    }

    /// Room for one more connection and all that a turn may have to note about it.
    pub(crate) fn conn_room(&mut self) -> Result<(), Error> {
        self.conns.make_room()?;
        queue_room(&mut self.line, self.conns.end() as usize + 1)
    }

    /// How many of `size` bytes the shared buffer takes, after an attempt to make it so large.
    pub(crate) fn read_room(&mut self, size: usize) -> usize {
        let more = size.saturating_sub(self.read_buf.len());
        if more > 0 && self.read_buf.try_reserve_exact(more).is_ok() {
            self.read_buf.resize(size.max(MIN_READ as usize), 0);
        }
        size.min(self.read_buf.len())
    }
}
