//! How a server ends: it answers what it has taken, says goodbye, and exits with 0.

use std::net::TcpStream;

use nix::sys::signal::Signal;

use super::MOST_IN_FLIGHT;
use crate::patience::{PATIENCE, throughout};
use crate::{Client, Pattern, Rig};

/// At SIGTERM a client that has not yet read its echoes gets them all and then the end; an idle client gets the end; the
/// exit code is 0; and nobody listens any more.
pub fn sigterm_lets_what_was_sent_come_back_and_ends_well(rig: Rig) {
    let server = rig.start();
    let address = server.address();
    let idle = Client::connect(address);
    let busy = Client::connect(address);
    idle.echo(b"hello");
    busy.send_pattern(&mut Pattern::new(15), 300_000);
    busy.until_taken();

    server.terminate();

    let back = busy.receive_pattern_to_the_end(&mut Pattern::new(15));
    assert_eq!(back, 300_000, "what was sent comes back first");
    idle.expect_end();
    drop((busy, idle));
    server.expect_success();
    TcpStream::connect(address).expect_err("nobody listens any more");
}

/// At SIGTERM a client has filled every buffer on the way and reads only now: it gets at least all that the server
/// had read from it, in order.
pub fn sigterm_serves_a_client_that_had_stopped_reading(rig: Rig) {
    let server = rig.start();
    let client = Client::connect(server.address());
    let sent = client.send_until_blocked(Pattern::new(16), MOST_IN_FLIGHT);
    let taken = client.taken_by_the_server(sent);
    assert!(taken > 0, "the server has read something");

    server.terminate();

    let mut pattern = Pattern::new(16);
    client.receive_pattern(&mut pattern, taken);
    client.drain_pattern(&mut pattern);
    drop(client);
    server.expect_success();
}

/// SIGINT ends a server as well as SIGTERM does, and it does not end before it was asked to.
pub fn sigint_ends_well_without_any_client(rig: Rig) {
    let mut server = rig.start();
    let process = server.process();
    throughout(
        "the server waits for its first client",
        PATIENCE / 40,
        || process.ended().is_none(),
    );
    process.signal(Signal::SIGINT);
    server.expect_success();
}
