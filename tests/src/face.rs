//! The four programs that serve the same echo, and the command line of each.
//!
//! A [`Rig`] is what a scenario is given: a face, and whether it runs under valgrind (then sizes are small and memory
//! is not measured). With `ECHOLOOP_TEST_SERVERS=FOLDER` nothing is built: the programs `rust`, `c_hooks`, `c_batch`
//! and `python` of that folder are run instead, with the same arguments (for sanitizer builds and the like).

use std::env;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::{Server, ServerBuilder, artifacts, tools};

/// One language's way to the same server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Face {
    /// `echoloop serve`, the command line written in Rust.
    Rust,
    /// `examples-c/echo_hooks.c`: callbacks.
    CHooks,
    /// `examples-c/echo_batch.c`: batches of events.
    CBatch,
    /// `python -m echoloop serve`.
    Python,
}

impl Face {
    /// The command that serves on these addresses; an idle timeout only when given.
    pub(crate) fn command(self, listen: &[&str], idle: Option<Duration>) -> Command {
        let mut command = self.program();
        let idle = idle.map(|limit| limit.as_secs_f64().to_string());
        match self {
            Face::Rust | Face::Python => {
                command.arg("serve");
                for address in listen {
                    command.args(["--listen", address]);
                }
                if let Some(seconds) = idle {
                    command.args(["--idle-timeout", &seconds]);
                }
            }
            Face::CHooks | Face::CBatch => {
                assert_eq!(listen.len(), 1, "the C examples listen on one address");
                command.args(listen).args(idle);
            }
        }
        command
    }

    /// The program without arguments.
    pub fn program(self) -> Command {
        let name = match self {
            Face::Rust => "rust",
            Face::CHooks => "c_hooks",
            Face::CBatch => "c_batch",
            Face::Python => "python",
        };
        if let Some(folder) = env::var_os("ECHOLOOP_TEST_SERVERS") {
            return Command::new(PathBuf::from(folder).join(name));
        }
        match self {
            Face::Rust => Command::new(artifacts::cli()),
            Face::CHooks => Command::new(artifacts::c_program("echo_hooks")),
            Face::CBatch => Command::new(artifacts::c_program("echo_batch")),
            Face::Python => {
                let mut python = Command::new(artifacts::python());
                python.args(["-m", "echoloop"]);
                python
            }
        }
    }
}

/// What a scenario runs on.
#[derive(Clone, Copy, Debug)]
pub struct Rig {
    face: Face,
    valgrind: bool,
}

impl Rig {
    /// The face as it is built for users, at full size.
    pub fn new(face: Face) -> Self {
        let valgrind = false;
        Self { face, valgrind }
    }

    /// The face under valgrind, at small sizes; `None`, with a word on stderr, where valgrind is missing.
    #[track_caller]
    pub fn under_valgrind(face: Face) -> Option<Self> {
        let valgrind = true;
        tools::tool("valgrind").map(|_| Self { face, valgrind })
    }

    /// A server of this face, to be set up.
    pub fn server(self) -> ServerBuilder {
        ServerBuilder::new(self.face, self.valgrind)
    }

    /// A server of this face on a free port of 127.0.0.1, with its defaults.
    #[track_caller]
    pub fn start(self) -> Server {
        self.server().start()
    }

    /// `full`, or `small` under valgrind, which is some thirty times slower.
    pub fn size<T>(self, full: T, small: T) -> T {
        if self.valgrind { small } else { full }
    }

    /// How much later than promised something may happen, `slack` on a native run.
    pub fn slack(self, slack: Duration) -> Duration {
        slack * self.size(1, 5)
    }

    /// Whether the memory of the process is that of the server (under valgrind it is valgrind's).
    pub fn measures_memory(self) -> bool {
        !self.valgrind
    }
}
