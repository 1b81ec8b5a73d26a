//! Batches, as the C ABI has them: many connections are read before anything is done about the first, and
//! what they have brought is sent from where it is. On a system that cuts every read and write into
//! random pieces: whatever is sent in whatever way comes in order, and all of it.
//!
//! The seed of a failure is printed; run it alone with `ECHOLOOP_SEED=n`. `ECHOLOOP_SEEDS=n` runs
//! more of them.

mod util;

use std::collections::VecDeque;
use std::time::Duration;

use echoloop_core::sys::{Peer, Sim, SimOptions};
use echoloop_core::{
    CloseReason, ConnId, ConnOptions, Event, EventLoop, ListenOptions, LoopOptions,
};
use util::{Random, seeds};

const ADDR: &str = "10.0.0.2:7";

/// Bytes that a batch has handed out, and that are not sent on yet.
struct Piece {
    conn: ConnId,
    address: usize,
    bytes: Vec<u8>,
}

/// What a batch has brought.
#[derive(Default)]
struct Batch {
    pieces: VecDeque<Piece>,
    closed: Vec<(ConnId, CloseReason, u64)>,
    /// Told its end of stream, so it takes nothing more after this batch.
    ended: Option<ConnId>,
    full: bool,
}

fn new_loop(options: SimOptions, conn: &ConnOptions) -> (Sim, EventLoop<Sim>) {
    // Half of them time every handler, which takes every event the long way.
    let el_options = LoopOptions {
        slow_handler: options.seed.is_multiple_of(2).then_some(Duration::MAX),
        ..LoopOptions::default()
    };
    let sim = Sim::new(options);
    let mut el = EventLoop::with_system(sim.clone(), el_options).unwrap();
    let listen = ListenOptions {
        conn: conn.clone(),
        ..ListenOptions::default()
    };
    el.listen(ADDR, &listen).unwrap();
    (sim, el)
}

/// Collects a batch of at most `capacity` events, as the C ABI does.
fn collect(el: &mut EventLoop<Sim>, capacity: u64) -> Batch {
    let mut batch = Batch::default();
    el.begin_batch();
    for _ in 0..capacity {
        if let Some((conn, _, data)) = el.next_data_of_batch() {
            let (address, bytes) = (data.as_ptr().addr(), data.to_vec());
            batch.pieces.push_back(Piece {
                conn,
                address,
                bytes,
            });
            continue;
        }
        if !el.batch_goes_on() {
            break;
        }
        match el.next_event() {
            None => return batch,
            Some(Event::Data { conn }) => {
                if let Some(data) = el.take_for_batch().or_else(|| panic!("none is so large")) {
                    let (address, bytes) = (data.as_ptr().addr(), data.to_vec());
                    batch.pieces.push_back(Piece {
                        conn,
                        address,
                        bytes,
                    });
                }
            }
            Some(Event::EndOfStream { conn }) => {
                let mut view = el.conn(conn).unwrap();
                let (address, bytes) = (0, view.received().to_vec());
                view.consume(usize::MAX);
                batch.ended = Some(conn);
                if !bytes.is_empty() {
                    batch.pieces.push_back(Piece {
                        conn,
                        address,
                        bytes,
                    });
                }
                break;
            }
            Some(Event::Closed {
                conn,
                reason,
                unsent,
            }) => {
                batch.closed.push((conn, reason, unsent));
                break;
            }
            Some(_) => {}
        }
    }
    batch.full = true;
    batch
}

impl Piece {
    /// Sends the first `n` bytes, in place or not, and returns whether it was in place.
    fn send(&mut self, el: &mut EventLoop<Sim>, n: usize, in_place: bool) -> bool {
        let queued = el.conn(self.conn).unwrap().queued();
        let sent = in_place && el.send_of_batch(self.conn, self.address, n);
        if !sent {
            el.send(self.conn, &self.bytes[..n]).unwrap();
        }
        let now = el.conn(self.conn).unwrap().queued();
        assert!(!sent || now == queued + n, "{queued} and {n} make {now}");
        self.bytes.drain(..n);
        self.address += n;
        sent
    }

    fn put_back(&self, el: &mut EventLoop<Sim>) {
        el.conn(self.conn).unwrap().put_back(&self.bytes).unwrap();
    }
}

/// Echoes what a batch has brought, in pieces, in any order but that of a connection. Returns how many
/// sends were taken in place.
fn echo(el: &mut EventLoop<Sim>, batch: Batch, random: &mut Random) -> u64 {
    let (mut pieces, ended) = (batch.pieces, batch.ended);
    let mut in_place = 0;
    while !pieces.is_empty() {
        let first = random.below(pieces.len() as u64) as usize;
        let conn = pieces[first].conn;
        let first = pieces.iter().position(|p| p.conn == conn).unwrap();
        let piece = &mut pieces[first];
        let n = match random.below(3) {
            0 => 1 + random.below(piece.bytes.len() as u64) as usize,
            _ => piece.bytes.len(),
        };
        match random.below(16) {
            0 => drop(piece.send(el, n, false)),
            1 => drop(el.conn(conn).unwrap().flush()),
            2 if ended != Some(conn) => {
                // The rest of the connection's, for another batch.
                while let Some(last) = pieces.iter().rposition(|p| p.conn == conn) {
                    pieces.remove(last).unwrap().put_back(el);
                }
                continue;
            }
            _ => in_place += u64::from(piece.send(el, n, true)),
        }
        if pieces[first].bytes.is_empty() {
            pieces.remove(first);
        }
    }
    in_place
}

#[test]
fn what_a_batch_brings_comes_back_in_order_however_it_is_sent() {
    let mut in_place = 0;
    for seed in seeds(500) {
        let mut random = Random::new(seed);
        let conn = ConnOptions {
            high_mark: 2000,
            low_mark: 500,
            ..ConnOptions::default()
        };
        let (sim, mut el) = new_loop(SimOptions::unkind(seed), &conn);
        let mut peers: Vec<(Peer, Vec<u8>, usize, Vec<u8>)> = (0..1 + random.below(8))
            .map(|_| {
                let n = random.below(60_000) as usize;
                (sim.connect_to(ADDR), random.bytes(n), 0, Vec::new())
            })
            .collect();
        let (mut closed, mut turns) = (Vec::new(), 0);
        while closed.len() < peers.len() {
            turns += 1;
            assert!(turns < 20_000, "seed {seed}: no end");
            for (peer, input, sent, output) in &mut peers {
                let want = 1 + random.below(5000) as usize;
                *sent += peer.send(&input[*sent..][..want.min(input.len() - *sent)]);
                if *sent == input.len() {
                    peer.finish();
                }
                output.extend(peer.receive(random.below(5000) as usize));
            }
            el.poll(Some(Duration::ZERO)).unwrap();
            loop {
                let capacity = 1 + random.below(12);
                let batch = collect(&mut el, capacity);
                closed.extend(&batch.closed);
                let full = batch.full;
                in_place += echo(&mut el, batch, &mut random);
                // Sometimes the program polls before it has seen all.
                if !full || random.one_in(8) {
                    break;
                }
            }
        }
        for (peer, input, _, output) in &mut peers {
            output.extend(peer.receive(usize::MAX));
            let (is, was) = (output.len(), input.len());
            assert!(
                input == output,
                "seed {seed}: {was} bytes in, {is} out, or not in order"
            );
        }
        let clean = |(_, reason, unsent): &(ConnId, CloseReason, u64)| {
            (*reason, *unsent) == (CloseReason::PeerFinished, 0)
        };
        assert!(closed.iter().all(clean), "seed {seed}: {closed:?}");
    }
    assert!(in_place > 1000, "only {in_place} sends were taken in place");
}
