//! Child processes that can't be left behind: servers, and the load generator.
//!
//! Each is started through this program's own `exec`, which pins it to a core, allows it all the
//! descriptors there are, and asks the kernel to kill it when its parent dies (prctl(2),
//! PR_SET_PDEATHSIG), before it becomes the program. So none survives even a killed benchmark; on
//! every other path, dropping a [`Child`] kills it and waits for its end.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddrV4;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{self, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{
    Pid, Resource, Rlimit, Signal, getppid, getrlimit, kill_process,
    set_parent_process_death_signal, setrlimit,
};

use crate::servers::Program;

/// A running child: its lines can be read, with a deadline, and it can be spoken to.
#[derive(Debug)]
pub(crate) struct Child {
    child: process::Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    name: String,
}

impl Child {
    /// Starts a program on a core; what it says on standard error goes to a file, or to ours.
    pub(crate) fn start(
        name: &str,
        argv: &[OsString],
        environment: &[(OsString, OsString)],
        core: Option<usize>,
        log: Option<&Path>,
    ) -> Result<Child> {
        let errors = match log {
            Some(path) => File::create(path)
                .with_context(|| format!("can't write {}", path.display()))?
                .into(),
            None => Stdio::inherit(),
        };
        let prefix = exec_prefix(core, process::id())?;
        let mut child = Command::new(&prefix[0])
            .args(&prefix[1..])
            .args(argv)
            .envs(environment.iter().cloned())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .with_context(|| format!("can't start {name}"))?;
        let (sender, lines) = mpsc::channel();
        let input = child.stdin.take();
        if let Some(output) = child.stdout.take() {
            thread::spawn(move || {
                let lines = BufReader::new(output).lines().map_while(Result::ok);
                lines.map(|line| sender.send(line)).all(|sent| sent.is_ok())
            });
        }
        Ok(Child {
            child,
            input,
            lines,
            name: name.to_owned(),
        })
    }

    /// Starts a server and waits until it says where it listens.
    pub(crate) fn serve(
        program: &Program,
        core: Option<usize>,
        under: &[OsString],
    ) -> Result<(Child, SocketAddrV4)> {
        let mut argv = under.to_vec();
        argv.extend(program.argv.iter().cloned());
        let (name, log) = (program.row.name(), &program.log);
        let server = Child::start(name, &argv, &program.environment, core, Some(log))?;
        let deadline = Instant::now() + Duration::from_secs(60);
        let line = loop {
            let line = server
                .line(deadline.saturating_duration_since(Instant::now()))
                .with_context(|| format!("see {}", log.display()))?;
            if let Some(address) = line.strip_prefix("listening on ") {
                break address.to_owned();
            }
        };
        let address = line.trim().parse();
        let address = address.with_context(|| format!("{name} listens on {line:?}"))?;
        Ok((server, address))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line of its standard output.
    pub(crate) fn line(&self, patience: Duration) -> Result<String> {
        match self.lines.recv_timeout(patience) {
            Ok(line) => Ok(line),
            Err(RecvTimeoutError::Timeout) => bail!("{} said nothing for {patience:?}", self.name),
            Err(RecvTimeoutError::Disconnected) => bail!("{} has ended", self.name),
        }
    }

    /// Writes a line to its standard input.
    pub(crate) fn say(&mut self, line: &str) -> Result<()> {
        let input = self.input.as_mut().context("its input is open till drop")?;
        writeln!(input, "{line}").with_context(|| format!("{} has ended", self.name))
    }

    /// Ends a server by SIGTERM and waits for it; `pid` is the server's when the child is a tracer.
    pub(crate) fn end(mut self, pid: u32, patience: Duration) -> Result<()> {
        let pid = Pid::from_raw(pid as i32).context("a pid is positive")?;
        kill_process(pid, Signal::TERM).with_context(|| format!("{} has ended", self.name))?;
        let deadline = Instant::now() + patience;
        while self.child.try_wait()?.is_none() {
            ensure!(
                Instant::now() < deadline,
                "{} did not end within {patience:?} of SIGTERM",
                self.name
            );
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Fails when it has ended, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The words in front of a command that pin it and bind its life to that of `parent`, or, when that is
/// 0, of whichever process starts it.
pub(crate) fn exec_prefix(core: Option<usize>, parent: u32) -> Result<Vec<OsString>> {
    let this = std::env::current_exe().context("where this program is")?;
    let mut words = vec![this.into(), "exec".into()];
    words.push(format!("--parent={parent}").into());
    words.extend(core.map(|core| format!("--core={core}").into()));
    words.push("--".into());
    Ok(words)
}

/// The child's side: pins this process and becomes `program`; returns only when that fails.
pub(crate) fn become_program(core: Option<usize>, parent: i32, program: &[OsString]) -> Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL)).context("prctl")?;
    let orphaned = getppid().is_none_or(|pid| pid.as_raw_nonzero().get() != parent);
    ensure!(parent == 0 || !orphaned, "the benchmark has ended");
    if let Some(core) = core {
        crate::process::pin(core).with_context(|| format!("can't run on core {core}"))?;
    }
    let limit = getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, all).context("setrlimit")?;
    let error = Command::new(&program[0]).args(&program[1..]).exec();
    Err(error).with_context(|| format!("can't run {}", program[0].display()))
}
