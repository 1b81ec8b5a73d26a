//! Peers that do not play along: they reset, they never read, they stand still. The others must not notice.

use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::{MOST_IN_FLIGHT, heavy};
use crate::patience::PATIENCE;
use crate::{Client, Pattern, Process, Rig, Server, artifacts};

/// What a client that never reads may cost the server in user memory. The kernel's socket buffers are not in it.
const PER_HOARDER: u64 = 4 << 20;

/// Within this time others get their echo, whatever one peer does.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Peers vanish by a reset, before, while and after their bytes come back; a witness is served all the time and every
/// descriptor is given back.
pub fn a_reset_in_mid_stream_hurts_nobody_else(rig: Rig) {
    let server = rig.start();
    let witness = Client::connect(server.address());
    witness.echo(b"before");
    let base = server.descriptors();
    for round in 0..rig.size(60, 9) {
        let victim = Client::connect(server.address());
        victim.send_pattern(&mut Pattern::new(round), 200_000);
        match round % 3 {
            0 => {}
            1 => victim.receive_pattern(&mut Pattern::new(round), 100_000),
            _ => victim.until_taken(),
        }
        victim.reset();
        witness.echo(b"still here");
    }
    server.until_descriptors_are_back_to(base);
    Client::connect(server.address()).echo(b"a newcomer");
    server.stop();
}

/// Peers that connect and reset at once, many in a row, leave nothing behind.
pub fn a_reset_before_a_word_hurts_nobody(rig: Rig) {
    let server = rig.start();
    let witness = Client::connect(server.address());
    witness.echo(b"before");
    let base = server.descriptors();
    for _ in 0..rig.size(500, 50) {
        Client::connect(server.address()).reset();
    }
    witness.echo(b"after");
    server.until_descriptors_are_back_to(base);
    server.stop();
}

/// Clients that send and never read are blocked once a bounded amount is on its way; each costs the server at most
/// 4 MiB; others are served at once; and when the hoarders read at last, they get every byte in order.
pub fn a_client_that_never_reads_is_blocked_and_others_are_served(rig: Rig) {
    let _alone = heavy();
    let server = rig.start();
    let witness = Client::connect(server.address());
    witness.echo(b"before");
    let before = rig.measures_memory().then(|| server.memory());

    let count = rig.size(4, 1);
    let hoarders: Vec<_> = (0..count)
        .map(|seed| {
            let client = Client::connect(server.address());
            let sent = client.send_until_blocked(Pattern::new(seed), MOST_IN_FLIGHT);
            (client, seed, sent)
        })
        .collect();

    others_are_served(rig, &server, &witness);
    if let Some(before) = before {
        let growth = server.memory().saturating_sub(before);
        let bound = count * PER_HOARDER;
        assert!(
            growth <= bound,
            "{count} clients that never read cost {growth} bytes"
        );
    }
    for (client, seed, sent) in hoarders {
        client.receive_pattern(&mut Pattern::new(seed), sent);
        client.echo(b"friends again");
    }
    server.stop();
}

/// A client process is stopped by SIGSTOP in the middle of its stream: others are served at once, the server's memory
/// stays bounded, and after SIGCONT the stream goes on where it was.
pub fn a_stopped_client_does_not_disturb_others_and_goes_on_later(rig: Rig) {
    let _alone = heavy();
    let server = rig.start();
    let witness = Client::connect(server.address());
    witness.echo(b"before");
    let before = rig.measures_memory().then(|| server.memory());

    let mut command = Command::new(artifacts::helper("busy_client"));
    command.arg(server.address().to_string());
    let mut busy = Process::spawn(command);
    busy.says("megabytes came back", PATIENCE);
    busy.signal(Signal::SIGSTOP);

    others_are_served(rig, &server, &witness);
    if let Some(before) = before {
        let growth = server.memory().saturating_sub(before);
        assert!(
            growth <= PER_HOARDER,
            "a stopped client costs {growth} bytes"
        );
    }
    let so_far = busy.stdout().len();
    busy.signal(Signal::SIGCONT);
    busy.says(&format!("{} megabytes came back", so_far + 3), PATIENCE);
    assert_eq!(busy.ended(), None, "every byte was right so far");
    drop(busy);
    server.stop();
}

/// An old client and newcomers get their echoes without a delay.
#[track_caller]
fn others_are_served(rig: Rig, server: &Server, witness: &Client) {
    for _ in 0..20 {
        let newcomer = Client::connect(server.address());
        for client in [witness, &newcomer] {
            let took = client.echo(b"and the others?");
            assert!(took <= rig.slack(AT_ONCE), "an echo took {took:?}");
        }
    }
}
