//! How a loop ends: in order, by `shut_down`, or when it is dropped.
//!
//! The rule: what was sent is offered to the kernel once more, and what that takes it delivers. A
//! child of a fork sends and closes nothing that is its parent's.

use std::time::Duration;

use crate::event_loop::EventLoop;
use crate::handle;
use crate::sys::System;
use crate::{CloseReason, ListenerId};

impl<S: System> EventLoop<S> {
    /// Closes all listeners, and all connections as [`Connection::close`](crate::Connection::close)
    /// does, with the reason [`CloseReason::ShutDown`] and `deadline` instead of each one's close timeout.
    ///
    /// The loop goes on, and so do its timers, watches and UDP sockets: poll until
    /// [`connection_count`](Self::connection_count) is 0. It takes new work, too: a connection that
    /// comes later, even one [handed over](Self::hand_over) before whose `Adopted` was not told
    /// yet, is not closed by this. A program that stops closes it when it is told.
    pub fn shut_down(&mut self, deadline: Duration) {
        for slot in 0..self.listeners.end() {
            // A slot that is free has the key of nobody.
            let _ = self.close_listener(ListenerId(self.listeners.key(slot)));
        }
        for slot in 0..self.conns.end() {
            self.begin_close(slot, CloseReason::ShutDown, Some(deadline));
        }
    }

    /// Resets all connections, as [`Connection::abort`](crate::Connection::abort) does.
    pub fn abort_all(&mut self) {
        for slot in 0..self.conns.end() {
            self.abort(slot, CloseReason::AbortedHere);
        }
    }
}

impl<S: System> Drop for EventLoop<S> {
    fn drop(&mut self) {
        if self.sys.forked() {
            self.forget_turn(); // The parent sends it.
        }
        self.finish_handler();
        if !self.sys.forked() {
            self.flush_all();
            self.offer_udps();
        }
        self.mailbox.close();
        let last = self
            .conns
            .last_generation()
            .max(self.listeners.last_generation())
            .max(self.timers.last_generation())
            .max(self.watches.slots.last_generation())
            .max(self.lookups.last_generation())
            .max(self.attempts.last_generation())
            .max(self.udps.last_generation())
            .max(self.signals.slots.last_generation());
        handle::release_loop(self.id(), last);
    }
}
