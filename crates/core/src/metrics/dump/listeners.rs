//! Listeners in a dump: handle, address, whether they accept.

use std::fmt::{self, Write};

use super::{each, write_due};
use crate::ListenerId;
use crate::event_loop::EventLoop;
use crate::sys::System;

impl<S: System> EventLoop<S> {
    pub(super) fn dump_listeners(&self, out: &mut dyn Write, now: u64) -> fmt::Result {
        for (key, listener) in each(&self.listeners) {
            write!(out, "{:?}", ListenerId(key))?;
            if let Ok(addr) = self.sys.local_addr(&listener.socket) {
                write!(out, " {addr}")?;
            }
            out.write_str(": listening")?;
            if listener.paused {
                out.write_str(", accepting is paused, the next try ")?;
                write_due(out, self.deadlines.at(listener.retry), now)?;
            }
            if listener.in_line {
                out.write_str(", in line")?;
            }
            out.write_char('\n')?;
        }
        Ok(())
    }
}
