//! Workers with real clients: their hooks echo and tell the test who was told what.

use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use echoloop_server::{
    CloseReason, ConnId, Context, Echo, Error, Hooks, ListenerId, Refusal, ServerBuilder, Spread,
    UdpId, Workers,
};

use super::{PATIENCE, patient};

/// Workers, and what their hooks tell.
pub(crate) struct Team {
    pub(crate) workers: Workers,
    pub(crate) told: Receiver<Told>,
}

/// What the hooks of a worker were told: its number is the first of each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Told {
    Made(usize),
    /// And whether it was accepted by this worker's own listener.
    Open(usize, bool),
    Close(usize, CloseReason),
    Refused(usize),
    Post(usize, u64),
    Datagrams(usize),
}

struct Desk {
    worker: usize,
    tell: Sender<Told>,
    /// A word 7 makes the worker wait until something comes.
    gate: Arc<Mutex<Receiver<()>>>,
}

impl Team {
    /// Two or more workers on a port of their own; a message "boom" is one that they die of.
    pub(crate) fn start(builder: ServerBuilder, n: usize, spread: Spread) -> (Self, Sender<()>) {
        Self::try_start(builder.listen("127.0.0.1:0"), n, spread).unwrap()
    }

    pub(crate) fn try_start(
        builder: ServerBuilder,
        n: usize,
        spread: Spread,
    ) -> Result<(Self, Sender<()>), Error> {
        let (tell, told) = channel();
        let (open, gate) = channel();
        let gate = Arc::new(Mutex::new(gate));
        let workers = builder.start_workers(n, spread, move |worker| {
            let _ = tell.send(Told::Made(worker));
            let (tell, gate) = (tell.clone(), gate.clone());
            Desk { worker, tell, gate }
        })?;
        Ok((Self { workers, told }, open))
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.workers.local_addrs()[0].ip().unwrap()
    }

    pub(crate) fn client(&self) -> TcpStream {
        patient(TcpStream::connect(self.addr()).unwrap())
    }

    /// Clients that have had a message back, so each is counted by its worker.
    pub(crate) fn served(&self, n: usize) -> Vec<TcpStream> {
        let mut clients: Vec<TcpStream> = (0..n).map(|_| self.client()).collect();
        for client in &mut clients {
            super::echoes(client, b"hello");
        }
        clients
    }

    /// Waits until so many of what is told are of this kind; answers them.
    pub(crate) fn hear(&self, n: usize, wanted: impl Fn(&Told) -> bool) -> Vec<Told> {
        let mut heard = Vec::new();
        while heard.len() < n {
            let told = self.told.recv_timeout(PATIENCE);
            heard.extend(Some(told.expect("a worker says something")).filter(&wanted));
        }
        heard
    }

    pub(crate) fn open(&self) -> Vec<usize> {
        let loads = self.workers.per_worker();
        loads.iter().map(|load| load.open).collect()
    }

    /// Clients of which nobody but the acceptor knows yet, perhaps.
    pub(crate) fn accepted_clients(&self, n: usize) -> Vec<TcpStream> {
        let before: u64 = self.accepted().iter().sum();
        let clients = (0..n).map(|_| self.client()).collect();
        let start = Instant::now();
        while self.accepted().iter().sum::<u64>() < before + n as u64 {
            assert!(start.elapsed() < PATIENCE);
            thread::yield_now();
        }
        clients
    }

    pub(crate) fn accepted(&self) -> Vec<u64> {
        let loads = self.workers.per_worker();
        loads.iter().map(|load| load.accepted).collect()
    }
}

impl Desk {
    fn tell(&self, told: Told) {
        // The test may have heard enough.
        let _ = self.tell.send(told);
    }
}

impl Hooks for Desk {
    fn on_open(&mut self, cx: &mut Context<'_>, conn: ConnId, listener: Option<ListenerId>) {
        assert_eq!(cx.conn(conn).unwrap().user_data(), 0);
        self.tell(Told::Open(self.worker, listener.is_some()));
    }
    fn on_data(&mut self, cx: &mut Context<'_>, conn: ConnId) {
        let boom = cx.conn(conn).is_ok_and(|conn| conn.received() == b"boom");
        assert!(!boom, "worker {} goes boom", self.worker);
        Echo.on_data(cx, conn);
    }
    fn on_drained(&mut self, cx: &mut Context<'_>, conn: ConnId) {
        Echo.on_drained(cx, conn);
    }
    fn on_close(&mut self, _: &mut Context<'_>, _: ConnId, reason: CloseReason, _: u64) {
        self.tell(Told::Close(self.worker, reason));
    }
    fn on_refused(&mut self, _: &mut Context<'_>, _: ConnId, _: Refusal) {
        self.tell(Told::Refused(self.worker));
    }
    fn on_post(&mut self, cx: &mut Context<'_>, word: u64) {
        self.tell(Told::Post(self.worker, word));
        match word {
            0 => cx.drain(),
            1 => cx.drain_with_grace(10 * PATIENCE),
            7 => drop(self.gate.lock().unwrap().recv_timeout(PATIENCE)),
            _ => {}
        }
    }
    fn on_datagrams(&mut self, cx: &mut Context<'_>, udp: UdpId) {
        Echo.on_datagrams(cx, udp);
        self.tell(Told::Datagrams(self.worker));
    }
    fn on_error(&mut self, _: &mut Context<'_>, error: Error) {
        panic!("{error}");
    }
}
