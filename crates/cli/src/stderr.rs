//! Standard error, as this program writes to it: nobody waits long for one who does not read.
//!
//! The rule: a text that finds no room for a second is dropped, and so are those after it, at once,
//! until there is room again. So a full pipe holds up neither a loop that logs nor the thread that
//! takes the second Ctrl-C. A pipe that is writable has room for `PIPE_BUF` bytes, pipe(7), so
//! no more than that is written at a time.

use std::fmt;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// How long the first text waits for room.
const PATIENCE: Duration = Duration::from_secs(1);
const PIPE_BUF: usize = 4096;

/// Writes to standard error; never fails.
pub(crate) struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        /// Whether somebody reads.
        static READ: Mutex<bool> = Mutex::new(true);
        let mut read = READ.lock().unwrap_or_else(PoisonError::into_inner);
        // Not through the standard library's handle, whose lock somebody may hold who waits.
        let stderr = io::stderr();
        let mut rest = bytes;
        while !rest.is_empty() {
            *read = has_room(&stderr, if *read { PATIENCE } else { Duration::ZERO });
            if !*read {
                break;
            }
            match rustix::io::write(&stderr, &rest[..rest.len().min(PIPE_BUF)]) {
                Ok(n) => rest = &rest[n..],
                Err(Errno::INTR) => {}
                Err(_) => break,
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes one line.
pub(crate) fn complain(line: fmt::Arguments<'_>) {
    // In one piece, so that others do not come between.
    let _ = Stderr.write_all(format!("{line}\n").as_bytes());
}

fn has_room(stderr: &io::Stderr, within: Duration) -> bool {
    let Ok(within) = Timespec::try_from(within) else {
        return false;
    };
    let mut fds = [PollFd::new(stderr, PollFlags::OUT)];
    // A signal is no reason to lose a text, nor is what poll(2) can't tell.
    poll(&mut fds, Some(&within)) != Ok(0)
}
