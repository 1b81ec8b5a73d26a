//! Where sockets are: IP addresses, Unix sockets, and names still to be resolved.
//!
//! The rule: one text form for each, the same in and out: `127.0.0.1:80`, `[::1]:80`,
//! `unix:/run/x.sock`, `unix:@name` (abstract, unix(7)) and, only as a target to connect to,
//! `host:port`. An [`Addr`] is what a socket has; a [`Target`] is what a program asks for. (What goes
//! in only: the scope of an IPv6 address by name, `[fe80::1%eth0]:80`; see `interface`.)

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use crate::{Error, ErrorKind, interface};

/// The address of a socket.
///
/// ```
/// use echoloop_core::Addr;
///
/// let ip: Addr = "127.0.0.1:7007".parse()?;
/// let unix: Addr = "unix:/run/echo.sock".parse()?;
/// assert_eq!((ip.to_string(), unix.to_string()), ("127.0.0.1:7007".into(), "unix:/run/echo.sock".into()));
/// # Ok::<(), echoloop_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Addr {
    /// An IP address and a port.
    Ip(SocketAddr),
    /// A Unix socket, unix(7).
    Unix(UnixAddr),
}

/// The address of a Unix socket: a path, an abstract name (Linux), or none.
///
/// A socket that connected without binding first has none; most clients do.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct UnixAddr(Option<Arc<[u8]>>);

/// What to connect to: an address, or a name and a port.
///
/// ```
/// use echoloop_core::Target;
///
/// let name: Target = "localhost:7007".parse()?;
/// assert!(matches!(name, Target::Name { port: 7007, .. }));
/// assert!(matches!("[::1]:7007".parse()?, Target::Addr(_)));
/// # Ok::<(), echoloop_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Target {
    /// An address.
    Addr(Addr),
    /// A host's name, to be resolved, and a port.
    Name {
        /// The name, as the system's resolver takes it.
        host: Arc<str>,
        /// The port.
        port: u16,
    },
}

/// The longest name that a resolver takes (RFC 1035, 2.3.4), and a final dot.
const NAME_MAX: usize = 254;

impl Addr {
    /// The IP address and port, if it is one.
    #[must_use]
    pub fn ip(&self) -> Option<SocketAddr> {
        match self {
            Self::Ip(addr) => Some(*addr),
            Self::Unix(_) => None,
        }
    }

    /// The Unix address, if it is one.
    #[must_use]
    pub fn unix(&self) -> Option<&UnixAddr> {
        match self {
            Self::Ip(_) => None,
            Self::Unix(addr) => Some(addr),
        }
    }
}

impl UnixAddr {
    /// The address of a socket file.
    #[must_use]
    pub fn path(path: impl AsRef<Path>) -> Self {
        Self(Some(path.as_ref().as_os_str().as_bytes().into()))
    }

    /// An abstract name, which lives as long as its socket and has no file (Linux).
    #[must_use]
    pub fn abstract_name(name: impl AsRef<[u8]>) -> Self {
        let bytes = std::iter::once(0).chain(name.as_ref().iter().copied());
        Self(Some(bytes.collect()))
    }

    /// The path, if it has one.
    #[must_use]
    pub fn as_path(&self) -> Option<&Path> {
        match self.0.as_deref() {
            None | Some([0, ..]) => None,
            Some(path) => Some(Path::new(std::ffi::OsStr::from_bytes(path))),
        }
    }

    /// The abstract name, if it has one, without the zero byte that marks it.
    #[must_use]
    pub fn as_abstract_name(&self) -> Option<&[u8]> {
        match self.0.as_deref() {
            Some([0, name @ ..]) => Some(name),
            _ => None,
        }
    }
}

impl From<SocketAddr> for Addr {
    fn from(addr: SocketAddr) -> Self {
        Self::Ip(addr)
    }
}

impl From<UnixAddr> for Addr {
    fn from(addr: UnixAddr) -> Self {
        Self::Unix(addr)
    }
}

impl From<&Addr> for Addr {
    fn from(addr: &Addr) -> Self {
        addr.clone()
    }
}

impl FromStr for Addr {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if let Some(unix) = text.strip_prefix("unix:") {
            return match unix.strip_prefix('@') {
                Some("") => invalid("abstract name is empty"),
                Some(name) if name.contains(char::is_control) => {
                    invalid("abstract name has a control character")
                }
                Some(name) => Ok(UnixAddr::abstract_name(name).into()),
                None if unix.is_empty() => invalid("path of the Unix socket is empty"),
                None if unix.contains('\0') => invalid("path of the Unix socket has a zero byte"),
                None => Ok(UnixAddr::path(unix).into()),
            };
        }
        if let Ok(addr) = text.parse() {
            return Ok(Self::Ip(addr));
        }
        match interface::scoped(text) {
            Some(scoped) => Ok(Self::Ip(scoped?)),
            None => invalid(
                "not an address; they look like 127.0.0.1:7007, [::1]:7007 or unix:/run/x.sock",
            ),
        }
    }
}

impl TryFrom<&str> for Addr {
    type Error = Error;

    fn try_from(text: &str) -> Result<Self, Error> {
        text.parse()
    }
}

impl<A: Into<Addr>> From<A> for Target {
    fn from(addr: A) -> Self {
        Self::Addr(addr.into())
    }
}

impl FromStr for Target {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let not_ip = match text.parse::<Addr>() {
            Ok(addr) => return Ok(addr.into()),
            Err(e) => e,
        };
        let Some((host, port)) = text.rsplit_once(':') else {
            return invalid("not an address and not HOST:PORT, such as localhost:7007");
        };
        if text.starts_with("unix:") || text.starts_with('[') {
            return Err(not_ip);
        }
        let port = Some(port).filter(|p| p.bytes().all(|b| b.is_ascii_digit()));
        let Some(port) = port.and_then(|p| p.parse().ok()) else {
            return invalid("port is not a number from 0 to 65535");
        };
        check_host(host)?;
        let host = host.into();
        Ok(Self::Name { host, port })
    }
}

impl TryFrom<&str> for Target {
    type Error = Error;

    fn try_from(text: &str) -> Result<Self, Error> {
        text.parse()
    }
}

impl TryFrom<(&str, u16)> for Target {
    type Error = Error;

    fn try_from((host, port): (&str, u16)) -> Result<Self, Error> {
        match host.parse() {
            Ok(ip) => Ok(SocketAddr::new(ip, port).into()),
            Err(_) => format!("{host}:{port}").parse(),
        }
    }
}

impl From<Infallible> for Error {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(addr) => addr.fmt(f),
            Self::Unix(addr) => addr.fmt(f),
        }
    }
}

impl fmt::Display for UnixAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unix:")?;
        if let Some(path) = self.as_path() {
            return path.display().fmt(f);
        }
        match self.as_abstract_name() {
            Some(name) => match std::str::from_utf8(name) {
                Ok(name) if !name.contains(char::is_control) => write!(f, "@{name}"),
                _ => write!(f, "@{}", name.escape_ascii()),
            },
            None => Ok(()),
        }
    }
}

impl fmt::Debug for UnixAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Addr(addr) => addr.fmt(f),
            Self::Name { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

/// Refuses what no resolver should be asked.
pub(crate) fn check_host(host: &str) -> Result<(), Error> {
    let strange = |c: char| c.is_whitespace() || c.is_control() || "[]:/%@".contains(c);
    if host.is_empty() || host.len() > NAME_MAX || host.contains(strange) {
        return invalid("host name is empty, too long, or has a character no name has");
    }
    Ok(())
}

fn invalid<T>(why: &'static str) -> Result<T, Error> {
    Err(Error::new("parse address", ErrorKind::InvalidInput(why)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_comes_out_as_it_went_in() {
        let forms = "127.0.0.1:80 [::1]:80 unix:/run/x.sock unix:rel.sock unix:@name unix:@é\\ host:80 a.b.:1";
        for text in forms.split(' ') {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_address_and_no_name_says_why() {
        for text in [
            "",
            ":",
            ":80",
            "host",
            "host:",
            "host:65536",
            "host:http",
            "host:+80",
            "a b:80",
            "[::1:80",
            "::1:80",
            "unix:",
            "unix:@",
            "unix:@a\nb",
            "unix:a\0b",
            "a/b:80",
            "user@host:80",
            "h%eth0:1",
        ] {
            let e = text.parse::<Target>().unwrap_err();
            assert!(
                matches!(e.kind(), ErrorKind::InvalidInput(_)),
                "{text}: {e}"
            );
        }
        assert!("host:80".parse::<Addr>().is_err());
    }

    #[test]
    fn a_host_and_a_port_may_be_an_address() {
        let target = Target::try_from(("::1", 80)).unwrap();
        assert_eq!(target.to_string(), "[::1]:80");
        let target = Target::try_from(("localhost", 80)).unwrap();
        assert_eq!(target.to_string(), "localhost:80");
    }
}
