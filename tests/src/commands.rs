//! The command line, `echoloop`, run with arguments: where it listens, and its lines of JSON.
//!
//! For servers that are to be like those of other languages there is [`crate::Server`]; this is for what only the
//! command line has.

use std::net::SocketAddr;
use std::process::Command;

use serde_json::Value;

use crate::patience::PATIENCE;
use crate::{Face, Process};

/// `echoloop` with these arguments, to be set up further.
pub fn echoloop(arguments: &[&str]) -> Command {
    let mut command = Face::Rust.program();
    command.args(arguments);
    command
}

/// `echoloop` with these arguments, started; its output is collected.
#[track_caller]
pub fn start(arguments: &[&str]) -> Process {
    Process::spawn(echoloop(arguments))
}

/// The first address on which it says that it listens.
#[track_caller]
pub fn address_of(server: &Process) -> SocketAddr {
    let line = server.says("listening on ", PATIENCE);
    let address = line.rsplit(' ').next().expect("a last word");
    address.parse().expect("an address")
}

/// All lines on standard output, each of which is an object.
#[track_caller]
pub fn objects(process: &Process) -> Vec<Value> {
    let parse =
        |line: &String| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"));
    process.stdout().iter().map(parse).collect()
}

/// The text under this key.
#[track_caller]
pub fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    object[key]
        .as_str()
        .unwrap_or_else(|| panic!("{key} in {object}"))
}
