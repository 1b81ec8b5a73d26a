//! Watched signals in a dump: handle, number, name.

use std::fmt::{self, Write};

use super::each;
use crate::SignalId;
use crate::event_loop::EventLoop;
use crate::sys::System;

impl<S: System> EventLoop<S> {
    pub(super) fn dump_signals(&self, out: &mut dyn Write) -> fmt::Result {
        for (key, watch) in each(&self.signals.slots) {
            let name = signal_hook::low_level::signal_name(watch.number);
            let (id, number) = (SignalId(key), watch.number);
            writeln!(out, "{id:?}: {} ({number})", name.unwrap_or("signal"))?;
        }
        Ok(())
    }
}
