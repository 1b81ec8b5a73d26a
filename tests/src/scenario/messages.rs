//! Small messages: the transcript of the classic select tutorial, slow talkers, single bytes.

use crate::{Client, Rig};

/// The message of the classic select tutorial.
const PARTS: [&str; 3] = ["This is the message. ", "It will be sent ", "in parts."];

/// Two clients send the three parts in turn; each gets each part back before the next is sent, and nothing else.
pub fn two_clients_get_a_message_in_three_parts_back_part_by_part(rig: Rig) {
    let server = rig.start();
    let clients = [(); 2].map(|()| Client::connect(server.address()));
    for part in PARTS {
        clients
            .iter()
            .for_each(|client| client.send(part.as_bytes()));
        for client in &clients {
            let back = client.receive(part.len());
            assert_eq!(String::from_utf8_lossy(&back), part);
        }
    }
    for client in clients {
        client.shutdown_write();
        client.expect_end();
    }
    server.stop();
}

/// A client sends in small parts, each only after the echo of the last one has reached its machine, and reads none of
/// them until the end.
pub fn a_slow_client_that_reads_late_gets_everything_in_order(rig: Rig) {
    let server = rig.start();
    let client = Client::connect(server.address());
    let mut sent = String::new();
    for part in PARTS.iter().cycle().take(30) {
        client.send(part.as_bytes());
        sent += part;
        client.until_waiting(sent.len());
    }
    let back = client.receive(sent.len());
    assert_eq!(String::from_utf8_lossy(&back), sent);
    server.stop();
}

/// Single bytes come back, each waited for, and then as a burst of one-byte packets.
pub fn one_byte_at_a_time_comes_back(rig: Rig) {
    let server = rig.start();
    let client = Client::connect(server.address());
    for byte in 0..rig.size(1000_u32, 100) {
        client.echo(&[byte as u8]);
    }
    let burst: Vec<u8> = (0..rig.size(5000_u32, 500))
        .map(|i| (i * 7) as u8)
        .collect();
    for byte in &burst {
        client.send(&[*byte]);
    }
    assert!(
        client.receive(burst.len()) == burst,
        "the burst comes back in order"
    );
    server.stop();
}

/// No byte means anything to the server: zero, line ends and invalid UTF-8 pass as they are.
pub fn bytes_of_every_value_come_back_unchanged(rig: Rig) {
    let server = rig.start();
    let client = Client::connect(server.address());
    let every: Vec<u8> = (0..=255).collect();
    client.echo(&every);
    client.echo(b"\0");
    client.echo(b"\r\n\r\n\x04\x1a\xff\xfe");
    server.stop();
}
