//! Lookups of names on threads of our own, since getaddrinfo(3) blocks.
//!
//! The rule: a thread may be stuck in a lookup for as long as it likes, and nothing waits for it.
//! Threads are started when there is work, at most [`THREADS`], and end after [`IDLE`] without any,
//! or when the loop is gone. They are never joined. What a stuck thread keeps alive is the small
//! `Shared` here, without the loop's waker; its answer meets a token that nobody wants and is
//! dropped. All signals are blocked on these threads: the program's handlers run on its own.

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{SigSet, SigmaskHow};
use rustix::io::Errno;

use super::errno;
use crate::sys::{Answer, Waker};
use crate::{ResolveError, Resolver};

/// Threads of one loop.
const THREADS: usize = 4;
/// Lookups of one loop that may be waiting, under way or answered and not fetched.
const MOST: usize = 1024;
/// How long a thread without work stays.
const IDLE: Duration = Duration::from_secs(5);

/// The resolver threads of one loop.
pub(super) struct Threads {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    work: Condvar,
}

struct State {
    waiting: VecDeque<(u64, Arc<str>)>,
    /// Tokens of the lookups that threads are busy with and somebody wants.
    running: Vec<u64>,
    answers: VecDeque<(u64, Answer)>,
    threads: usize,
    idle: usize,
    resolver: Option<Resolver>,
    /// `None` once the loop is gone.
    waker: Option<Waker>,
}

impl Threads {
    /// No thread yet.
    pub(super) fn new(waker: Waker, resolver: Option<Resolver>) -> Self {
        let state = State {
            waiting: VecDeque::new(),
            running: Vec::new(),
            answers: VecDeque::new(),
            threads: 0,
            idle: 0,
            resolver,
            waker: Some(waker),
        };
        let shared = Shared {
            state: Mutex::new(state),
            work: Condvar::new(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Queues a lookup, and starts a thread for it where none is free.
    pub(super) fn lookup(&self, token: u64, host: &Arc<str>) -> Result<(), Errno> {
        let mut state = self.shared.lock();
        if state.waiting.len() + state.running.len() + state.answers.len() >= MOST {
            return Err(Errno::NOBUFS);
        }
        if state.waiting.len() >= state.idle && state.threads < THREADS {
            match start(&self.shared) {
                Ok(()) => state.threads += 1,
                Err(e) if state.threads == 0 => return Err(errno(e)),
                Err(_) => {} // Those that there are will come to it.
            }
        }
        state.waiting.push_back((token, Arc::clone(host)));
        drop(state);
        self.shared.work.notify_one();
        Ok(())
    }

    /// Forgets a lookup, wherever it is.
    pub(super) fn cancel(&self, token: u64) {
        let mut state = self.shared.lock();
        state.waiting.retain(|(t, _)| *t != token);
        state.running.retain(|t| *t != token);
        state.answers.retain(|(t, _)| *t != token);
    }

    /// The next answer that came in.
    pub(super) fn answer(&self) -> Option<(u64, Answer)> {
        self.shared.lock().answers.pop_front()
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.waiting.clear();
        state.running.clear();
        state.answers.clear();
        let _after_the_lock = (state.resolver.take(), state.waker.take());
        drop(state);
        self.shared.work.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held; and what it holds is whole between any two lines.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a thread does all its life.
    fn serve(&self) {
        let mut state = self.lock();
        loop {
            if state.waker.is_none() {
                break;
            }
            if let Some((token, host)) = state.waiting.pop_front() {
                state.running.push(token);
                let resolver = state.resolver.clone();
                drop(state);
                let answer = answer(&host, resolver.as_ref());
                drop(resolver); // The program's own code, so not under the lock.
                state = self.lock();
                self.deliver(&mut state, token, answer);
                continue;
            }
            state.idle += 1;
            let waited = self.work.wait_timeout(state, IDLE);
            let (woken, out) = waited.unwrap_or_else(PoisonError::into_inner);
            state = woken;
            state.idle -= 1;
            if out.timed_out() && state.waiting.is_empty() {
                break;
            }
        }
        state.threads -= 1;
    }

    fn deliver(&self, state: &mut State, token: u64, answer: Answer) {
        let Some(place) = state.running.iter().position(|t| *t == token) else {
            return; // Cancelled.
        };
        state.running.swap_remove(place);
        state.answers.push_back((token, answer));
        if let Some(waker) = &state.waker {
            waker();
        }
    }
}

/// Starts a thread, with all signals blocked from its first instruction on.
fn start(shared: &Arc<Shared>) -> io::Result<()> {
    let shared = Arc::clone(shared);
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
    let started = thread::Builder::new()
        .name("echoloop-dns".to_owned())
        .spawn(move || shared.serve());
    before.thread_set_mask()?;
    started.map(drop)
}

fn answer(host: &str, resolver: Option<&Resolver>) -> Answer {
    let asked = catch_unwind(AssertUnwindSafe(|| match resolver {
        Some(resolver) => resolver.resolve(host),
        None => ask_system(host),
    }));
    let failed = |_| Err(ResolveError::new(libc::EAI_FAIL, 0));
    match asked.unwrap_or_else(failed)? {
        none if none.is_empty() => Err(ResolveError::new(libc::EAI_NODATA, 0)),
        addrs => Ok(addrs),
    }
}

/// The addresses of a name by getaddrinfo(3), in its order, which is that of RFC 6724.
fn ask_system(host: &str) -> Answer {
    let hints = dns_lookup::AddrInfoHints {
        // Or else each address would come once for each type.
        socktype: libc::SOCK_STREAM,
        ..Default::default()
    };
    let found = dns_lookup::getaddrinfo(Some(host), None, Some(hints)).map_err(|e| {
        let code = e.error_num();
        let errno = io::Error::from(e).raw_os_error().unwrap_or(0);
        // Code 0 is a host that is no C string.
        ResolveError::new(if code == 0 { libc::EAI_NONAME } else { code }, errno)
    })?;
    let ips = found.filter_map(Result::ok).map(|info| info.sockaddr.ip());
    let mut addrs: Vec<IpAddr> = Vec::new();
    for ip in ips {
        if !addrs.contains(&ip) {
            addrs.push(ip);
        }
    }
    Ok(addrs)
}
