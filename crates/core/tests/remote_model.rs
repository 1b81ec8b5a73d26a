//! The mailbox between threads under loom: all orders in which a post, a stop, a take and a close
//! can happen, within a bound on forced switches, instead of those that a run happens to meet.
//!
//! The rule: the file under test is the core's own, included here with loom's lock for std's. A
//! wake that is missed leaves the loop asleep, which loom reports as a deadlock.

#[path = "../src/remote/mailbox.rs"]
#[allow(dead_code, reason = "not all of it is in every model")]
mod mailbox;

use std::collections::VecDeque;

use echoloop_core::{Error, ErrorKind, sys};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread::{self, JoinHandle};

use mailbox::Mailbox;

/// What `crate::sync` is in here.
mod sync {
    pub(crate) use loom::sync::atomic::AtomicUsize;
    pub(crate) use loom::sync::{Mutex, MutexGuard};
}

/// The selector: a wake is kept until a wait reports it, as an eventfd in epoll does.
#[derive(Default)]
struct Selector {
    woken: Mutex<bool>,
    changed: Condvar,
}

impl Selector {
    fn wake(&self) {
        *self.woken.lock().unwrap() = true;
        self.changed.notify_one();
    }

    fn wait(&self) {
        let mut woken = self.woken.lock().unwrap();
        while !*woken {
            woken = self.changed.wait(woken).unwrap();
        }
        *woken = false;
    }
}

/// The loop's side: its mailbox, its selector and what it was handed.
struct Looping {
    mailbox: Arc<Mailbox>,
    selector: Arc<Selector>,
    posted: VecDeque<u64>,
    stops: usize,
}

impl Looping {
    fn new(capacity: usize) -> Self {
        let selector = Arc::new(Selector::default());
        let waking = Arc::clone(&selector);
        let waker: sys::Waker = std::sync::Arc::new(move || waking.wake());
        Self {
            mailbox: Arc::new(Mailbox::new(waker, capacity)),
            selector,
            posted: VecDeque::new(),
            stops: 0,
        }
    }

    /// One turn: sleeps until the waker is used, then looks.
    fn turn(&mut self) {
        self.selector.wait();
        self.stops += usize::from(self.mailbox.take(&mut self.posted));
    }

    /// Another thread that posts `words` one after the other and returns the answers.
    fn poster(&self, words: &'static [u64]) -> JoinHandle<Vec<Result<(), Error>>> {
        let mailbox = Arc::clone(&self.mailbox);
        thread::spawn(move || words.iter().map(|word| mailbox.post(*word)).collect())
    }

    /// Those of `words` that arrived, in the order in which they did.
    fn arrived(&self, words: &[u64]) -> Vec<u64> {
        let of_them = |word: &u64| words.contains(word);
        self.posted.iter().copied().filter(of_them).collect()
    }
}

fn model(preemptions: usize, run: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(run);
}

fn kinds(answers: &[Result<(), Error>]) -> Vec<Option<ErrorKind>> {
    answers
        .iter()
        .map(|r| r.as_ref().err().map(Error::kind))
        .collect()
}

#[test]
fn words_of_two_threads_arrive_exactly_once_in_order_and_always_wake() {
    model(3, || {
        let mut el = Looping::new(10);
        let posters = [el.poster(&[10, 11]), el.poster(&[20, 21])];
        while el.posted.len() < 4 {
            el.turn(); // A wake too few would sleep here for ever.
        }
        for poster in posters {
            assert_eq!(kinds(&poster.join().unwrap()), [None, None]);
        }
        assert_eq!(el.arrived(&[10, 11]), [10, 11]);
        assert_eq!(el.arrived(&[20, 21]), [20, 21]);
        el.mailbox.take(&mut el.posted);
        assert_eq!((el.posted.len(), el.stops), (4, 0));
    });
}

#[test]
fn words_not_handled_yet_stay_before_those_that_come() {
    model(3, || {
        let mut el = Looping::new(10);
        let poster = el.poster(&[1, 2, 3]);
        while el.posted.back() != Some(&3) {
            el.turn();
        }
        poster.join().unwrap();
        assert_eq!(el.posted, [1, 2, 3]);
    });
}

#[test]
fn a_stop_is_remembered_and_wakes_whatever_else_is_posted() {
    model(3, || {
        let mut el = Looping::new(10);
        let poster = el.poster(&[1]);
        let mailbox = Arc::clone(&el.mailbox);
        let stopper = thread::spawn(move || mailbox.stop().is_ok() && mailbox.stop().is_ok());
        while el.stops == 0 || el.posted.is_empty() {
            el.turn();
        }
        poster.join().unwrap();
        assert!(stopper.join().unwrap());
        assert!(el.stops <= 2, "two stops are at most two");
        assert_eq!(el.posted, [1]);
    });
}

#[test]
fn a_wake_ends_a_wait_and_leaves_nothing() {
    model(3, || {
        let mut el = Looping::new(10);
        let mailbox = Arc::clone(&el.mailbox);
        let waking = thread::spawn(move || mailbox.wake().is_ok());
        el.turn();
        assert!(waking.join().unwrap());
        assert_eq!((el.posted.len(), el.stops), (0, 0));
    });
}

#[test]
fn after_close_all_is_refused_and_no_word_was_lost_or_doubled_before() {
    model(3, || {
        let mut el = Looping::new(10);
        let posters = [el.poster(&[10, 11]), el.poster(&[20])];
        el.mailbox.take(&mut el.posted);
        el.mailbox.take(&mut el.posted);
        let seen = el.posted.len();
        el.mailbox.close();
        for refused in [el.mailbox.post(1), el.mailbox.stop(), el.mailbox.wake()] {
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::Closed);
        }
        let [first, second] = posters.map(|poster| kinds(&poster.join().unwrap()));
        el.stops += usize::from(el.mailbox.take(&mut el.posted));
        assert_eq!((el.posted.len(), el.stops), (seen, 0), "nothing after it");

        let closed = Some(ErrorKind::Closed);
        for (words, answers) in [(&[10, 11][..], first), (&[20][..], second)] {
            let taken = answers.iter().filter(|a| a.is_none()).count();
            assert!(answers[taken..].iter().all(|a| *a == closed), "{answers:?}");
            // What arrived is a beginning of what was taken; the loop ended before the rest.
            let arrived = el.arrived(words);
            assert_eq!(arrived, words[..arrived.len()]);
            assert!(arrived.len() <= taken, "{arrived:?} of {answers:?}");
        }
    });
}

#[test]
fn a_full_mailbox_refuses_the_word_and_nothing_else() {
    model(3, || {
        let mut el = Looping::new(1);
        let posters = [el.poster(&[10]), el.poster(&[20])];
        el.turn();
        let answers: Vec<_> = posters
            .into_iter()
            .flat_map(|poster| kinds(&poster.join().unwrap()))
            .collect();
        el.mailbox.take(&mut el.posted);
        for (word, answer) in [10, 20].into_iter().zip(answers) {
            let times = el.posted.iter().filter(|w| **w == word).count();
            match answer {
                None => assert_eq!(times, 1, "taken, so it arrives once"),
                Some(kind) => assert_eq!((kind, times), (ErrorKind::QueueFull, 0)),
            }
        }
        assert!(!el.posted.is_empty());
    });
}
