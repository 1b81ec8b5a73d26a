//! A child process that never outlives the value that holds it, and the lines it has printed.
//!
//! Output is collected by one thread for each stream, so a chatty child never blocks. When a test fails while it holds
//! a process, the last lines of that process are printed with the failure.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::patience::until;

type Lines = Arc<Mutex<Vec<String>>>;

/// A child process, its output, and its end.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    stdout: Lines,
    stderr: Lines,
    readers: Vec<JoinHandle<()>>,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts `command` with no input and both outputs collected.
    #[track_caller]
    pub fn spawn(mut command: Command) -> Self {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Self::spawn_as_is(command)
    }

    /// Starts `command` with the streams it was given; what is piped is collected.
    #[track_caller]
    pub fn spawn_as_is(mut command: Command) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        // `cargo test` points it at the debug build, whose library would stand in for the one under test.
        command.env_remove("LD_LIBRARY_PATH");
        let mut child = command
            .spawn()
            .unwrap_or_else(|e| panic!("{name} can't be started: {e}"));
        let (stdout, stderr) = (Lines::default(), Lines::default());
        let readers = [
            child.stdout.take().map(|s| collect(s, &stdout)),
            child.stderr.take().map(|s| collect(s, &stderr)),
        ];
        let readers = readers.into_iter().flatten().collect();
        Self {
            child,
            name,
            stdout,
            stderr,
            readers,
            ended: None,
        }
    }

    /// Runs `command` to its end.
    #[track_caller]
    pub fn run(command: Command, limit: Duration) -> Self {
        let mut process = Self::spawn(command);
        process.wait(limit);
        process
    }

    /// The process number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The complete lines on standard output so far; after [`Process::wait`], all of them.
    pub fn stdout(&self) -> Vec<String> {
        self.stdout.lock().expect("no reader panics").clone()
    }

    /// The complete lines on standard error so far; after [`Process::wait`], all of them.
    pub fn stderr(&self) -> Vec<String> {
        self.stderr.lock().expect("no reader panics").clone()
    }

    /// Waits until a line that contains `text` was printed, on either stream, and returns it.
    #[track_caller]
    pub fn says(&self, text: &str, limit: Duration) -> String {
        until(&format!("{} says {text:?}", self.name), limit, || {
            let mut lines = self.stdout();
            lines.extend(self.stderr());
            lines.into_iter().find(|line| line.contains(text))
        })
    }

    /// Sends a signal.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id() as i32);
        kill(pid, signal).unwrap_or_else(|e| panic!("{signal} to {}: {e}", self.name));
    }

    /// The exit status if the process has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("a child can be waited for");
        }
        self.ended
    }

    /// Waits for the end of the process and of its output.
    #[track_caller]
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let what = format!("{} ends", self.name);
        let status = until(&what, limit, || self.ended());
        for reader in self.readers.drain(..) {
            until("the output ends with the process", limit, || {
                reader.is_finished().then_some(())
            });
            reader.join().expect("a reader does not panic");
        }
        status
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended().is_none() {
            // It may end between the look and the signal; then there is nothing left to do.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if thread::panicking() {
            eprintln!("--- {} had said:", self.name);
            for (stream, lines) in [("stdout", self.stdout()), ("stderr", self.stderr())] {
                let hidden = lines.len().saturating_sub(40);
                lines
                    .iter()
                    .skip(hidden)
                    .for_each(|l| eprintln!("{stream}: {l}"));
            }
        }
    }
}

fn collect(stream: impl Read + Send + 'static, into: &Lines) -> JoinHandle<()> {
    let into = Arc::clone(into);
    thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).into_owned();
            into.lock().expect("nobody panics with the lock").push(line);
        }
    })
}
