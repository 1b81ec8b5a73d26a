//! A server with real clients: it runs on a thread of its own and tells what its hooks are told.
#![allow(dead_code)] // Not every test needs all of it.

pub(crate) mod team;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use echoloop_server::{
    CloseReason, ConnId, Context, Echo, Error, Hooks, ListenerId, Refusal, Remote, Report,
    ServerBuilder, ServerCounters,
};
use socket2::{Domain, Socket, Type};

/// No test waits longer than this for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A server on a thread of its own; dropping it stops it.
pub(crate) struct Running {
    pub(crate) addr: SocketAddr,
    pub(crate) remote: Remote,
    pub(crate) told: Receiver<Told>,
    pub(crate) thread: Option<JoinHandle<(Report, ServerCounters)>>,
}

/// What the hooks were told.
#[derive(PartialEq, Debug)]
pub(crate) enum Told {
    Open,
    Data,
    Drained,
    EndOfStream,
    Close(CloseReason),
    Tick,
    Refused(SocketAddr, Refusal),
    Post(u64),
}

/// Echoes, and tells the test about it.
pub(crate) struct Telling(pub(crate) Sender<Told>);

impl Telling {
    fn tell(&self, told: Told) {
        // The test may have heard enough.
        let _ = self.0.send(told);
    }
}

impl Hooks for Telling {
    fn on_open(&mut self, _: &mut Context<'_>, _: ConnId, listener: Option<ListenerId>) {
        assert!(listener.is_some());
        self.tell(Told::Open);
    }
    fn on_data(&mut self, cx: &mut Context<'_>, conn: ConnId) {
        Echo.on_data(cx, conn);
        self.tell(Told::Data);
    }
    fn on_drained(&mut self, cx: &mut Context<'_>, conn: ConnId) {
        Echo.on_drained(cx, conn);
        self.tell(Told::Drained);
    }
    fn on_end_of_stream(&mut self, _: &mut Context<'_>, _: ConnId) {
        self.tell(Told::EndOfStream);
    }
    fn on_close(&mut self, _: &mut Context<'_>, _: ConnId, reason: CloseReason, _: u64) {
        self.tell(Told::Close(reason));
    }
    fn on_tick(&mut self, _: &mut Context<'_>) {
        self.tell(Told::Tick);
    }
    fn on_refused(&mut self, cx: &mut Context<'_>, conn: ConnId, why: Refusal) {
        let peer = cx.conn(conn).unwrap().peer_addr().ip().unwrap();
        self.tell(Told::Refused(peer, why));
    }
    fn on_post(&mut self, cx: &mut Context<'_>, word: u64) {
        self.tell(Told::Post(word));
        match word {
            0 => cx.drain(),
            1 => cx.drain_with_grace(PATIENCE),
            _ => {}
        }
    }
    fn on_error(&mut self, _: &mut Context<'_>, error: Error) {
        panic!("{error}");
    }
}

impl Running {
    pub(crate) fn start(builder: ServerBuilder) -> Self {
        let (tell, told) = channel();
        let (ready, made) = channel();
        let builder = builder.listen("127.0.0.1:0");
        let thread = thread::spawn(move || {
            let mut server = builder.build().unwrap();
            ready
                .send((server.local_addrs()[0].ip().unwrap(), server.remote()))
                .unwrap();
            let report = server.run(&mut Telling(tell)).unwrap();
            (report, server.counters())
        });
        let (addr, remote) = made.recv_timeout(PATIENCE).unwrap();
        Self {
            addr,
            remote,
            told,
            thread: Some(thread),
        }
    }

    pub(crate) fn client(&self) -> TcpStream {
        let client = TcpStream::connect(self.addr).unwrap();
        patient(client)
    }

    /// A client that comes from this address.
    pub(crate) fn client_from(&self, source: &str) -> TcpStream {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let source: SocketAddr = format!("{source}:0").parse().unwrap();
        socket.bind(&source.into()).unwrap();
        socket.connect(&self.addr.into()).unwrap();
        patient(socket.into())
    }
    pub(crate) fn hear(&self) -> Told {
        self.told
            .recv_timeout(PATIENCE)
            .expect("the server says something")
    }

    pub(crate) fn stop(mut self) -> (Report, ServerCounters) {
        let _ = self.remote.stop(); // Its drain may have ended already.
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = self.remote.stop();
            let _ = self.remote.stop();
            let _ = thread.join();
        }
    }
}

pub(crate) fn patient(client: TcpStream) -> TcpStream {
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.set_write_timeout(Some(PATIENCE)).unwrap();
    client
}

/// One message there and back.
pub(crate) fn echoes(client: &mut (impl Read + Write), message: &[u8]) {
    client.write_all(message).unwrap();
    let mut back = vec![0; message.len()];
    client.read_exact(&mut back).unwrap();
    assert_eq!(back, message);
}

/// The server has reset this client.
pub(crate) fn was_reset(client: &mut TcpStream) {
    let end = client.read(&mut [0]).unwrap_err();
    assert_eq!(end.kind(), ErrorKind::ConnectionReset);
}
