//! Connections that come from elsewhere, and go elsewhere: adopt, give away, hand over.
//!
//! The rule: a descriptor changes hands only when the call succeeds. One that is taken is the loop's,
//! one that is given is the program's. The bytes of the last connection that was given away stay with
//! its loop until they can't be wanted any more.

use std::ffi::{c_int, c_void};
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::{mem, ptr};

use echoloop_core::{ConnId, GivenAway, Kind};

use crate::convert::pointer;
use crate::detail::{Refused, returned};
use crate::guard::{lend, lend_server};
use crate::handle::{handle, raw};
use crate::options::conn_options;
use crate::pointer::{check_out, check_sized, write, write_sized};
use crate::registry::find;
use crate::{
    ECHOLOOP_EINVAL, ECHOLOOP_EREENTRY, echoloop, echoloop_conn, echoloop_conn_options,
    echoloop_remote, remote,
};

/// A connection that was given away. Start with ECHOLOOP_GIVEN_INIT.
///
/// The bytes are readable until the callback returns in which it was given away, else until the next
/// call for events on its loop; but no longer than until the next echoloop_give_away() on that loop, or
/// its free.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct echoloop_given {
    /// sizeof(echoloop_given); ECHOLOOP_GIVEN_INIT sets it.
    pub size: usize,
    /// The socket, connected, non-blocking and close-on-exec; it is the program's now, to close(2).
    pub fd: c_int,
    /// Not 0: echoloop_conn_shutdown_write() was called; what is unsent is the last that the peer is
    /// to get.
    pub finishing: c_int,
    /// What was received and not used: it comes before all that is still to be read from fd.
    pub unread: *const u8,
    /// How many bytes that is.
    pub unread_len: usize,
    /// What was sent and not taken by the kernel: it comes before all that is still to be written.
    pub unsent: *const u8,
    /// How many bytes that is.
    pub unsent_len: usize,
    /// What echoloop_conn_set_user() kept.
    pub user: *mut c_void,
}

/// The bytes of a connection that was given away.
#[derive(Default)]
pub(crate) struct Given {
    unread: Vec<u8>,
    unsent: Vec<u8>,
}

/// Takes over a connected stream socket, TCP or Unix, that was made elsewhere: accepted by another
/// library, inherited, or one end of a socketpair(2). options may be NULL. It is made non-blocking and
/// close-on-exec. Its first event is on_open with a NULL listener, or ADOPTED; then it is a connection
/// as any other. What the kernel holds for it already is read as if it arrived now.
///
/// On success fd is the loop's; after an error it is still open, and the caller's. fd must be the
/// program's own, not one that another loop or library has. Errors: -EBADF, -ENOTSOCK; -ENOTCONN for
/// one that is not connected, or no longer; ECHOLOOP_EINVAL for one that is no stream socket, or
/// listens; -EEXIST for one that this loop has already; the system's for an option that it refuses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_adopt(
    r#loop: *mut echoloop,
    fd: c_int,
    options: *const echoloop_conn_options,
    out: *mut *mut echoloop_conn,
) -> c_int {
    returned(check_out("adopt", out).and_then(|()| {
        // SAFETY: header, "Pointers".
        let options = unsafe { conn_options("adopt", options) }?;
        let conn = lend_server("adopt", raw(r#loop), Kind::Loop, |server| {
            // SAFETY: header, "Pointers": a descriptor that is passed is the program's own.
            let socket = unsafe { take_descriptor("adopt", fd) }?;
            server.event_loop().adopt(socket, &options).map_err(|e| {
                let _ = e.socket.into_raw_fd(); // Stays open, and the caller's.
                Refused::from(e.error)
            })
        })?;
        // SAFETY: header, "Pointers": out is writable for a handle; it is not NULL.
        unsafe { write(out, handle(conn.to_raw())) };
        Ok(0)
    }))
}

/// Gives a connection to the caller: it leaves its loop and is not shut down, and the peer notices
/// nothing. What is queued is offered to the kernel once more; *out has the rest, and the descriptor
/// (out->size must be set). The connection still ends with its CLOSED, as ECHOLOOP_CLOSE_GIVEN_AWAY.
///
/// Data in hand, of on_data or of a batch, counts as used: put back what is to go along, by
/// echoloop_conn_unread(), before this call; on_data then returns len.
///
/// Errors: ECHOLOOP_ECLOSING for one that is closing or dead; ECHOLOOP_EINVAL for one that is still
/// connecting, or piped; ECHOLOOP_ENOMEM. Then nothing has changed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_give_away(
    conn: *mut echoloop_conn,
    out: *mut echoloop_given,
) -> c_int {
    const OPERATION: &str = "give away";
    // SAFETY: header, "Structs": NULL, or readable and writable for its size.
    let size = unsafe { check_sized(OPERATION, out) };
    returned(size.and_then(|size| {
        if size < FIRST_SIZE {
            // The descriptor would be lost.
            let why = format_args!("the struct is smaller than any header's");
            return Err(Refused::because(OPERATION, ECHOLOOP_EINVAL, why));
        }
        let cell = find(OPERATION, raw(conn), Kind::Conn)?;
        let Ok(mut kept) = cell.given.try_borrow_mut() else {
            return Err(Refused::new(OPERATION, ECHOLOOP_EREENTRY));
        };
        let given = lend(OPERATION, raw(conn), Kind::Conn, |el| {
            Ok(el.give_away(ConnId::from_raw(raw(conn)))?)
        })?;
        let value = kept.keep(given, size);
        // SAFETY: passed `check_sized`, which said `size`.
        unsafe { write_sized(out, size, &value) };
        Ok(0)
    }))
}

/// Hands a connection to the loop of a remote, which may run on another thread. It travels in order
/// with what is posted there, together with its options, its user pointer and all bytes on their way
/// (for data in hand see echoloop_give_away()).
/// There it begins, under another handle, with on_open (listener NULL) or ADOPTED; what was unread is
/// offered again, what was unsent is sent first, an end of stream is told again. A pause does not
/// travel. Here it ends with CLOSED, as ECHOLOOP_CLOSE_GIVEN_AWAY.
///
/// Errors: as echoloop_give_away(); ECHOLOOP_ECLOSED when the other loop is gone,
/// ECHOLOOP_EQUEUEFULL when post_capacity words wait there. Then the connection stays here, intact.
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_hand_over(
    conn: *mut echoloop_conn,
    remote: *mut echoloop_remote,
) -> c_int {
    returned(lend("hand over", raw(conn), Kind::Conn, |el| {
        let to = remote::find("hand over", remote)?;
        el.hand_over(ConnId::from_raw(raw(conn)), &to)?;
        Ok(0)
    }))
}

/// The size of the struct in the first header that had it.
const FIRST_SIZE: usize = mem::offset_of!(echoloop_given, user) + size_of::<*mut c_void>();

impl Given {
    /// A turn later nobody may read them any more.
    #[inline]
    pub(crate) fn forget(&mut self) {
        if self.unread.capacity() | self.unsent.capacity() > 0 {
            *self = Self::default();
        }
    }

    fn keep(&mut self, given: GivenAway, size: usize) -> echoloop_given {
        self.unread = given.unread;
        self.unsent = given.unsent;
        echoloop_given {
            size,
            fd: given.socket.into_raw_fd(),
            finishing: given.finishing.into(),
            unread: start_of(&self.unread),
            unread_len: self.unread.len(),
            unsent: start_of(&self.unsent),
            unsent_len: self.unsent.len(),
            user: pointer(given.user_data),
        }
    }
}

/// NULL where there are none.
fn start_of(bytes: &[u8]) -> *const u8 {
    match bytes.is_empty() {
        true => ptr::null(),
        false => bytes.as_ptr(),
    }
}

/// The descriptor of an argument, which is closed unless it is let go by `into_raw_fd`.
///
/// # Safety
///
/// If it is open, it is the caller's to give.
pub(crate) unsafe fn take_descriptor(
    operation: &'static str,
    fd: c_int,
) -> Result<OwnedFd, Refused> {
    // SAFETY: F_GETFD takes any number, and no pointer.
    if unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
        return Err(Refused::because(
            operation,
            -libc::EBADF,
            format_args!("descriptor {fd} is not open"),
        ));
    }
    // SAFETY: it is open by the above, so it is not -1, and it is the caller's to give.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
