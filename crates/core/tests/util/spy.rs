//! The real system with a look at the sockets that a loop makes.

use std::cell::RefCell;
use std::io::IoSlice;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use echoloop_core::sys::{Credentials, Os, Ready, SocketOption, System, Waker};
use echoloop_core::{Addr, ConnOptions, ConnectOptions, EventLoop, ListenOptions, LoopOptions};
use rustix::io::Errno;

/// The real system; keeps a duplicate of each socket it makes, for a look at its options.
pub(crate) struct Spy {
    os: Os,
    seen: Rc<RefCell<Seen>>,
}

#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) listeners: Vec<OwnedFd>,
    pub(crate) accepted: Vec<OwnedFd>,
    pub(crate) connected: Vec<OwnedFd>,
    /// Calls that set options after a socket was made.
    pub(crate) tuned: usize,
}

pub(crate) fn spying() -> (EventLoop<Spy>, Rc<RefCell<Seen>>) {
    let seen = Rc::new(RefCell::new(Seen::default()));
    let system = Spy {
        os: Os::new(64).unwrap(),
        seen: Rc::clone(&seen),
    };
    let el = EventLoop::with_system(system, LoopOptions::default()).unwrap();
    (el, seen)
}

impl System for Spy {
    type Socket = OwnedFd;

    fn now(&self) -> u64 {
        self.os.now()
    }
    fn wait(&mut self, timeout: Option<Duration>, ready: &mut Vec<Ready>) -> Result<(), Errno> {
        self.os.wait(timeout, ready)
    }
    fn waker(&self) -> Waker {
        self.os.waker()
    }
    fn register(&mut self, socket: &OwnedFd, token: u64) -> Result<(), Errno> {
        self.os.register(socket, token)
    }
    fn listen(&mut self, addr: &Addr, options: &ListenOptions) -> Result<OwnedFd, Errno> {
        let socket = self.os.listen(addr, options)?;
        let seen = &mut *self.seen.borrow_mut();
        seen.listeners.push(socket.try_clone().unwrap());
        Ok(socket)
    }
    fn accept(&mut self, listener: &OwnedFd) -> Result<(OwnedFd, Addr), Errno> {
        let (socket, addr) = self.os.accept(listener)?;
        let seen = &mut *self.seen.borrow_mut();
        seen.accepted.push(socket.try_clone().unwrap());
        Ok((socket, addr))
    }
    fn connect(&mut self, addr: &Addr, options: &ConnectOptions) -> Result<OwnedFd, Errno> {
        let socket = self.os.connect(addr, options)?;
        let seen = &mut *self.seen.borrow_mut();
        seen.connected.push(socket.try_clone().unwrap());
        Ok(socket)
    }
    fn take_error(&mut self, socket: &OwnedFd) -> Option<Errno> {
        self.os.take_error(socket)
    }
    fn local_addr(&self, socket: &OwnedFd) -> Result<Addr, Errno> {
        self.os.local_addr(socket)
    }
    fn recv(&mut self, socket: &OwnedFd, buf: &mut [u8]) -> Result<usize, Errno> {
        self.os.recv(socket, buf)
    }
    fn send(&mut self, socket: &OwnedFd, bufs: &[IoSlice<'_>]) -> Result<usize, Errno> {
        self.os.send(socket, bufs)
    }
    fn shutdown_write(&mut self, socket: &OwnedFd) -> Result<(), Errno> {
        self.os.shutdown_write(socket)
    }
    fn tune(&mut self, socket: &OwnedFd, options: &ConnOptions) -> Result<(), Errno> {
        self.seen.borrow_mut().tuned += 1;
        self.os.tune(socket, options)
    }
    fn set(&mut self, socket: &OwnedFd, option: SocketOption) -> Result<(), Errno> {
        self.seen.borrow_mut().tuned += 1;
        self.os.set(socket, option)
    }
    fn refused_option(&mut self) -> Option<&'static str> {
        self.os.refused_option()
    }
    fn unlisten(&mut self, listener: OwnedFd) {
        self.os.unlisten(listener);
    }
    fn peer_credentials(&self, socket: &OwnedFd) -> Result<Credentials, Errno> {
        self.os.peer_credentials(socket)
    }
    fn close(&mut self, socket: OwnedFd) {
        self.os.close(socket);
    }
    fn abort(&mut self, socket: OwnedFd) {
        self.os.abort(socket);
    }
}
