//! How a subcommand ends: the exit codes, named once, and the one line that says what failed.
//!
//! The rule: every subcommand returns `Result<(), Failure>`, and `main` alone prints the line and
//! ends the process. What clap refuses has clap's own text and its code, 2.

use std::fmt;
use std::io;
use std::process::ExitCode;

use echoloop_server::{Error, ErrorKind};

/// It could not start, the peer is gone, or the system refused.
const FAILED: u8 = 1;
/// The command contradicts itself, which clap could not see.
const NOT_UNDERSTOOD: u8 = 2;
/// Bytes came back wrong, or were lost.
const WRONG_BYTES: u8 = 3;
/// A second Ctrl-C: 128 + SIGINT, as a shell has it.
pub(crate) const ENDED_AT_ONCE: i32 = 130;

/// The codes that every subcommand has.
const CODES: &str = "\
Exit codes:
    0  done
    1  failed: could not start, the peer is gone, or the system refused
    2  the command was not understood";

/// What stands at the end of a subcommand's `--help`: its examples, then its exit codes.
pub(crate) fn help(examples: &str) -> String {
    format!("{examples}\n\n{CODES}")
}

/// Likewise, where bytes can be `lost` and the first signal is not the end.
pub(crate) fn long_help(examples: &str, lost: &str) -> String {
    let help = help(examples);
    format!("{help}\n    3  {lost}\n  130  a second Ctrl-C ended it at once")
}

/// What became of a text for standard output: a reader that has had enough, as head(1), is no
/// failure.
pub(crate) fn printed(outcome: io::Result<()>) -> Result<(), Failure> {
    match outcome {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::io("write standard output", &e))
        }
        _ => Ok(()),
    }
}

/// Why a subcommand did not succeed, in one line that says what to do about it.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    /// It could not start, the peer is gone, or the system refused.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            code: FAILED,
            message,
        }
    }

    /// The system refused `operation`; told with the name of the error, as those of the loop are.
    pub(crate) fn io(operation: &'static str, e: &io::Error) -> Self {
        Self::failed(match e.raw_os_error() {
            Some(errno) => Error::new(operation, ErrorKind::Os(errno)).to_string(),
            None => format!("{operation}: {e}"),
        })
    }

    /// The command contradicts itself.
    pub(crate) fn not_understood(message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            code: NOT_UNDERSTOOD,
            message,
        }
    }

    /// Bytes came back wrong, or were lost.
    pub(crate) fn wrong_bytes(message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            code: WRONG_BYTES,
            message,
        }
    }

    pub(crate) fn code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
