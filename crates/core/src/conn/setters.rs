//! Options that may change while a connection lives.
//!
//! The rule: a setter changes this connection's own copy of the options, and what follows from it
//! at once. What the kernel refuses is an error that names the option, and changes nothing.

use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;

use crate::sys::{SocketOption, System};
use crate::{Connection, Error, Keepalive};

impl<S: System> Connection<'_, S> {
    /// Sets or removes the idle timeout, counted from the last byte that moved.
    pub fn set_idle_timeout(&mut self, timeout: Option<Duration>) {
        Arc::make_mut(&mut self.conn_mut().options).idle_timeout = timeout;
        self.el.arm(self.slot);
    }

    /// Sets or removes the [`lifetime`](crate::ConnOptions::lifetime), counted from when the
    /// connection was opened: one that is over closes the connection in the next turn.
    pub fn set_lifetime(&mut self, lifetime: Option<Duration>) {
        Arc::make_mut(&mut self.conn_mut().options).lifetime = lifetime;
        self.el.arm(self.slot);
    }

    /// Sets or removes the write-stall timeout, counted from the last byte the peer took.
    pub fn set_write_stall_timeout(&mut self, timeout: Option<Duration>) {
        Arc::make_mut(&mut self.conn_mut().options).write_stall_timeout = timeout;
        self.el.arm(self.slot);
    }

    /// Sets [`nodelay`](crate::ConnOptions::nodelay).
    ///
    /// # Errors
    ///
    /// The system's, and `EOPNOTSUPP` on a Unix socket; `EBADF` while there is no socket: once the
    /// connection is dead, and as long as it is being made by name. The operation names the option.
    pub fn set_nodelay(&mut self, on: bool) -> Result<(), Error> {
        self.set_option("set TCP_NODELAY", SocketOption::Nodelay(on))?;
        Arc::make_mut(&mut self.conn_mut().options).nodelay = on;
        Ok(())
    }

    /// Sets or ends [`keepalive`](crate::ConnOptions::keepalive).
    ///
    /// # Errors
    ///
    /// As [`set_nodelay`](Self::set_nodelay); `EINVAL` for times that Linux does not take (0, or
    /// above 32,767 s, or more than 127 questions).
    pub fn set_keepalive(&mut self, keepalive: Option<Keepalive>) -> Result<(), Error> {
        const NAME: &str = "set SO_KEEPALIVE";
        let set = self.set_option(NAME, SocketOption::Keepalive(keepalive));
        if let Err(e) = set {
            // It is several options of the kernel, of which some may have been taken.
            let former = self.conn_mut().options.keepalive;
            let _ = self.set_option(NAME, SocketOption::Keepalive(former));
            return Err(e);
        }
        Arc::make_mut(&mut self.conn_mut().options).keepalive = keepalive;
        Ok(())
    }

    /// Sets or ends [`notsent_lowat`](crate::ConnOptions::notsent_lowat), in bytes.
    ///
    /// # Errors
    ///
    /// As [`set_nodelay`](Self::set_nodelay).
    pub fn set_notsent_lowat(&mut self, bytes: Option<u32>) -> Result<(), Error> {
        self.set_option("set TCP_NOTSENT_LOWAT", SocketOption::NotsentLowat(bytes))?;
        Arc::make_mut(&mut self.conn_mut().options).notsent_lowat = bytes;
        Ok(())
    }

    fn set_option(&mut self, name: &'static str, option: SocketOption) -> Result<(), Error> {
        let el = &mut *self.el;
        let Some(socket) = el.conns.get(self.slot).and_then(|c| c.socket.as_ref()) else {
            return Err(Error::os(name, Errno::BADF));
        };
        let set = el.sys.set(socket, option);
        set.map_err(|e| el.option_or(name, e))
    }
}
