//! What passes from other threads to a loop: words, a stop, a wake (promise 15).
//!
//! The rule: all of it goes through one lock held for a few instructions, so what is posted arrives
//! exactly once and in order, and nothing can be posted to a loop that is gone. The waker is used
//! only when the loop has not been told already, and under the lock: a loop that was told looks
//! again before it sleeps.
//!
//! This file knows threads by `crate::sync` alone, so `tests/remote_model.rs` runs this very text
//! through all orders of events under loom.

use std::collections::VecDeque;
use std::sync::TryLockError;
use std::sync::atomic::Ordering;

use crate::sync::{AtomicUsize, Mutex, MutexGuard};
use crate::sys::Waker;
use crate::{Error, ErrorKind};

pub(crate) struct Mailbox<T = u64> {
    state: Mutex<State<T>>,
    waker: Waker,
    capacity: usize,
    /// Words that the loop has taken and not handed out yet: they count too.
    taken: AtomicUsize,
}

struct State<T> {
    words: VecDeque<T>,
    stop: bool,
    closed: bool,
    /// The waker was used since the loop looked last.
    told: bool,
}

impl<T> Mailbox<T> {
    pub(crate) fn new(waker: Waker, capacity: usize) -> Self {
        Self {
            state: Mutex::new(State {
                words: VecDeque::new(),
                stop: false,
                closed: false,
                told: false,
            }),
            waker,
            capacity,
            taken: AtomicUsize::new(0),
        }
    }

    /// Any thread: leaves a word.
    pub(crate) fn post(&self, word: T) -> Result<(), Error> {
        self.deliver("post", || Ok(word))
    }

    /// Any thread: leaves what `make` makes, which is asked only when it will be taken.
    pub(crate) fn deliver(
        &self,
        operation: &'static str,
        make: impl FnOnce() -> Result<T, Error>,
    ) -> Result<(), Error> {
        self.put(operation, |state| {
            let waiting = state.words.len() + self.taken.load(Ordering::Relaxed);
            if waiting >= self.capacity {
                return Err(Error::new(operation, ErrorKind::QueueFull));
            }
            if state.words.try_reserve(1).is_err() {
                return Err(Error::new(operation, ErrorKind::OutOfMemory));
            }
            state.words.push_back(make()?);
            Ok(())
        })
    }

    /// Any thread: asks for a stop.
    pub(crate) fn stop(&self) -> Result<(), Error> {
        self.put("stop", |state| {
            state.stop = true;
            Ok(())
        })
    }

    /// Any thread: only wakes.
    pub(crate) fn wake(&self) -> Result<(), Error> {
        self.put("wake", |_| Ok(()))
    }

    /// The loop, after each report of the waker: moves all words to `into` and answers whether a
    /// stop was asked for.
    pub(crate) fn take(&self, into: &mut VecDeque<T>) -> bool {
        let mut state = self.lock();
        state.told = false;
        if into.is_empty() {
            std::mem::swap(into, &mut state.words);
        } else if into.try_reserve(state.words.len()).is_ok() {
            into.append(&mut state.words);
        } else {
            state.told = true;
            (self.waker)(); // They come once those before them are handed out.
        }
        self.still_waits(into.len());
        std::mem::take(&mut state.stop)
    }

    /// The loop: so many of the words that it has taken are not handed out yet.
    pub(crate) fn still_waits(&self, words: usize) {
        self.taken.store(words, Ordering::Relaxed);
    }

    /// The loop, at its end: from now on everything is refused.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let words = std::mem::take(&mut state.words);
        drop(state);
        drop(words); // May close sockets, which is no matter for under the lock.
    }

    /// The lock, for who forks; `None` while another thread has it.
    pub(crate) fn try_hold(&self) -> Option<impl Sized + '_> {
        match self.state.try_lock() {
            Ok(held) => Some(held),
            Err(TryLockError::Poisoned(held)) => Some(held.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    fn put(
        &self,
        operation: &'static str,
        change: impl FnOnce(&mut State<T>) -> Result<(), Error>,
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

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Nothing under the lock can panic half way, so a poisoned one still holds a good value.
        self.state
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
