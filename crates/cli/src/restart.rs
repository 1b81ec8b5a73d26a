//! A restart in which nobody is turned away: this program starts itself anew, hands it all sockets,
//! and stops accepting when the new one is ready.
//!
//! The rule: until the successor has said that it serves, nothing here has changed; if it fails,
//! this process goes on. The sockets travel as a service manager passes them (sd_listen_fds(3)),
//! and with them the end of a pipe, by its name: a byte in it says "I serve", its end without one
//! says that the successor is gone. Service managers are told by sd_notify(3).

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt, FdMapping};
use echoloop_server::{
    Context, Error, Inherited, Remote, Server, ServerBuilder, inherited_listeners,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sd_notify::NotifyState;

use crate::console::complain;
use crate::exit::Failure;

/// The word that asks a loop for its sockets.
const SHARE: u64 = 2;
/// The word that tells a loop that it was replaced.
const REPLACED: u64 = 3;

/// How long a successor may take until it serves.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a loop may take to answer.
const LOOP_PATIENCE: Duration = Duration::from_secs(10);
/// The name of the pipe among the inherited descriptors, LISTEN_FDNAMES.
const READY: &str = "echoloop-ready";
/// The first descriptor that is passed, SD_LISTEN_FDS_START.
const FIRST: i32 = 3;

/// What this process was started with, by a service manager or by its predecessor.
#[derive(Default)]
pub(crate) struct Heritage {
    sockets: Vec<OwnedFd>,
    predecessor: Option<OwnedFd>,
}

impl Heritage {
    /// Takes over what is there; to be called before any descriptor is opened.
    pub(crate) fn take() -> Result<Self, Failure> {
        let mut heritage = Self::default();
        let inherited = inherited_listeners().map_err(|e| Failure::failed(e.to_string()))?;
        for Inherited { name, fd } in inherited {
            match &*name {
                READY => heritage.predecessor = Some(fd),
                _ => heritage.sockets.push(fd),
            }
        }
        Ok(heritage)
    }

    /// Whether there is no socket to serve.
    pub(crate) fn is_empty(&self) -> bool {
        self.sockets.is_empty()
    }

    /// A server on the sockets that are there.
    pub(crate) fn serve(&mut self) -> ServerBuilder {
        let sockets = self.sockets.drain(..);
        sockets.fold(Server::builder(), ServerBuilder::inherit)
    }

    /// Tells whoever started this process that it serves.
    pub(crate) fn serving(&mut self) {
        if let Some(predecessor) = self.predecessor.take() {
            // One that is gone has nothing to stop.
            let _ = std::fs::File::from(predecessor).write_all(&[1]);
        }
        tell_manager(NotifyState::Ready);
    }
}

/// Tells the service manager, if there is one, that this process drains.
pub(crate) fn stopping() {
    tell_manager(NotifyState::Stopping);
}

/// What the loops of this process do for a restart.
pub(crate) struct Exchange {
    /// How long those who are connected are served on.
    grace: Duration,
    answers: Mutex<Option<Sender<Shared>>>,
}

type Shared = Result<Vec<OwnedFd>, Error>;

impl Exchange {
    pub(crate) fn new(grace: Duration) -> Self {
        Self {
            grace,
            answers: Mutex::default(),
        }
    }

    /// A word has come to a loop; false when it is of something else.
    pub(crate) fn take_word(&self, cx: &mut Context<'_>, word: u64) -> bool {
        match word {
            SHARE => {
                let answers = self.answers.lock();
                if let Some(answers) = &*answers.unwrap_or_else(PoisonError::into_inner) {
                    // Who asked may have given up.
                    let _ = answers.send(share(cx));
                }
            }
            REPLACED => cx.drain_with_grace(self.grace),
            _ => return false,
        }
        true
    }

    /// Replaces this process: says so once the new one serves, and has the loops drain.
    pub(crate) fn replace(&self, loops: &[Remote]) -> Result<(), String> {
        let (answers, shared) = channel();
        *self.answers.lock().unwrap_or_else(PoisonError::into_inner) = Some(answers);
        let mut sockets = Vec::new();
        for each in loops {
            each.post(SHARE).map_err(|e| e.to_string())?;
        }
        for _ in loops {
            let answer = shared.recv_timeout(LOOP_PATIENCE);
            let answer = answer.map_err(|_| "a loop does not answer".to_owned())?;
            sockets.extend(answer.map_err(|e| e.to_string())?);
        }
        if sockets.is_empty() {
            return Err("it listens on nothing any more".to_owned());
        }
        let successor = start_successor(sockets)?;
        // First: without connections this process is gone as soon as its loops drain.
        complain!("echoloop: process {successor} serves now; this one drains");
        for each in loops {
            // One that has ended drains no more.
            let _ = each.post(REPLACED);
        }
        Ok(())
    }
}

fn share(cx: &mut Context<'_>) -> Shared {
    let mut sockets = Vec::new();
    for listener in cx.listeners() {
        sockets.push(cx.share_listener(listener)?);
    }
    for udp in cx.udps() {
        sockets.push(cx.share_udp(udp)?);
    }
    Ok(sockets)
}

/// Starts this program once more, with the arguments of now, to serve these sockets. Returns its
/// number when it serves.
fn start_successor(sockets: Vec<OwnedFd>) -> Result<u32, String> {
    let (mut ready, theirs) = std::io::pipe().map_err(|e| format!("no pipe: {e}"))?;
    let count = sockets.len() + 1;
    let names = vec!["socket"; sockets.len()];
    let names = [names, vec![READY]].concat().join(":");
    let passed = sockets.into_iter().chain([theirs.into()]);
    let mappings = passed.zip(FIRST..).map(|(parent_fd, child_fd)| FdMapping {
        parent_fd,
        child_fd,
    });
    let mut child = {
        // The shell is there to write its own number, which is the successor's after exec.
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", "LISTEN_PID=$$; export LISTEN_PID; exec \"$0\" \"$@\""])
            .args(std::env::args_os())
            .env("LISTEN_FDS", count.to_string())
            .env("LISTEN_FDNAMES", names)
            .fd_mappings(mappings.collect())
            .map_err(|e| e.to_string())?;
        // Our ends of what is passed are closed with the command, at the end of this block.
        command.spawn().map_err(|e| format!("/bin/sh: {e}"))?
    };
    let outcome = wait_until_ready(&mut ready);
    if outcome.is_err() {
        let _ = child.kill();
        let _ = child.wait();
    } else {
        tell_manager(NotifyState::MainPid(child.id()));
    }
    outcome.map(|()| child.id())
}

fn wait_until_ready(ready: &mut (impl Read + AsFd)) -> Result<(), String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(|e| e.to_string())?;
        let mut fds = [PollFd::new(ready, PollFlags::IN)];
        match poll(&mut fds, Some(&left)) {
            Ok(0) => return Err(format!("it does not serve after {} s", PATIENCE.as_secs())),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(e) => return Err(e.to_string()),
        }
        return match ready.read(&mut [0]) {
            Ok(1) => Ok(()),
            Ok(_) => Err("it ended before it served; what it said is above".to_owned()),
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            Err(e) => Err(e.to_string()),
        };
    }
}

fn tell_manager(state: NotifyState<'_>) {
    if let Err(e) = sd_notify::notify(&[state]) {
        log::warn!("the service manager can't be told: {e}");
    }
}
