//! Standard input and output, read and written only as far as they are ready.
//!
//! The rule: O_NONBLOCK belongs to the open file, which is shared with the shell and whoever else
//! has it (fcntl(2)), so it is never set on what was inherited. A pipe or terminal is opened once
//! more where the system can do that (proc(5), `/proc/PID/fd`), and that is non-blocking. Where it
//! can't, what poll(2) calls ready is read once, or takes a small write: POSIX promises PIPE_BUF
//! bytes to a pipe. A regular file is always ready.

use std::io::{self, Stdin, Stdout};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use echoloop_server::{Error, EventLoop, Interest, WatchId, WatchMode};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use rustix::io::{Errno, read, write};

/// What is read at once.
const CHUNK: usize = 64 << 10;
/// What is written at once where a write might block: PIPE_BUF of Linux is 4,096, and POSIX has at
/// least 512.
const SMALL: usize = if cfg!(target_os = "linux") { 4096 } else { 512 };

/// Standard input.
pub(super) struct Input {
    file: File<Stdin>,
    buffer: Vec<u8>,
    watch: Option<WatchId>,
    held: bool,
    ended: bool,
}

/// What a read brought.
pub(super) enum Read {
    /// So many bytes, in [`Input::bytes`].
    Bytes(usize),
    /// Nothing yet.
    Nothing,
    /// The end.
    End,
}

/// Standard output.
pub(super) struct Output {
    file: File<Stdout>,
    watch: Option<WatchId>,
}

impl Input {
    pub(super) fn new() -> Self {
        Self {
            file: File::new(io::stdin(), OFlags::RDONLY),
            buffer: vec![0; CHUNK],
            watch: None,
            held: false,
            ended: false,
        }
    }

    /// Begins to watch it.
    pub(super) fn start(&mut self, el: &mut EventLoop) -> Result<(), Error> {
        let watch = el.watch(&self.file, Interest::READABLE, WatchMode::Level)?;
        self.watch = Some(watch);
        Ok(())
    }

    pub(super) fn is(&self, watch: WatchId) -> bool {
        self.watch == Some(watch)
    }

    /// Reads once; call it when it is ready.
    pub(super) fn read(&mut self) -> Result<Read, Errno> {
        if self.held {
            return Ok(Read::Nothing); // A hang-up is told to those who asked for nothing, too.
        }
        match read(&self.file, &mut self.buffer) {
            Ok(0) => Ok(Read::End),
            Ok(n) => Ok(Read::Bytes(n)),
            Err(Errno::INTR | Errno::AGAIN) => Ok(Read::Nothing),
            Err(e) => Err(e),
        }
    }

    pub(super) fn bytes(&self, n: usize) -> &[u8] {
        self.buffer.get(..n).unwrap_or_default()
    }

    /// Stops reading until [`go_on`](Self::go_on).
    pub(super) fn hold(&mut self, el: &mut EventLoop) -> Result<(), Error> {
        self.held = true;
        self.watch
            .map_or(Ok(()), |watch| el.modify_watch(watch, Interest::NONE))
    }

    pub(super) fn go_on(&mut self, el: &mut EventLoop) -> Result<(), Error> {
        self.held = false;
        self.watch
            .map_or(Ok(()), |watch| el.modify_watch(watch, Interest::READABLE))
    }

    /// It has ended.
    pub(super) fn finish(&mut self, el: &mut EventLoop) {
        self.ended = true;
        if let Some(watch) = self.watch.take() {
            // It is watched, so this does not fail.
            let _ = el.unwatch(watch);
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }
}

impl Output {
    pub(super) fn new() -> Self {
        Self {
            file: File::new(io::stdout(), OFlags::WRONLY),
            watch: None,
        }
    }

    pub(super) fn is(&self, watch: WatchId) -> bool {
        self.watch == Some(watch)
    }

    /// Writes what it takes now; answers how many bytes that were.
    pub(super) fn write_ready(&self, bytes: &[u8]) -> Result<usize, Errno> {
        let mut written = 0;
        while written < bytes.len() {
            let rest = &bytes[written..];
            let part = &rest[..rest.len().min(self.file.at_once)];
            if self.file.may_block && !self.poll(Some(&Timespec::default()))? {
                break;
            }
            match write(&self.file, part) {
                Ok(n) => written += n,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(e) => return Err(e),
            }
        }
        Ok(written)
    }

    /// Writes all, and waits for it.
    pub(super) fn write_all(&self, bytes: &[u8]) -> Result<(), Errno> {
        let mut written = self.write_ready(bytes)?;
        while written < bytes.len() {
            self.poll(None)?;
            written += self.write_ready(&bytes[written..])?;
        }
        Ok(())
    }

    /// Tells when it is ready.
    pub(super) fn wait(&mut self, el: &mut EventLoop) -> Result<(), Error> {
        if self.watch.is_none() {
            let watch = el.watch(&self.file, Interest::WRITABLE, WatchMode::Level)?;
            self.watch = Some(watch);
        }
        Ok(())
    }

    /// It need not tell: a reader that has gone is no news until there is something to write.
    pub(super) fn go_on(&mut self, el: &mut EventLoop) -> Result<(), Error> {
        self.watch.take().map_or(Ok(()), |watch| el.unwatch(watch))
    }

    /// Whether it takes something; waits for that at most so long.
    fn poll(&self, timeout: Option<&Timespec>) -> Result<bool, Errno> {
        match poll(&mut [PollFd::new(&self.file, PollFlags::OUT)], timeout) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::INTR) => Ok(false),
            Err(e) => Err(e),
        }
    }
}

/// A standard stream: inherited, or opened once more.
struct File<F> {
    own: Option<OwnedFd>,
    inherited: F,
    may_block: bool,
    /// How much to write at once.
    at_once: usize,
}

impl<F: AsFd> File<F> {
    fn new(inherited: F, access: OFlags) -> Self {
        let kind = fstat(&inherited).map(|stat| FileType::from_raw_mode(stat.st_mode));
        let again = matches!(kind, Ok(FileType::Fifo | FileType::CharacterDevice));
        let path = format!("/proc/self/fd/{}", inherited.as_fd().as_raw_fd());
        let flags = access | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let own = again.then(|| open(path, flags, Mode::empty()).ok());
        let own = own.flatten();
        let may_block = own.is_none() && kind != Ok(FileType::RegularFile);
        Self {
            own,
            inherited,
            may_block,
            at_once: if may_block { SMALL } else { CHUNK },
        }
    }
}

impl<F: AsFd> AsFd for File<F> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.own
            .as_ref()
            .map_or_else(|| self.inherited.as_fd(), AsFd::as_fd)
    }
}
