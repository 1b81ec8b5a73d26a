//! The texts of addresses, from C and to C.
//!
//! The rule: what is written can be read again and means the same socket, save for an abstract name
//! with control characters, which is escaped. Paths are bytes here, as they are for the system; the
//! core's own text of one that is not UTF-8 is for people. What may be a name, and what is wrong with
//! a text, the core says.

use std::ffi::{OsStr, c_char};
use std::fmt::{self, Write};
use std::os::unix::ffi::OsStrExt;

use echoloop_core::{Addr, Error, ErrorKind, Target, UnixAddr};

use crate::detail::Refused;
use crate::pointer::c_text;
use crate::{ECHOLOOP_EINVAL, ECHOLOOP_ENULL};

/// Bytes that always suffice for the text of an address or target, its end mark included: an abstract
/// name all of whose bytes are escaped.
pub const ECHOLOOP_ADDR_MAX: usize = 448;

/// Bytes of a Unix socket's path, unix(7).
const UNIX_PATH: usize =
    size_of::<libc::sockaddr_un>() - std::mem::offset_of!(libc::sockaddr_un, sun_path);
/// Characters that stand for one byte where it is escaped: `\x00`.
const ESCAPED: usize = 4;
/// The longest name of a host, with its final dot.
const HOST: usize = 254;

// Larger, by the end mark.
const _: () = assert!(ECHOLOOP_ADDR_MAX > "unix:./".len() + UNIX_PATH);
const _: () = assert!(ECHOLOOP_ADDR_MAX > "unix:@".len() + ESCAPED * (UNIX_PATH - 1));
const _: () = assert!(ECHOLOOP_ADDR_MAX > HOST + ":65535".len());

/// What to connect to, from its text.
///
/// # Safety
///
/// `text` is NULL or a string with an end mark.
pub(crate) unsafe fn target(
    operation: &'static str,
    text: *const c_char,
) -> Result<Target, Refused> {
    // SAFETY: the caller's.
    unsafe { parse(operation, text, str::parse) }
}

/// What to listen on, from its text.
///
/// # Safety
///
/// `text` is NULL or a string with an end mark.
pub(crate) unsafe fn addr(operation: &'static str, text: *const c_char) -> Result<Addr, Refused> {
    // SAFETY: the caller's.
    unsafe { parse(operation, text, str::parse) }
}

/// # Safety
///
/// `text` is NULL or a string with an end mark.
unsafe fn parse<T: From<Addr>>(
    operation: &'static str,
    text: *const c_char,
    of_text: impl FnOnce(&str) -> Result<T, Error>,
) -> Result<T, Refused> {
    if text.is_null() {
        return Err(Refused::new(operation, ECHOLOOP_ENULL));
    }
    // SAFETY: the caller's.
    let given = unsafe { c_text(operation, text) }?;
    let parsed = match given.to_str() {
        Ok(text) => of_text(text),
        Err(_) => unix_of_bytes(given.to_bytes()).map(T::from),
    };
    parsed.map_err(|e| {
        let (given, why) = (given.to_string_lossy(), e.kind());
        Refused::because(
            operation,
            ECHOLOOP_EINVAL,
            format_args!("\"{given}\": {why}"),
        )
    })
}

/// A Unix socket whose path or name is not UTF-8.
fn unix_of_bytes(text: &[u8]) -> Result<Addr, Error> {
    let invalid = |why| Err(Error::new("parse address", ErrorKind::InvalidInput(why)));
    match text.strip_prefix(b"unix:") {
        None => invalid("not UTF-8, and no Unix socket"),
        Some([b'@', name @ ..]) if name.iter().any(u8::is_ascii_control) => {
            invalid("abstract name has a control character")
        }
        Some([b'@', name @ ..]) => Ok(UnixAddr::abstract_name(name).into()),
        Some(path) => Ok(UnixAddr::path(OsStr::from_bytes(path)).into()),
    }
}

/// The text of an address, or of what to connect to, as bytes.
pub(crate) struct AddrText {
    bytes: [u8; ECHOLOOP_ADDR_MAX],
    len: usize,
}

impl AddrText {
    pub(crate) fn of(addr: &Addr) -> Self {
        match addr {
            Addr::Ip(ip) => Self::formatted(format_args!("{ip}")),
            Addr::Unix(unix) => Self::of_unix(unix),
        }
    }

    pub(crate) fn of_target(target: &Target) -> Self {
        match target {
            Target::Addr(addr) => Self::of(addr),
            Target::Name { host, port } => Self::formatted(format_args!("{host}:{port}")),
        }
    }

    /// The text with its end mark.
    pub(crate) fn with_end(&self) -> &[u8] {
        &self.bytes[..=self.len]
    }

    fn of_unix(unix: &UnixAddr) -> Self {
        let mut text = Self::formatted(format_args!("unix:"));
        if let Some(path) = unix.as_path() {
            let path = path.as_os_str().as_bytes();
            if path.first() == Some(&b'@') {
                text.push(b"./"); // Else it would be read as an abstract name.
            }
            text.push(path);
        } else if let Some(name) = unix.as_abstract_name() {
            text.push(b"@");
            let plain = match std::str::from_utf8(name) {
                Ok(name) => !name.contains(char::is_control),
                Err(_) => !name.iter().any(u8::is_ascii_control),
            };
            match plain {
                true => text.push(name),
                false => text.push_text(format_args!("{}", name.escape_ascii())),
            }
        }
        text
    }

    fn formatted(text: fmt::Arguments<'_>) -> Self {
        let mut empty = Self {
            bytes: [0; ECHOLOOP_ADDR_MAX],
            len: 0,
        };
        empty.push_text(text);
        empty
    }

    fn push_text(&mut self, text: fmt::Arguments<'_>) {
        let _ = self.write_fmt(text); // Never fails, by `write_str`.
    }

    /// Adds bytes. All of a socket's fit, by the assertions above; what does not is cut.
    fn push(&mut self, bytes: &[u8]) {
        let n = bytes.len().min(ECHOLOOP_ADDR_MAX - 1 - self.len);
        self.bytes[self.len..][..n].copy_from_slice(&bytes[..n]);
        self.len += n;
    }
}

impl fmt::Write for AddrText {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        self.push(s.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::{CStr, CString};

    use super::*;

    fn text(addr: &Addr) -> CString {
        CStr::from_bytes_with_nul(AddrText::of(addr).with_end())
            .unwrap()
            .to_owned()
    }

    #[test]
    fn the_longest_addresses_fit_and_none_is_cut() {
        let zeros = [0; UNIX_PATH - 1];
        let escaped = text(&UnixAddr::abstract_name(zeros).into());
        assert_eq!(
            escaped.as_bytes(),
            format!("unix:@{}", r"\x00".repeat(zeros.len())).as_bytes()
        );
        let path = [&b"@"[..], &[0xff; UNIX_PATH - 1]].concat();
        let written = text(&UnixAddr::path(OsStr::from_bytes(&path)).into());
        assert_eq!(written.as_bytes(), [b"unix:./", &path[..]].concat());
        let host = format!("{}:65535", "h".repeat(HOST));
        let target = AddrText::of_target(&host.parse().unwrap());
        assert_eq!(target.with_end(), [host.as_bytes(), &[0]].concat());
        let scoped = "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff%4294967295]:65535";
        assert_eq!(text(&scoped.parse().unwrap()).to_str(), Ok(scoped));
    }

    #[test]
    fn bytes_come_out_as_they_went_in() {
        let given: [&[u8]; 6] = [
            b"127.0.0.1:80",
            b"unix:/tmp/\xff \xfe\n",
            b"unix:rel\xffative",
            b"unix:@\xff\\name",
            "unix:@é".as_bytes(),
            b"unix:./@file",
        ];
        for given in given {
            let c = CString::new(given).unwrap();
            // SAFETY: a string with an end mark.
            let addr = unsafe { addr("test", c.as_ptr()) }.unwrap();
            assert_eq!(text(&addr), c);
        }
        assert_eq!(text(&UnixAddr::default().into()).as_bytes(), b"unix:");
    }

    #[test]
    fn what_is_no_address_says_so_with_its_text() {
        for bad in [
            &b"\xff:80"[..],
            b"unix:@\xff\x01",
            b"unix:",
            b"unix:@",
            b"host",
        ] {
            let c = CString::new(bad).unwrap();
            // SAFETY: a string with an end mark.
            let refused = unsafe { target("test", c.as_ptr()) }.unwrap_err();
            assert_eq!(refused.status(), ECHOLOOP_EINVAL);
        }
    }
}
