//! UDP sockets in a dump.
//!
//! The rule: as for all kinds, one line each: the address, the peer, then what is unusual.

use std::fmt::{self, Write};

use super::each;
use crate::UdpId;
use crate::event_loop::EventLoop;
use crate::sys::System;

impl<S: System> EventLoop<S> {
    pub(super) fn dump_udps(&self, out: &mut dyn Write) -> fmt::Result {
        for (key, udp) in each(&self.udps) {
            write!(out, "{:?}", UdpId(key))?;
            if let Ok(addr) = self.sys.local_addr(&udp.socket) {
                write!(out, " {addr}")?;
            }
            if let Some(peer) = udp.peer {
                write!(out, " to {peer}")?;
            }
            let (queued, dropped) = (udp.queue.len(), udp.dropped);
            write!(out, ": {queued} datagrams queued, {dropped} dropped")?;
            let state = [
                (udp.paused, "paused"),
                (udp.readable, "has more to read"),
                (udp.stalled, "not writable"),
                (udp.refused, "drained is to be told"),
                (!udp.errors.is_empty(), "errors are to be told"),
            ];
            for (_, word) in state.iter().filter(|(holds, _)| *holds) {
                write!(out, ", {word}")?;
            }
            out.write_char('\n')?;
        }
        Ok(())
    }
}
