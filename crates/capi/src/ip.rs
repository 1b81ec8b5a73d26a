//! Binary addresses as C sees them, and their texts.
//!
//! The rule: an address that came from the library goes back in as it is, with nothing parsed and
//! nothing allocated; text is for people. What C fills in by hand is checked where it is used.

use std::ffi::{c_char, c_int};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::ptr;

use echoloop_core::Addr;

use crate::detail::{Refused, returned};
use crate::pointer::{c_text, check_out, write};
use crate::text::FixedText;
use crate::{ECHOLOOP_EINVAL, ECHOLOOP_ENULL};

/// Bytes of the longest text of an IP address, its end mark included.
const LONGEST: usize = 64;

/// An IP address and a port, plain data: it may be kept, copied and compared by memcmp(3).
/// echoloop_ip_parse() makes one of text, echoloop_ip_text() the reverse.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct echoloop_ip {
    /// The address in network order: 16 bytes, or 4 and 12 zeros.
    pub bytes: [u8; 16],
    /// The number of the interface of a link-local IPv6 address, ipv6(7); else 0.
    pub scope: u32,
    /// The port, in the order of this machine.
    pub port: u16,
    /// 4 or 6; 0: no address.
    pub version: u8,
    /// Always 0.
    pub reserved: u8,
}

/// Makes an address of its text: "127.0.0.1:7007", "[::1]:7007", "[fe80::1%eth0]:7007" (or %2, the
/// number of the interface), or without a port, which then is 0: "127.0.0.1", "::1",
/// "fe80::1%eth0". Errors: ECHOLOOP_EINVAL for anything else; a name is for echoloop_resolve().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_ip_parse(text: *const c_char, out: *mut echoloop_ip) -> c_int {
    let operation = "parse address";
    returned(check_out(operation, out).and_then(|()| {
        // SAFETY: header, "Pointers": NULL, or a string with an end mark.
        let addr = unsafe { ip_or_host(operation, text) }?;
        // SAFETY: header, "Pointers": out is writable for an address; it is not NULL.
        unsafe { write(out, echoloop_ip::of(addr)) };
        Ok(0)
    }))
}

/// Writes the text of an address to buf and returns its length without the end mark: with the port,
/// "[fe80::1%2]:7007", or without one that is 0, "fe80::1%2". echoloop_ip_parse() reads it again.
/// ECHOLOOP_ADDR_MAX bytes always suffice; ECHOLOOP_EINVAL if capacity does not, and for a version
/// that is not 4 or 6.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_ip_text(
    ip: *const echoloop_ip,
    buf: *mut c_char,
    capacity: usize,
) -> c_int {
    let operation = "text of an address";
    returned(check_out(operation, buf).and_then(|()| {
        // SAFETY: header, "Pointers": NULL, or ip is readable.
        let addr = unsafe { socket_addr(operation, ip) }?;
        let text = match (addr, addr.port()) {
            (SocketAddr::V6(v6), 0) if v6.scope_id() != 0 => {
                FixedText::<LONGEST>::of(format_args!("{}%{}", v6.ip(), v6.scope_id()))
            }
            (_, 0) => FixedText::of(format_args!("{}", addr.ip())),
            _ => FixedText::of(format_args!("{addr}")),
        };
        let bytes = text.with_end();
        if bytes.len() > capacity {
            let why = "the buffer is too small; ECHOLOOP_ADDR_MAX bytes always suffice";
            return Err(Refused::because(
                operation,
                ECHOLOOP_EINVAL,
                format_args!("{why}"),
            ));
        }
        // SAFETY: header, "Pointers": buf is writable for capacity bytes; no more are written.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr().cast(), buf, bytes.len()) };
        Ok(bytes.len() as c_int - 1)
    }))
}

impl echoloop_ip {
    pub(crate) fn of(addr: SocketAddr) -> Self {
        let scope = match addr {
            SocketAddr::V4(_) => 0,
            SocketAddr::V6(v6) => v6.scope_id(),
        };
        Self {
            scope,
            port: addr.port(),
            ..Self::of_host(addr.ip())
        }
    }

    pub(crate) fn of_host(host: IpAddr) -> Self {
        let mut ip = Self::default();
        match host {
            IpAddr::V4(v4) => {
                ip.version = 4;
                ip.bytes[..4].copy_from_slice(&v4.octets());
            }
            IpAddr::V6(v6) => {
                ip.version = 6;
                ip.bytes = v6.octets();
            }
        }
        ip
    }

    /// The address, unless its version is none.
    #[inline]
    pub(crate) fn addr(&self) -> Option<SocketAddr> {
        let [a, b, c, d, ..] = self.bytes;
        match self.version {
            4 => Some((Ipv4Addr::new(a, b, c, d), self.port).into()),
            6 => {
                let host = Ipv6Addr::from(self.bytes);
                Some(SocketAddrV6::new(host, self.port, 0, self.scope).into())
            }
            _ => None,
        }
    }
}

/// An address that C gave; NULL and one without a version are refused.
///
/// # Safety
///
/// `ip` is NULL or readable.
#[inline]
pub(crate) unsafe fn socket_addr(
    operation: &'static str,
    ip: *const echoloop_ip,
) -> Result<SocketAddr, Refused> {
    if ip.is_null() {
        return Err(Refused::new(operation, ECHOLOOP_ENULL));
    }
    // SAFETY: the caller's.
    match unsafe { ip.read_unaligned() }.addr() {
        Some(addr) => Ok(addr),
        None => Err(Refused::because(
            operation,
            ECHOLOOP_EINVAL,
            format_args!("an address whose version is neither 4 nor 6"),
        )),
    }
}

/// An address with a port from its text.
///
/// # Safety
///
/// `text` is NULL or a string with an end mark.
pub(crate) unsafe fn ip_with_port(
    operation: &'static str,
    text: *const c_char,
) -> Result<SocketAddr, Refused> {
    // SAFETY: the caller's.
    unsafe { parsed(operation, text, with_port) }
}

/// An address from its text, with a port or without.
///
/// # Safety
///
/// `text` is NULL or a string with an end mark.
pub(crate) unsafe fn ip_or_host(
    operation: &'static str,
    text: *const c_char,
) -> Result<SocketAddr, Refused> {
    // SAFETY: the caller's.
    unsafe { parsed(operation, text, |text| with_port(text).or(host(text))) }
}

/// # Safety
///
/// `text` is NULL or a string with an end mark.
unsafe fn parsed(
    operation: &'static str,
    text: *const c_char,
    parse: impl FnOnce(&str) -> Option<SocketAddr>,
) -> Result<SocketAddr, Refused> {
    if text.is_null() {
        return Err(Refused::new(operation, ECHOLOOP_ENULL));
    }
    // SAFETY: the caller's.
    let text = unsafe { c_text(operation, text) }?;
    text.to_str().ok().and_then(parse).ok_or_else(|| {
        let text = text.to_string_lossy();
        let why = format_args!(
            "\"{text}\" is no IP address; they look like 127.0.0.1:7007, [::1]:7007 or [fe80::1%eth0]:7007"
        );
        Refused::because(operation, ECHOLOOP_EINVAL, why)
    })
}

fn with_port(text: &str) -> Option<SocketAddr> {
    text.parse::<Addr>().ok()?.ip()
}

fn host(text: &str) -> Option<SocketAddr> {
    match text.parse::<Ipv4Addr>() {
        Ok(v4) => Some((v4, 0).into()),
        Err(_) => with_port(&format!("[{text}]:0")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_address_is_an_address() {
        for text in ["127.0.0.1", "::1", "fe80::1%3", "::ffff:1.2.3.4"] {
            assert_eq!(host(text).unwrap().port(), 0, "{text}");
        }
        for text in [
            "",
            "[::1]",
            "::1]:80[::",
            "1.2.3",
            "localhost",
            "unix:/x",
            "::1%no such",
        ] {
            assert!(with_port(text).or(host(text)).is_none(), "{text}");
        }
    }

    #[test]
    fn the_longest_text_of_an_address_fits() {
        let mut ip = echoloop_ip::of_host(Ipv6Addr::from([0xab; 16]).into());
        (ip.scope, ip.port) = (u32::MAX, u16::MAX);
        assert!(ip.addr().unwrap().to_string().len() < LONGEST);
    }
}
