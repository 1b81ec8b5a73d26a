//! Sockets of the simulated network that change hands: between its loops, and through the test's.
//!
//! The rule: a socket that nobody has is stood for by a real descriptor, which says whose it is.
//! So it goes wherever descriptors go, and when the descriptor is closed, the socket is too, which
//! is noticed in the next `wait` of any loop. Listeners of one address share one backlog.

use std::cell::RefCell;
use std::io::Write;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use super::net::Net;
use super::{Sim, SimSocket};
use crate::Addr;

impl Sim {
    /// A descriptor of another socket that listens where this one does.
    pub(super) fn share_listener(&self, index: usize) -> Result<OwnedFd, Errno> {
        let addr = self.net.borrow().sockets[index].listener.clone();
        let other = self.net.borrow_mut().listen(&addr.ok_or(Errno::OPNOTSUPP)?);
        let fd = self.give_out(other);
        if fd.is_err() {
            self.net.borrow_mut().close(other);
        }
        fd
    }

    /// Takes a socket from its loop and makes a descriptor for it.
    pub(super) fn give_out(&self, index: usize) -> Result<OwnedFd, Errno> {
        let (mut ours, theirs) = UnixStream::pair().map_err(|e| errno(&e))?;
        ours.write_all(&self.mark(index)).map_err(|e| errno(&e))?;
        let socket = &mut self.net.borrow_mut().sockets[index];
        (socket.token, socket.in_hand) = (None, Some(ours));
        Ok(theirs.into())
    }

    /// The socket that a descriptor stands for.
    pub(super) fn in_hand(&self, fd: BorrowedFd<'_>) -> Result<usize, Errno> {
        let mut mark = [0; 16];
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let (n, _) = recv(fd, &mut mark, flags).map_err(|_| Errno::NOTSOCK)?;
        let sockets = &self.net.borrow().sockets;
        let mine = |index: &usize| sockets[*index].in_hand.is_some() && self.mark(*index) == mark;
        let index = (0..sockets.len()).find(mine);
        index.filter(|_| n == mark.len()).ok_or(Errno::NOTCONN)
    }

    /// Makes a socket that nobody has one of this loop's.
    pub(super) fn take_over(&self, index: usize) -> SimSocket {
        let socket = &mut self.net.borrow_mut().sockets[index];
        (socket.owner, socket.in_hand) = (self.host, None);
        (socket.read_armed, socket.write_armed) = (true, true);
        socket.told_end = false;
        self.socket(index)
    }

    /// What is written in a descriptor: the network, and the socket in it.
    fn mark(&self, index: usize) -> [u8; 16] {
        let network = Rc::as_ptr(&self.net) as usize;
        ((network as u128) << 64 | index as u128).to_le_bytes()
    }
}

impl Net {
    /// Opens a socket that listens, with the backlog of those that do so already.
    pub(super) fn listen(&mut self, addr: &Addr) -> usize {
        let same = |s: &&super::Socket| s.open && s.listener.as_ref() == Some(addr);
        let shared = self.sockets.iter().find(same);
        let shared = shared.and_then(|s| s.backlog.clone());
        let index = self.open();
        let socket = &mut self.sockets[index];
        socket.listener = Some(addr.clone());
        socket.backlog = Some(shared.unwrap_or_else(|| Rc::new(RefCell::default())));
        index
    }

    /// Closes the sockets whose descriptors were closed by whoever had them.
    pub(super) fn close_lost(&mut self) {
        for index in 0..self.sockets.len() {
            if let Some(other_end) = &self.sockets[index].in_hand
                && recv(other_end, &mut [0; 1], RecvFlags::DONTWAIT) != Err(Errno::AGAIN)
            {
                self.close(index);
            }
        }
    }
}

fn errno(e: &std::io::Error) -> Errno {
    Errno::from_io_error(e).unwrap_or(Errno::MFILE)
}
