//! Timers in a dump: handle, when they are due, their period.

use std::fmt::{self, Write};

use super::{between, each, write_due};
use crate::TimerId;
use crate::event_loop::EventLoop;
use crate::handle::slot_of;
use crate::sys::System;
use crate::turn::Current;

impl<S: System> EventLoop<S> {
    pub(super) fn dump_timers(&self, out: &mut dyn Write, now: u64) -> fmt::Result {
        for (key, timer) in each(&self.timers) {
            write!(out, "{:?}: ", TimerId(key))?;
            let at = self.deadlines.timer_at(slot_of(key));
            let put_off = self.delayed.iter().rev().find(|(armed, _)| *armed == key);
            if let Some((_, delay)) = put_off {
                write!(out, "due {:.1?} after this handler", between(0, *delay))?;
            } else if at.is_none() && self.current != Current::Timer(slot_of(key)) {
                out.write_str("due in this turn")?;
            } else {
                write_due(out, at, now)?;
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
