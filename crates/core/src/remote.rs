//! What other threads may do with a loop: post a word, stop it, wake it (promise 15).
//!
//! The rule: all that passes goes through one lock held for a few instructions, so what is posted
//! arrives exactly once and in order, and nothing can be posted to a loop that is gone. The waker
//! is used only when the loop has not been told already.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::sys::Waker;
use crate::{Error, ErrorKind};

/// A handle to a loop for other threads. Clone it freely.
#[derive(Clone)]
pub struct Remote {
    mailbox: Arc<Mailbox>,
}

impl Remote {
    pub(crate) fn new(mailbox: Arc<Mailbox>) -> Self {
        Self { mailbox }
    }

    /// Posts a word; the loop hands it out as [`Event::Posted`](crate::Event::Posted), exactly
    /// once, in the order of the posts. Words not handed out when the loop is dropped are dropped.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Closed`] once the loop is gone, [`ErrorKind::QueueFull`] when
    /// [`post_capacity`](crate::LoopOptions::post_capacity) words wait.
    pub fn post(&self, word: u64) -> Result<(), Error> {
        self.mailbox.put("post", |state| {
            if state.words.len() >= self.mailbox.capacity {
                return Err(Error::new("post", ErrorKind::QueueFull));
            }
            state.words.push_back(word);
            Ok(())
        })
    }

    /// Makes the loop hand out [`Event::Stop`](crate::Event::Stop). It is remembered, also when
    /// the loop does not run yet; several stops before the loop sees them are one.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Closed`] once the loop is gone.
    pub fn stop(&self) -> Result<(), Error> {
        self.mailbox.put("stop", |state| {
            state.stop = true;
            Ok(())
        })
    }

    /// Ends the loop's current or next wait, with no event.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Closed`] once the loop is gone.
    pub fn wake(&self) -> Result<(), Error> {
        self.mailbox.put("wake", |_| Ok(()))
    }
}

/// The side of the loop.
pub(crate) struct Mailbox {
    state: Mutex<State>,
    waker: Waker,
    capacity: usize,
}

#[derive(Default)]
struct State {
    words: VecDeque<u64>,
    stop: bool,
    closed: bool,
    /// The waker was used since the loop looked last.
    told: bool,
}

impl Mailbox {
    pub(crate) fn new(waker: Waker, capacity: usize) -> Self {
        Self {
            state: Mutex::default(),
            waker,
            capacity,
        }
    }

    /// Moves all words to `into` and answers whether a stop was asked for.
    pub(crate) fn take(&self, into: &mut VecDeque<u64>) -> bool {
        let mut state = self.lock();
        state.told = false;
        if into.is_empty() {
            std::mem::swap(into, &mut state.words);
        } else {
            into.append(&mut state.words);
        }
        std::mem::take(&mut state.stop)
    }

    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.words = VecDeque::new();
    }

    fn put(
        &self,
        operation: &'static str,
        change: impl FnOnce(&mut State) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut state = self.lock();
        if state.closed {
            return Err(Error::new(operation, ErrorKind::Closed));
        }
        change(&mut state)?;
        if !std::mem::replace(&mut state.told, true) {
            (self.waker)();
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under the lock can panic half way, so a poisoned one still holds a good value.
        self.state
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
