//! Timers in a dump: handle, when they are due, their period.

use std::fmt::{self, Write};

use super::{between, each, write_due};
use crate::TimerId;
use crate::event_loop::EventLoop;
use crate::sys::System;

impl<S: System> EventLoop<S> {
    pub(super) fn dump_timers(&self, out: &mut String, now: u64) -> fmt::Result {
        for (key, timer) in each(&self.timers) {
            write!(out, "{:?}: ", TimerId(key))?;
            if timer.due {
                out.write_str("due in this turn")?;
            } else {
                write_due(out, self.deadlines.at(timer.deadline), now)?;
            }
            if timer.period > 0 {
                write!(out, ", every {:.1?}", between(0, timer.period))?;
            }
            if timer.user_data != 0 {
                write!(out, ", user data {:#x}", timer.user_data)?;
            }
            out.write_char('\n')?;
        }
        Ok(())
    }
}
