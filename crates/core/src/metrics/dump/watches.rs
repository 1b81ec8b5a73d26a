//! Watches in a dump: handle, descriptor, what is asked for, what is known.

use std::fmt::{self, Write};

use super::each;
use crate::WatchId;
use crate::event_loop::EventLoop;
use crate::sys::{System, WatchMode};
use crate::watch::watches::State;

impl<S: System> EventLoop<S> {
    pub(super) fn dump_watches(&self, out: &mut dyn Write) -> fmt::Result {
        for (key, watch) in each(&self.watches.slots) {
            let whose = if watch.owned.is_some() {
                "adopted"
            } else {
                "borrowed"
            };
            let mode = match watch.mode {
                WatchMode::Level => "",
                WatchMode::Edge => ", edge-triggered",
                WatchMode::OneShot => ", one-shot",
            };
            let (id, fd, interest) = (WatchId(key), watch.fd, watch.interest);
            write!(out, "{id:?}: {whose} descriptor {fd}, for {interest}{mode}")?;
            out.write_str(match watch.state {
                State::Armed if watch.always => "; always ready",
                State::Armed => "",
                State::Silent | State::Quiet => "; told, until it is set anew",
                State::Dead => "; dead",
            })?;
            if !watch.pending.is_empty() {
                write!(out, "; to be told: {}", watch.pending)?;
            }
            if watch.user_data != 0 {
                write!(out, ", user data {:#x}", watch.user_data)?;
            }
            out.write_char('\n')?;
        }
        Ok(())
    }
}
