//! What other threads may do with a loop: post a word, stop it, wake it (promise 15).
//!
//! The rule: a [`Remote`] is the only thing of a loop that another thread may use. This is its
//! public face; what it promises is kept in `mailbox`.

pub(crate) mod letter;
pub(crate) mod mailbox;

use std::sync::Arc;

use crate::Error;
use crate::remote::letter::Letter;
use crate::remote::mailbox::Mailbox;

/// A handle to a loop for other threads. Clone it freely.
#[derive(Clone)]
pub struct Remote {
    mailbox: Arc<Mailbox<Letter>>,
}

impl Remote {
    pub(crate) fn new(mailbox: Arc<Mailbox<Letter>>) -> Self {
        Self { mailbox }
    }

    /// Posts a word; the loop hands it out as [`Event::Posted`](crate::Event::Posted), exactly
    /// once, in the order of the posts. Words not handed out when the loop is dropped are dropped.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Closed`](crate::ErrorKind::Closed) once the loop is gone,
    /// [`ErrorKind::QueueFull`](crate::ErrorKind::QueueFull) when
    /// [`post_capacity`](crate::LoopOptions::post_capacity) words wait.
    pub fn post(&self, word: u64) -> Result<(), Error> {
        self.mailbox.post(Letter::Word(word))
    }

    /// Leaves a letter; `make` is asked for it only when it will be taken.
    pub(crate) fn deliver(
        &self,
        operation: &'static str,
        make: impl FnOnce() -> Result<Letter, Error>,
    ) -> Result<(), Error> {
        self.mailbox.deliver(operation, make)
    }

    /// Makes the loop hand out [`Event::Stop`](crate::Event::Stop). It is remembered, also when
    /// the loop does not run yet; several stops before the loop sees them are one.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Closed`](crate::ErrorKind::Closed) once the loop is gone.
    pub fn stop(&self) -> Result<(), Error> {
        self.mailbox.stop()
    }

    /// Ends the loop's current or next wait, with no event.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Closed`](crate::ErrorKind::Closed) once the loop is gone.
    pub fn wake(&self) -> Result<(), Error> {
        self.mailbox.wake()
    }

    /// What a post locks, for who forks; `None` while another thread has it.
    #[doc(hidden)]
    #[must_use]
    pub fn try_hold(&self) -> Option<impl Sized + '_> {
        self.mailbox.try_hold()
    }
}
