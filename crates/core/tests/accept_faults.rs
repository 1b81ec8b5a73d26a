//! A listener when what follows an accept fails, or when accepting itself fails for ever.
//!
//! On the real system, of which two calls are made to fail: `register` and `accept`.

use std::cell::Cell;
use std::io::{IoSlice, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use echoloop_core::sys::{Os, Ready, System, Waker};
use echoloop_core::{
    Addr, ConnectOptions, Event, EventLoop, ListenOptions, ListenerId, LoopOptions,
};
use rustix::io::Errno;

/// The deadline of every wait.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many calls are still to fail, and with what.
#[derive(Clone, Default)]
struct Faults {
    register: Rc<Cell<u32>>,
    accept: Rc<Cell<u32>>,
    accepts: Rc<Cell<u32>>,
}

struct Failing {
    os: Os,
    faults: Faults,
}

fn fails(left: &Cell<u32>) -> bool {
    let n = left.get();
    left.set(n.saturating_sub(1));
    n > 0
}

impl System for Failing {
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
        if fails(&self.faults.register) {
            return Err(Errno::NOSPC); // epoll(7): max_user_watches.
        }
        self.os.register(socket, token)
    }
    fn listen(&mut self, addr: &Addr, options: &ListenOptions) -> Result<OwnedFd, Errno> {
        self.os.listen(addr, options)
    }
    fn accept(&mut self, listener: &OwnedFd) -> Result<(OwnedFd, Addr), Errno> {
        self.faults.accepts.set(self.faults.accepts.get() + 1);
        if fails(&self.faults.accept) {
            return Err(Errno::PERM); // accept(2): firewall rules.
        }
        self.os.accept(listener)
    }
    fn connect(&mut self, addr: &Addr, options: &ConnectOptions) -> Result<OwnedFd, Errno> {
        self.os.connect(addr, options)
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
    fn close(&mut self, socket: OwnedFd) {
        self.os.close(socket);
    }
    fn abort(&mut self, socket: OwnedFd) {
        self.os.abort(socket);
    }
}

fn listening() -> (EventLoop<Failing>, ListenerId, Faults) {
    let faults = Faults::default();
    let system = Failing {
        os: Os::new(64).unwrap(),
        faults: faults.clone(),
    };
    let mut el = EventLoop::with_system(system, LoopOptions::default()).unwrap();
    let listener = el.listen("127.0.0.1:0", &ListenOptions::default()).unwrap();
    (el, listener, faults)
}

fn client(el: &EventLoop<Failing>, listener: ListenerId) -> TcpStream {
    let addr = el.listener_addr(listener).unwrap();
    let stream = TcpStream::connect(addr.ip().unwrap()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Turns the loop until an event that `wanted` likes has come; those before are told too.
fn until(el: &mut EventLoop<Failing>, wanted: impl Fn(&Event) -> bool) -> Vec<Event> {
    let (mut events, ends) = (Vec::new(), el.now() + PATIENCE);
    while !events.iter().any(&wanted) {
        assert!(el.now() < ends, "waited in vain, after {events:?}");
        el.poll(Some(PATIENCE)).unwrap();
        while let Some(event) = el.next_event() {
            if let Event::Data { conn } = event {
                el.conn(conn).unwrap().send_received(usize::MAX).unwrap();
            }
            events.push(event);
        }
    }
    events
}

#[test]
fn a_connection_that_cannot_be_registered_waits_until_it_can() {
    let (mut el, listener, faults) = listening();
    faults.register.set(3);
    let mut client = client(&el, listener);
    client.write_all(b"hello").unwrap();
    let events = until(&mut el, |event| matches!(event, Event::Data { .. }));
    let errno = Errno::NOSPC.raw_os_error();
    assert!(
        matches!(
            events[..],
            [
                Event::AcceptPaused { errno: e, .. },
                Event::AcceptResumed { .. },
                Event::Accepted { .. },
                Event::Data { .. }
            ] if e == errno
        ),
        "{events:?}"
    );
    el.poll(Some(Duration::ZERO)).unwrap();
    let mut back = [0; 5];
    client.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"hello");
    assert_eq!(el.counters().accepted, 1);
    assert_eq!(el.connection_count(), 1);
}

#[test]
fn a_listener_that_is_closed_resets_the_connection_that_waits_for_room() {
    let (mut el, listener, faults) = listening();
    faults.register.set(u32::MAX);
    let mut client = client(&el, listener);
    until(&mut el, |event| matches!(event, Event::AcceptPaused { .. }));
    el.close_listener(listener).unwrap();
    let ended = client.read(&mut [0]).unwrap_err();
    assert_eq!(ended.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(el.connection_count(), 0);
    assert_eq!(el.live_handles(), 0);
}

#[test]
fn an_accept_that_fails_for_ever_pauses_instead_of_keeping_the_loop_busy() {
    let (mut el, listener, faults) = listening();
    faults.accept.set(u32::MAX);
    let mut client = client(&el, listener);
    until(&mut el, |event| matches!(event, Event::AcceptPaused { .. }));
    let (before, began) = (faults.accepts.get(), el.now());
    while el.now() < began + Duration::from_millis(350) {
        el.poll(Some(PATIENCE)).unwrap();
        assert_eq!(el.next_event(), None);
    }
    let accepts = faults.accepts.get() - before;
    assert!(accepts <= 4 * 64, "{accepts} in 350 ms");

    faults.accept.set(0);
    client.write_all(b"hello").unwrap();
    until(&mut el, |event| matches!(event, Event::Data { .. }));
    el.poll(Some(Duration::ZERO)).unwrap();
    client.read_exact(&mut [0; 5]).unwrap();
}
