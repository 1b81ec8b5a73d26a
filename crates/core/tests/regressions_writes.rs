//! A write that fails says nothing of what was received: what the peer sent before it went comes
//! first, then the end.

mod util;

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use echoloop_core::{CloseReason, ConnId, ConnOptions, ErrorKind, Event, EventLoop, LoopOptions};
use util::real::{PATIENCE, Real, write_some};

const LAST_WORDS: &[u8] = b"413 too much\r\n";

/// What came of a connection from now to its end: bytes, the reason, and what was not sent.
fn to_the_end(el: &mut EventLoop, id: ConnId) -> (Vec<u8>, CloseReason, u64) {
    let mut received = Vec::new();
    for _ in 0..500 {
        el.poll(Some(Duration::from_millis(10))).unwrap();
        while let Some(event) = el.next_event() {
            match event {
                Event::Data { conn } => {
                    let mut view = el.conn(conn).unwrap();
                    received.extend_from_slice(view.received());
                    view.consume(usize::MAX);
                }
                Event::Closed {
                    conn,
                    reason,
                    unsent,
                } if conn == id => return (received, reason, unsent),
                _ => {}
            }
        }
    }
    panic!("waited in vain for the end after {} bytes", received.len());
}

/// A connection over a Unix socket, opened, and its other end.
fn unix(options: &ConnOptions) -> (EventLoop, ConnId, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut el = EventLoop::new(LoopOptions::default()).unwrap();
    let conn = el.adopt(ours, options).unwrap();
    assert_eq!(el.next_event(), Some(Event::Adopted { conn }));
    assert_eq!(el.next_event(), None);
    (el, conn, theirs)
}

#[test]
fn last_words_come_before_the_reset_that_a_small_send_meets() {
    let (mut el, conn, mut peer) = unix(&ConnOptions::default());
    peer.write_all(LAST_WORDS).unwrap();
    drop(peer);
    el.send(conn, b"more").unwrap();
    let end = to_the_end(&mut el, conn);
    assert_eq!(end, (LAST_WORDS.to_vec(), CloseReason::Reset, 4));
}

#[test]
fn last_words_come_before_the_reset_that_a_large_send_meets() {
    let (mut el, conn, mut peer) = unix(&ConnOptions::default());
    peer.write_all(LAST_WORDS).unwrap();
    drop(peer);
    let refused = el.send(conn, &[0; 100_000]).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Closing);
    let again = el.send(conn, b"more").unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Closing);
    assert!(!el.conn(conn).unwrap().may_send());
    let end = to_the_end(&mut el, conn);
    assert_eq!(end, (LAST_WORDS.to_vec(), CloseReason::Reset, 0));
}

#[test]
fn last_words_come_before_the_reset_that_several_small_sends_meet() {
    let (mut el, conn, mut peer) = unix(&ConnOptions::default());
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let other = el.adopt(ours, &ConnOptions::default()).unwrap();
    peer.write_all(LAST_WORDS).unwrap();
    drop(peer);
    for id in [conn, other, conn] {
        el.send(id, b"more").unwrap();
    }
    let end = to_the_end(&mut el, conn);
    assert_eq!(end, (LAST_WORDS.to_vec(), CloseReason::Reset, 8));
}

#[test]
fn all_that_a_peer_sent_before_it_went_is_handed_out() {
    let (mut el, conn, peer) = unix(&ConnOptions::default());
    let sent = socket2::SockRef::from(&peer);
    sent.set_send_buffer_size(4 << 20).unwrap();
    peer.set_nonblocking(true).unwrap();
    let mut written = 0;
    while let Ok(n) = (&peer).write(&[7; 5000]) {
        written += n;
    }
    drop(peer);
    el.send(conn, b"more").unwrap();
    let (received, reason, _) = to_the_end(&mut el, conn);
    assert!(written > 150_000, "{written}");
    assert_eq!((received.len(), reason), (written, CloseReason::Reset));
}

#[test]
fn last_words_come_before_the_reset_of_one_that_is_congested() {
    let (mut el, conn, mut peer) = unix(&ConnOptions::default());
    el.send(conn, &[0; 3 << 20]).unwrap();
    assert!(el.poll(Some(Duration::ZERO)).is_ok());
    assert_eq!(el.next_event(), Some(Event::Congested { conn }));
    peer.write_all(LAST_WORDS).unwrap();
    drop(peer);
    let (received, reason, unsent) = to_the_end(&mut el, conn);
    assert_eq!((&received[..], reason), (LAST_WORDS, CloseReason::Reset));
    assert!(unsent > 1 << 20);
}

/// What it holds may be all that keeps the loop over its budget.
#[test]
fn last_words_come_also_when_the_loop_is_over_its_budget() {
    let (ours, mut peer) = UnixStream::pair().unwrap();
    let mut el = EventLoop::new(LoopOptions {
        memory_budget: 1 << 20,
        ..LoopOptions::default()
    })
    .unwrap();
    let options = ConnOptions {
        high_mark: 8 << 20,
        ..ConnOptions::default()
    };
    let conn = el.adopt(ours, &options).unwrap();
    el.send(conn, &[0; 3 << 20]).unwrap();
    while el.next_event().is_some() {}
    peer.write_all(LAST_WORDS).unwrap();
    drop(peer);
    let (received, reason, _) = to_the_end(&mut el, conn);
    assert_eq!((&received[..], reason), (LAST_WORDS, CloseReason::Reset));
    while el.next_event().is_some() {}
    assert_eq!(el.buffered(), 0);
}

#[test]
fn last_words_come_before_the_reset_of_a_tcp_peer() {
    let mut real = Real::new(ConnOptions::default());
    let (mut client, conn) = real.pair();
    real.el.send(conn, b"nobody reads this").unwrap();
    assert_eq!(real.el.next_event(), None);
    write_some(&mut client, LAST_WORDS);
    drop(client); // With input unread: a reset.
    real.el.send(conn, b"more").unwrap();
    let end = to_the_end(&mut real.el, conn);
    assert_eq!(end, (LAST_WORDS.to_vec(), CloseReason::Reset, 4));
}

/// shutdown(2) answers ENOTCONN once the peer has reset.
#[test]
fn last_words_come_before_the_reset_that_a_half_close_meets() {
    let mut real = Real::new(ConnOptions::default());
    let (mut client, conn) = real.pair();
    real.el.send(conn, b"nobody reads this").unwrap();
    assert_eq!(real.el.next_event(), None);
    write_some(&mut client, LAST_WORDS);
    drop(client);
    real.el.conn(conn).unwrap().shutdown_write().unwrap();
    let end = to_the_end(&mut real.el, conn);
    assert_eq!(end, (LAST_WORDS.to_vec(), CloseReason::Reset, 0));
}

/// It takes no half-close, cannot move, cannot be piped; a close has nothing to wait for.
#[test]
fn a_connection_that_cannot_be_written_to_is_closing() {
    let (mut el, conn, mut peer) = unix(&ConnOptions::default());
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let other = el.adopt(ours, &ConnOptions::default()).unwrap();
    peer.write_all(LAST_WORDS).unwrap();
    drop(peer);
    el.send(conn, b"more").unwrap();
    assert_eq!(el.conn(conn).unwrap().flush(), 4);
    let closing = |e: echoloop_core::Error| assert_eq!(e.kind(), ErrorKind::Closing);
    closing(el.conn(conn).unwrap().shutdown_write().unwrap_err());
    closing(el.give_away(conn).unwrap_err());
    closing(el.hand_over(conn, &el.remote()).unwrap_err());
    closing(el.pipe(conn, other).unwrap_err());
    el.conn(conn).unwrap().close();
    let end = to_the_end(&mut el, conn);
    assert_eq!(end, (Vec::new(), CloseReason::Reset, 4));
}

/// One that is paused is not read from: the reset is told at once.
#[test]
fn a_paused_connection_learns_of_a_failed_write_at_once() {
    let (mut el, conn, mut peer) = unix(&ConnOptions::default());
    el.conn(conn).unwrap().pause();
    peer.write_all(LAST_WORDS).unwrap();
    drop(peer);
    el.send(conn, b"more").unwrap();
    let end = to_the_end(&mut el, conn);
    assert_eq!(end, (Vec::new(), CloseReason::Reset, 4));
}

#[test]
fn a_pause_while_last_words_are_read_ends_them() {
    let (mut el, conn, mut peer) = unix(&ConnOptions::default());
    peer.write_all(LAST_WORDS).unwrap();
    drop(peer);
    el.send(conn, b"more").unwrap();
    let heard = (0..10).any(|_| {
        el.poll(Some(Duration::ZERO)).unwrap();
        el.next_event() == Some(Event::Data { conn })
    });
    assert!(heard);
    el.conn(conn).unwrap().pause();
    let end = to_the_end(&mut el, conn);
    assert_eq!(end, (Vec::new(), CloseReason::Reset, 4));
}

/// A connection that ended with bytes unsent was closed in order, so its peer took half a stream for
/// all of it, and for one that never read the kernel kept its megabytes for minutes.
#[test]
fn a_peer_that_does_not_get_all_sees_a_reset_and_no_end() {
    let stall = ConnOptions {
        write_stall_timeout: Some(Duration::from_millis(50)),
        ..ConnOptions::default()
    };
    let close = ConnOptions {
        close_timeout: Duration::from_millis(50),
        ..ConnOptions::default()
    };
    for (options, closes) in [(stall, false), (close, true)] {
        let mut real = Real::new(options);
        let (mut peer, conn) = real.pair();
        let mut view = real.el.conn(conn).unwrap();
        view.send(&vec![0; 20 << 20]).unwrap();
        if closes {
            view.close();
        }
        let Event::Closed { unsent, .. } = real.until_closed(conn) else {
            unreachable!()
        };
        assert!(unsent > 0);
        let error = loop {
            match peer.read(&mut [0; 65_536]) {
                Ok(0) => panic!("an end of stream after a part of it"),
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
}

/// Promise 4: what the kernel took at the end of the loop it delivers, which a reset would take back.
#[test]
fn a_loop_that_is_dropped_leaves_to_the_kernel_what_it_took() {
    let mut real = Real::new(ConnOptions::default());
    let (mut peer, conn) = real.pair();
    peer.set_nonblocking(false).unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    real.el.send(conn, &vec![7; 20 << 20]).unwrap();
    let taken = (20 << 20) - real.el.conn(conn).unwrap().queued();
    drop(real);
    let mut got = Vec::new();
    peer.read_to_end(&mut got).unwrap();
    assert!(got.len() >= taken && taken > 0, "{} of {taken}", got.len());
}
