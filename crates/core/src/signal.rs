//! Signals as events.
//!
//! The rule: the handler that runs at the moment of a signal only sets a flag and wakes the loop, so
//! none of the program's code runs there. Each loop, and each watch of one number, is told; a burst
//! is told once. The disposition of a signal is changed by the first watch of it and by nothing else.

use std::collections::VecDeque;

use rustix::io::Errno;

use crate::event_loop::EventLoop;
use crate::handle::{Kind, LoopId, slot_of};
use crate::room::queue_room;
use crate::slots::Slots;
use crate::sys::System;
use crate::{Error, ErrorKind, Event, SignalId};

pub(crate) struct Signals {
    pub(crate) slots: Slots<Watch>,
    /// Keys of those to be told.
    line: VecDeque<u64>,
    /// Numbers that came, for as long as it takes to look at them.
    came: Vec<i32>,
}

pub(crate) struct Watch {
    pub(crate) number: i32,
    in_line: bool,
}

impl Signals {
    pub(crate) fn new(id: LoopId) -> Self {
        Self {
            slots: Slots::new(Kind::Signal, id),
            line: VecDeque::new(),
            came: Vec::new(),
        }
    }

    pub(crate) fn has_work(&self) -> bool {
        !self.line.is_empty()
    }

    /// All that are watched, each once.
    pub(crate) fn numbers(&self) -> Vec<i32> {
        let slots = self.slots.keys().map(slot_of);
        let watches = slots.filter_map(|slot| self.slots.get(slot));
        let mut numbers: Vec<i32> = watches.map(|w| w.number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }

    fn is_watched(&self, number: i32) -> bool {
        let mut slots = self.slots.keys().map(slot_of);
        slots.any(|slot| self.slots.get(slot).is_some_and(|w| w.number == number))
    }
}

impl<S: System> EventLoop<S> {
    /// Makes a signal an event: from now on each arrival is told by [`Event::Signal`], several in
    /// a row once. Any loop of the process, and any number of watches, may ask for one signal; each
    /// is told, whichever thread the signal reaches.
    ///
    /// The first watch of a signal in the process installs a handler (signal-hook's, with
    /// SA_RESTART); a handler that the program had before is called too. The default action is
    /// gone from then on, **also after the last [`unwatch_signal`](Self::unwatch_signal)**: then
    /// the signal does nothing. A signal that is blocked in all threads does not arrive.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] for a number that is no signal, or SIGKILL, SIGSTOP, SIGILL,
    /// SIGFPE or SIGSEGV; `EMFILE`, `ENFILE`, `ENOMEM`.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use echoloop_core::{Event, EventLoop, LoopOptions};
    ///
    /// let mut el = EventLoop::new(LoopOptions::default())?;
    /// let terminate = el.watch_signal(15)?;
    /// el.poll(None)?;
    /// while let Some(event) = el.next_event() {
    ///     if let Event::Signal { signal, number } = event {
    ///         println!("{signal:?} tells of signal {number}");
    ///     }
    /// }
    /// el.unwatch_signal(terminate)?;
    /// # Ok::<(), echoloop_core::Error>(())
    /// ```
    pub fn watch_signal(&mut self, number: i32) -> Result<SignalId, Error> {
        self.check_new("watch signal")?;
        let all = self.signals.slots.end() as usize + 1;
        queue_room(&mut self.signals.line, all)?;
        let watch = Watch {
            number,
            in_line: false,
        };
        let first = !self.signals.is_watched(number);
        let key = self.signals.slots.insert(watch)?;
        if first && let Err(e) = self.sys.watch_signal(number) {
            self.signals.slots.remove(slot_of(key));
            return Err(match e {
                Errno::INVAL => {
                    let what = "no signal, or one that can't be watched";
                    Error::new("watch signal", ErrorKind::InvalidInput(what))
                }
                e => Error::os("watch signal", e),
            });
        }
        Ok(SignalId(key))
    }

    /// Ends a watch; nothing more is told of it. The last one does not bring the default action
    /// back, see [`watch_signal`](Self::watch_signal).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BadHandle`].
    pub fn unwatch_signal(&mut self, id: SignalId) -> Result<(), Error> {
        let Some(slot) = self.signals.slots.find(id.0) else {
            return Err(Error::new("unwatch signal", ErrorKind::BadHandle));
        };
        if let Some(watch) = self.signals.slots.remove(slot) {
            self.signals.line.retain(|key| *key != id.0);
            if !self.signals.is_watched(watch.number) {
                self.sys.unwatch_signal(watch.number);
            }
        }
        Ok(())
    }

    /// The system reported that signals came.
    pub(crate) fn signals_came(&mut self) {
        let signals = &mut self.signals;
        signals.came.clear();
        self.sys.take_signals(&mut signals.came);
        let keys: Vec<u64> = signals.slots.keys().collect();
        for key in keys {
            if let Some((_, watch)) = signals.slots.find_mut(key)
                && signals.came.contains(&watch.number)
                && !std::mem::replace(&mut watch.in_line, true)
            {
                signals.line.push_back(key);
            }
        }
    }

    pub(crate) fn next_signal(&mut self) -> Option<Event> {
        let key = self.signals.line.pop_front()?;
        let (_, watch) = self.signals.slots.find_mut(key)?;
        watch.in_line = false;
        Some(Event::Signal {
            signal: SignalId(key),
            number: watch.number,
        })
    }
}
