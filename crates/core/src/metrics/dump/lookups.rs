//! Lookups in a dump, and the races of connects: what is asked, what is tried, what is waited for.

use std::fmt::{self, Write};

use super::{each, write_due};
use crate::LookupId;
use crate::conn::race::Race;
use crate::error::errno_name;
use crate::event_loop::EventLoop;
use crate::sys::System;

impl<S: System> EventLoop<S> {
    pub(super) fn dump_lookups(&self, out: &mut dyn Write, now: u64) -> fmt::Result {
        for (key, lookup) in each(&self.lookups) {
            write!(out, "{:?} of {}: ", LookupId(key), lookup.host)?;
            if lookup.answer.is_some() {
                out.write_str("answered")?;
            } else {
                out.write_str("under way, timeout ")?;
                let armed = self.deadlines.at(lookup.deadline);
                write_due(out, armed, now)?;
            }
            out.write_char('\n')?;
        }
        Ok(())
    }
}

pub(super) fn write_race(out: &mut dyn Write, race: &Race) -> fmt::Result {
    write!(out, " to {}", race.target)?;
    if race.resolving {
        out.write_str(", resolving")?;
    }
    if let Some(e) = race.lacking {
        let name = errno_name(e.raw_os_error());
        write!(out, ", waiting for what it lacks ({name})")?;
    }
    let (tried, running, left) = (&race.attempted, race.running.len(), race.waiting.len());
    write!(
        out,
        ", {} addresses tried, {running} of them under way, {left} to be tried",
        tried.len()
    )
}
