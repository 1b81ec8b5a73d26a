//! A restart in which nobody is turned away: this program starts itself anew, hands it all sockets,
//! and stops accepting when the new one is ready.
//!
//! The rule: until the successor has said that it serves, nothing here has changed; if it fails,
//! this process goes on, and if this one is stopped meanwhile, both end. The sockets travel as a
//! service manager passes them (sd_listen_fds(3)), and with them the end of a pipe, by its name: a
//! byte in it says "I serve", its end without one says that the successor is gone. Service managers
//! are told by sd_notify(3).

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
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

/// What the loops of this process do for a restart.
pub(crate) struct Exchange {
    /// How long those who are connected are served on.
    grace: Duration,
    /// Whom each loop is to answer, once.
    askers: Vec<Mutex<Option<Sender<Shared>>>>,
    progress: Mutex<Progress>,
}

type Shared = Result<Vec<OwnedFd>, Error>;

/// How far this process is on its way to its end.
#[derive(Default)]
struct Progress {
    /// The process that is to replace this one and does not serve yet.
    starting: Option<Child>,
    /// It does now.
    replaced: bool,
    /// This process was told to end: it starts no other any more.
    stopped: bool,
}

impl Exchange {
    pub(crate) fn new(loops: usize, grace: Duration) -> Self {
        Self {
            grace,
            askers: (0..loops).map(|_| Mutex::default()).collect(),
            progress: Mutex::default(),
        }
    }

    /// A word has come to this loop; false when it is of something else.
    pub(crate) fn take_word(&self, worker: usize, cx: &mut Context<'_>, word: u64) -> bool {
        match word {
            SHARE => {
                // Of two words that came at once the first is answered: the other's asker gave up.
                let asker = self.askers.get(worker);
                if let Some(asker) = asker.and_then(|asker| lock(asker).take()) {
                    let _ = asker.send(share(cx)); // This one may have, too.
                }
            }
            REPLACED => cx.drain_with_grace(self.grace),
            _ => return false,
        }
        true
    }

    /// This process is to end: so is one that was to replace it and does not serve yet. The service
    /// manager, if there is one, is told, unless its service goes on in another process.
    pub(crate) fn stop(&self) {
        let mut progress = lock(&self.progress);
        progress.stopped = true;
        if let Some(successor) = &mut progress.starting {
            let _ = successor.kill(); // Who waits until it serves sees its end.
        }
        let goes_on = progress.replaced;
        drop(progress);
        if !goes_on {
            tell_manager(NotifyState::Stopping);
        }
    }

    /// Replaces this process: says so once the new one serves, and has the loops drain.
    pub(crate) fn replace(&self, loops: &[Remote]) -> Result<(), String> {
        let (answers, shared) = channel();
        for (each, asker) in loops.iter().zip(&self.askers) {
            *lock(asker) = Some(answers.clone());
            each.post(SHARE).map_err(|e| e.to_string())?;
        }
        let mut sockets = Vec::new();
        for _ in loops {
            let answer = shared.recv_timeout(LOOP_PATIENCE);
            let answer = answer.map_err(|_| "a loop does not answer".to_owned())?;
            sockets.extend(answer.map_err(|e| e.to_string())?);
        }
        if sockets.is_empty() {
            return Err("it listens on nothing any more".to_owned());
        }
        let successor = self.start_successor(sockets)?;
        // First: without connections this process is gone as soon as its loops drain.
        complain!("echoloop: process {successor} serves now; this one drains");
        for each in loops {
            // One that has ended drains no more.
            let _ = each.post(REPLACED);
        }
        Ok(())
    }

    /// Starts this program once more, with the arguments of now, to serve these sockets. Returns its
    /// number when it serves.
    fn start_successor(&self, sockets: Vec<OwnedFd>) -> Result<u32, String> {
        let (mut ready, theirs) = std::io::pipe().map_err(|e| format!("no pipe: {e}"))?;
        let mut command = successor(sockets, theirs.into())?;
        let mut progress = lock(&self.progress);
        if progress.stopped {
            return Err("it is to end".to_owned());
        }
        let child = command.spawn().map_err(|e| format!("/bin/sh: {e}"))?;
        progress.starting = Some(child);
        drop((progress, command)); // And with it our ends of what is passed.
        let outcome = wait_until_ready(&mut ready);
        let mut progress = lock(&self.progress);
        let Some(mut child) = progress.starting.take() else {
            return Err("another restart came between".to_owned());
        };
        if let Err(e) = outcome.and_then(|()| progress.may_be_replaced()) {
            drop(progress);
            let _ = child.kill();
            let _ = child.wait();
            return Err(e);
        }
        progress.replaced = true;
        drop(progress);
        tell_manager(NotifyState::MainPid(child.id()));
        Ok(child.id())
    }
}

impl Progress {
    fn may_be_replaced(&self) -> Result<(), String> {
        match self.stopped {
            true => Err("it is to end, and so is the new process".to_owned()),
            false => Ok(()),
        }
    }
}

/// Nothing panics while one of these locks is held.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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

/// This program once more, with the arguments of now, to serve these sockets.
fn successor(sockets: Vec<OwnedFd>, ready: OwnedFd) -> Result<Command, String> {
    let count = sockets.len() + 1;
    let names = vec!["socket"; sockets.len()];
    let names = [names, vec![READY]].concat().join(":");
    let passed = sockets.into_iter().chain([ready]);
    let mappings = passed.zip(FIRST..).map(|(parent_fd, child_fd)| FdMapping {
        parent_fd,
        child_fd,
    });
    // The shell is there to write its own number, which is the successor's after exec.
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", "LISTEN_PID=$$; export LISTEN_PID; exec \"$0\" \"$@\""])
        .args(std::env::args_os())
        .env("LISTEN_FDS", count.to_string())
        .env("LISTEN_FDNAMES", names)
        .fd_mappings(mappings.collect())
        .map_err(|e| e.to_string())?;
    Ok(command)
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
