//! A client in a process of its own, so that a test can stop it with SIGSTOP and wake it with SIGCONT.
//!
//! It sends and reads as fast as the server lets it, checks every byte, and prints a line for each megabyte.

use std::env;
use std::thread;

use echoloop_tests::{Client, Pattern};

const MEGABYTE: u64 = 1_000_000;

fn main() {
    let address = env::args().nth(1).expect("usage: busy_client ADDRESS:PORT");
    let client = Client::connect(address.parse().expect("ADDRESS:PORT"));
    thread::scope(|scope| {
        scope.spawn(|| client.send_pattern(&mut Pattern::new(1), u64::MAX));
        let mut pattern = Pattern::new(1);
        for megabytes in 1.. {
            client.receive_pattern(&mut pattern, MEGABYTE);
            println!("{megabytes} megabytes came back");
        }
    });
}
