//! Long streams, and streams whose one half is closed: every byte comes back, in order, then the end.

use std::fs::{self, File};
use std::process::{Command, Stdio};
use std::thread;

use super::{MOST_IN_FLIGHT, heavy};
use crate::patience::PATIENCE;
use crate::{Client, Pattern, Process, Rig, artifacts, tools};

/// 70 MB go through one connection in both directions at the same time, byte for byte.
pub fn seventy_megabytes_come_back_while_they_are_sent(rig: Rig) {
    let _alone = heavy();
    let server = rig.start();
    let client = Client::connect(server.address());
    client.exchange(70, rig.size(70_000_000, 2_000_000));
    client.shutdown_write();
    client.expect_end();
    server.stop();
}

/// Eight streams at once, each with bytes of its own, all come back on the connection they were sent on.
pub fn several_streams_at_once_do_not_mix(rig: Rig) {
    let _alone = heavy();
    let server = rig.start();
    let address = server.address();
    thread::scope(|scope| {
        for seed in 0..8 {
            scope.spawn(move || {
                let client = Client::connect(address);
                client.exchange(seed, rig.size(3_000_000, 200_000) + seed);
            });
        }
    });
    server.stop();
}

/// A client sends, says that it sends no more, and only then reads: it gets every byte back and then the end.
pub fn half_closed_peer_gets_all_its_bytes_back(rig: Rig) {
    let server = rig.start();
    for size in [1, 100, 65_536, 300_001] {
        let client = Client::connect(server.address());
        client.send_pattern(&mut Pattern::new(size), size);
        client.shutdown_write();
        client.until_taken();
        let back = client.receive_pattern_to_the_end(&mut Pattern::new(size));
        assert_eq!(back, size, "all bytes before the end");
    }
    server.stop();
}

/// A client sends without reading until every buffer on the way is full, closes its half, and reads: the server's own
/// queue comes back too, before the end.
pub fn half_closed_peer_that_filled_every_buffer_gets_all_its_bytes_back(rig: Rig) {
    let _alone = heavy();
    let server = rig.start();
    let client = Client::connect(server.address());
    let sent = client.send_until_blocked(Pattern::new(4), MOST_IN_FLIGHT);
    client.shutdown_write();
    let back = client.receive_pattern_to_the_end(&mut Pattern::new(4));
    assert_eq!(back, sent, "all bytes before the end");
    server.stop();
}

/// A client that closes its half without a word gets the end of the stream, and the server gives its descriptor back.
pub fn half_closed_peer_that_sent_nothing_gets_an_end_and_no_more(rig: Rig) {
    let server = rig.start();
    Client::connect(server.address()).echo(b"warm");
    let base = server.descriptors();
    let client = Client::connect(server.address());
    client.shutdown_write();
    client.expect_end();
    server.until_descriptors_are_back_to(base);
    server.stop();
}

/// `nc -N` sends a file, closes its half, and prints the same file.
pub fn nc_that_closes_its_half_gets_all_its_bytes_back(rig: Rig) {
    let Some(nc) = tools::tool("nc") else { return };
    let server = rig.start();
    let sent = Pattern::new(3).take(rig.size(3_000_000, 100_000));
    // Named after the server's port, which no other server has at this time.
    let name = format!("nc-{}", server.address().port());
    let (input, output) = (
        artifacts::scratch().join(&name),
        artifacts::scratch().join(name + ".out"),
    );
    fs::write(&input, &sent).expect("the target folder can be written");

    let mut command = Command::new(nc);
    command
        .arg("-N")
        .args([
            server.address().ip().to_string(),
            server.address().port().to_string(),
        ])
        .stdin(File::open(&input).expect("written above"))
        .stdout(File::create(&output).expect("the target folder can be written"))
        .stderr(Stdio::piped());
    let status = Process::spawn_as_is(command).wait(PATIENCE);

    assert!(status.success(), "nc ended with {status}");
    Pattern::new(3).check(&fs::read(&output).expect("written by nc"));
    assert_eq!(
        fs::metadata(&output).expect("written by nc").len(),
        sent.len() as u64
    );
    for file in [input, output] {
        fs::remove_file(file).expect("made above");
    }
    server.stop();
}
