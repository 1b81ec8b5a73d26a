//! Signals of the real system: signal-hook's handler, a flag for each number and one socket pair.
//!
//! The rule: the handler sets the flag and then writes a byte; the loop reads all bytes and then
//! takes the flags. So a signal that comes between the two is told next time, and none is lost; a
//! burst is told once. Nothing is made, and no disposition is touched, before a signal is watched.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use signal_hook::SigId;
use signal_hook::consts::FORBIDDEN;
use signal_hook::low_level::{pipe, unregister};

/// Dropping it ends all that was watched.
pub(super) struct Signals {
    /// Before the pair, since members are dropped in order: a handler that writes to a pair without a reader raises
    /// SIGPIPE.
    watched: Vec<Watched>,
    reader: UnixStream,
    writer: UnixStream,
}

struct Watched {
    number: i32,
    arrived: Arc<AtomicBool>,
    actions: [SigId; 2],
}

impl Signals {
    pub(super) fn new(registry: &Registry) -> io::Result<Self> {
        let (reader, writer) = UnixStream::pair()?;
        reader.set_nonblocking(true)?;
        writer.set_nonblocking(true)?;
        let token = Token(crate::sys::SIGNALS as usize);
        registry.register(
            &mut SourceFd(&reader.as_raw_fd()),
            token,
            Interest::READABLE,
        )?;
        Ok(Self {
            watched: Vec::new(),
            reader,
            writer,
        })
    }

    /// The descriptor that is registered.
    pub(super) fn number(&self) -> RawFd {
        self.reader.as_raw_fd()
    }

    /// Whether signal-hook takes the number: it panics where it does not.
    pub(super) fn is_allowed(number: i32) -> bool {
        !FORBIDDEN.contains(&number)
    }

    pub(super) fn watch(&mut self, number: i32) -> io::Result<()> {
        let arrived = Arc::new(AtomicBool::new(false));
        let writer = self.writer.try_clone()?;
        let flag = signal_hook::flag::register(number, Arc::clone(&arrived))?;
        let wake = match pipe::register(number, writer) {
            Ok(wake) => wake,
            Err(e) => {
                unregister(flag);
                return Err(e);
            }
        };
        self.watched.push(Watched {
            number,
            arrived,
            actions: [flag, wake],
        });
        Ok(())
    }

    pub(super) fn unwatch(&mut self, number: i32) {
        self.watched.retain(|w| w.number != number);
    }

    /// Adds the numbers of those that came since this was asked last.
    pub(super) fn take(&mut self, into: &mut Vec<i32>) {
        let mut bytes = [0; 64];
        loop {
            match rustix::net::recv(&self.reader, &mut bytes, RecvFlags::DONTWAIT) {
                Ok((0, _)) => break,
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => break,
            }
        }
        let came = |w: &&Watched| w.arrived.swap(false, Ordering::SeqCst);
        into.extend(self.watched.iter().filter(came).map(|w| w.number));
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        for action in self.actions {
            unregister(action);
        }
    }
}
