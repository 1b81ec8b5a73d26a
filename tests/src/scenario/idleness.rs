//! The idle timeout: it cuts who is silent, not before its time and not much after, and nobody else.

use std::time::{Duration, Instant};

use crate::patience::{keep_up, throughout};
use crate::{Client, Rig};

const IDLE: Duration = Duration::from_secs(1);

/// How late a timeout may be noticed.
const SLACK: Duration = Duration::from_secs(1);

/// A client that connects and says nothing gets the end of the stream at the timeout, not earlier, and at most a second
/// later; the server gives its descriptor back.
pub fn a_silent_client_is_cut_at_the_idle_timeout_and_not_before(rig: Rig) {
    let server = rig.server().idle(IDLE).start();
    let base = server.descriptors();
    let start = Instant::now();
    let client = Client::connect(server.address());
    let connected = Instant::now();
    let cut = client.expect_end();
    assert!(cut - start >= IDLE, "cut after {:?}", cut - start);
    assert!(
        cut - connected <= IDLE + rig.slack(SLACK),
        "cut after {:?}",
        cut - connected
    );
    server.until_descriptors_are_back_to(base);
    server.stop();
}

/// A client that talks more often than the timeout stays; once it falls silent it is cut, counted from its last word.
/// Without a timeout on the command line nobody is cut in the same time.
pub fn a_client_that_talks_is_not_cut_until_it_falls_silent(rig: Rig) {
    let server = rig.server().idle(IDLE).start();
    let talker = Client::connect(server.address());
    let mut last_word = Instant::now();
    keep_up(IDLE / 4, IDLE * 5 / 2, || {
        last_word = Instant::now();
        talker.echo(b"still here");
    });
    let cut = talker.expect_end() - last_word;
    assert!(cut >= IDLE, "cut {cut:?} after its last word");
    assert!(
        cut <= IDLE + rig.slack(SLACK),
        "cut {cut:?} after its last word"
    );
    server.stop();

    let server = rig.start();
    let silent = Client::connect(server.address());
    throughout("the silent client is connected", IDLE * 3 / 2, || {
        silent.is_open()
    });
    silent.echo(b"my first word");
    server.stop();
}
