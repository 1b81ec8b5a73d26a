//! Network interfaces of this machine, by name: in scoped IPv6 addresses and for multicast.
//!
//! The rule: a name is looked up where it is parsed, if_nametoindex(3), and only its number is
//! kept; what is told of an address again has the number (`[fe80::1%2]:80`), which no renaming
//! changes.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use crate::{Error, ErrorKind};

/// A network interface of this machine, for multicast.
///
/// Its text is a number, an IPv4 address or a name: `2`, `192.0.2.1`, `eth0`.
///
/// ```
/// use echoloop_core::Interface;
///
/// assert_eq!("2".parse::<Interface>()?, Interface::Index(2));
/// assert_eq!("192.0.2.1".parse::<Interface>()?, Interface::Addr([192, 0, 2, 1].into()));
/// assert!("no such interface".parse::<Interface>().is_err());
/// # Ok::<(), echoloop_core::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub enum Interface {
    /// The one that the routing table has for the group.
    #[default]
    Default,
    /// By number, as `ip link` and if_nametoindex(3) have it.
    Index(u32),
    /// By one of its addresses; for IPv4 only.
    Addr(Ipv4Addr),
}

impl FromStr for Interface {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if let Ok(index) = text.parse() {
            return Ok(Self::Index(index));
        }
        if let Ok(addr) = text.parse() {
            return Ok(Self::Addr(addr));
        }
        index(text).map(Self::Index)
    }
}

/// An address whose scope is a name, `[fe80::1%eth0]:80` (RFC 4007, 11); `None` for what does not
/// look like one.
pub(crate) fn scoped(text: &str) -> Option<Result<SocketAddr, Error>> {
    let (host, rest) = text.strip_prefix('[')?.split_once('%')?;
    let (name, port) = rest.rsplit_once("]:")?;
    host.parse::<Ipv6Addr>().ok()?;
    let index = match index(name) {
        Ok(index) => index,
        Err(e) => return Some(Err(e)),
    };
    format!("[{host}%{index}]:{port}").parse().ok().map(Ok)
}

fn index(name: &str) -> Result<u32, Error> {
    nix::net::if_::if_nametoindex(name).map_err(|_| {
        let why = "no network interface of this machine has the name";
        Error::new("parse address", ErrorKind::InvalidInput(why))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Addr;

    #[test]
    fn a_scope_by_name_comes_out_as_its_number() {
        let name = if cfg!(target_os = "linux") {
            "lo"
        } else {
            "lo0"
        };
        let number = index(name).unwrap();
        let addr: Addr = format!("[fe80::1%{name}]:80").parse().unwrap();
        assert_eq!(addr.to_string(), format!("[fe80::1%{number}]:80"));
        let by_name: Interface = name.parse().unwrap();
        assert_eq!(by_name, Interface::Index(number));
    }

    #[test]
    fn a_scope_that_no_interface_has_says_so() {
        for text in ["[fe80::1%no such]:80", "[fe80::1%]:80", "[::1%a\0b]:80"] {
            let e = text.parse::<Addr>().unwrap_err();
            assert!(e.to_string().contains("no network interface"), "{e}");
        }
        for text in [
            "[fe80::1%lo]:",
            "[fe80::1%lo]:x",
            "[fe80::1%lo]",
            "[1%lo]:80",
        ] {
            assert!(text.parse::<Addr>().is_err(), "{text}");
        }
    }
}
