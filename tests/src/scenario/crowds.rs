//! Many clients: a thousand at once, ten thousand one after the other.

use super::heavy;
use crate::{Client, Rig};

/// The server's memory may not grow by more than this over ten thousand connections: 52 bytes for each would show.
const MOST_GROWTH: u64 = 512 << 10;

/// A thousand clients are connected at the same time; three times all of them send and each gets its own bytes back.
pub fn a_thousand_clients_at_once_are_served(rig: Rig) {
    let _alone = heavy();
    let server = rig.start();
    Client::connect(server.address()).echo(b"warm");
    let base = server.descriptors();
    let count = rig.size(1000, 50);
    let clients: Vec<_> = (0..count)
        .map(|_| Client::connect(server.address()))
        .collect();
    for round in 0..3 {
        let message = |i: usize| format!("client {i} in round {round}");
        for (i, client) in clients.iter().enumerate() {
            client.send(message(i).as_bytes());
        }
        for (i, client) in clients.iter().enumerate() {
            let back = client.receive(message(i).len());
            assert_eq!(String::from_utf8_lossy(&back), message(i));
        }
    }
    let open = server.descriptors();
    assert!(
        open >= count,
        "{open} descriptors for {count} clients at once"
    );
    drop(clients);
    server.until_descriptors_are_back_to(base);
    server.stop();
}

/// Ten thousand clients come and go one after the other, some with a word, some by a reset: afterwards the server has
/// as many descriptors as before and no more memory.
pub fn ten_thousand_connects_and_closes_cost_no_descriptor_and_no_memory(rig: Rig) {
    let _alone = heavy();
    let server = rig.start();
    let come_and_go = |times: u32| {
        for i in 0..times {
            let client = Client::connect(server.address());
            if i % 2 == 0 {
                client.echo(&i.to_be_bytes());
            }
            if i % 4 > 1 {
                client.reset();
            }
        }
    };
    let witness = Client::connect(server.address());
    witness.echo(b"before");
    let base = server.descriptors();
    come_and_go(rig.size(1000, 20));
    server.until_descriptors_are_back_to(base);
    let before = rig.measures_memory().then(|| server.memory());

    come_and_go(rig.size(10_000, 200));

    server.until_descriptors_are_back_to(base);
    if let Some(before) = before {
        let growth = server.memory().saturating_sub(before);
        assert!(
            growth <= MOST_GROWTH,
            "10,000 connections cost {growth} bytes"
        );
    }
    witness.echo(b"after");
    server.stop();
}
