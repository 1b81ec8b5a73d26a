//! The caller's memory: reading arguments, writing results.
//!
//! The rule: NULL and nonsense lengths are refused; that any other pointer is good for its length
//! is the caller's part, header section "Pointers". Results are written only on success.

use std::ffi::{CStr, c_char, c_void};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::{ptr, slice};

use echoloop_core::Addr;

use crate::addr::AddrText;
use crate::detail::Refused;
use crate::{
    ECHOLOOP_EINVAL, ECHOLOOP_ENULL, echoloop_conn_options, echoloop_connect_options,
    echoloop_counters, echoloop_credentials, echoloop_given, echoloop_hooks,
    echoloop_listen_options, echoloop_metrics, echoloop_options, echoloop_report,
    echoloop_server_counters, echoloop_server_options, echoloop_udp_options,
    echoloop_watch_options,
};

/// Addresses, names and paths of sockets are shorter.
const LONGEST_TEXT: usize = 4096;

/// A struct that begins with its own size.
///
/// # Safety
///
/// `repr(C)`, begins with `size: usize`, and all-zero bytes are a valid value.
pub(crate) unsafe trait Sized_: Copy {}

macro_rules! sized {
    ($($name:ident),* $(,)?) => {$(
        // SAFETY: each is `repr(C)`, begins with `size`, and holds integers, raw pointers and optional
        // function pointers only, for which all-zero bytes are valid.
        unsafe impl Sized_ for $name {}

        /// All zeros: no options, nothing counted, no callbacks.
        impl Default for $name {
            fn default() -> Self {
                // SAFETY: of `Sized_`.
                unsafe { MaybeUninit::zeroed().assume_init() }
            }
        }
    )*};
}

sized!(
    echoloop_options,
    echoloop_conn_options,
    echoloop_listen_options,
    echoloop_connect_options,
    echoloop_server_options,
    echoloop_hooks,
    echoloop_counters,
    echoloop_server_counters,
    echoloop_report,
    echoloop_watch_options,
    echoloop_metrics,
    echoloop_credentials,
    echoloop_given,
    echoloop_udp_options,
);

/// Reads a sized struct; `None` for NULL. One from an older header is filled up with zeros; one
/// from a newer header is refused if it uses what is not known here.
///
/// # Safety
///
/// `given` is NULL or readable for the size in its first member.
pub(crate) unsafe fn read_sized<T: Sized_>(
    operation: &'static str,
    given: *const T,
) -> Result<Option<T>, Refused> {
    if given.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller's; every sized struct has at least its size.
    let size = unsafe { given.cast::<usize>().read_unaligned() };
    check_size(operation, size)?;
    let known = size.min(size_of::<T>());
    // SAFETY: the caller's: readable for `size` bytes.
    let beyond = unsafe { slice::from_raw_parts(given.cast::<u8>().add(known), size - known) };
    if beyond.iter().any(|byte| *byte != 0) {
        let why = format_args!("the struct has members that this version does not know");
        return Err(Refused::because(operation, ECHOLOOP_EINVAL, why));
    }
    let mut value = MaybeUninit::<T>::zeroed();
    // SAFETY: `known` bytes are readable by the above and fit into `T`; the rest stays zero, which
    // `Sized_` says is valid, as are all values that C can give the members.
    Ok(Some(unsafe {
        ptr::copy_nonoverlapping(given.cast::<u8>(), value.as_mut_ptr().cast::<u8>(), known);
        value.assume_init()
    }))
}

/// Refuses NULL, or a size that was not set, for a struct that [`write_sized`] will fill.
///
/// # Safety
///
/// `out` is NULL or readable for its first member.
pub(crate) unsafe fn check_sized<T: Sized_>(
    operation: &'static str,
    out: *mut T,
) -> Result<usize, Refused> {
    if out.is_null() {
        return Err(Refused::new(operation, ECHOLOOP_ENULL));
    }
    // SAFETY: the caller's.
    let size = unsafe { out.cast::<usize>().read_unaligned() };
    check_size(operation, size)?;
    Ok(size)
}

/// Fills a sized struct, as far as its size reaches; the size stays as it is.
///
/// # Safety
///
/// `out` has passed [`check_sized`], which said `size`, and is writable for that many bytes.
pub(crate) unsafe fn write_sized<T: Sized_>(out: *mut T, size: usize, value: &T) {
    let n = size.min(size_of::<T>()) - size_of::<usize>();
    // SAFETY: the caller's: writable for `size` bytes, of which the first member is left out.
    unsafe {
        let from = ptr::from_ref(value).cast::<u8>().add(size_of::<usize>());
        ptr::copy_nonoverlapping(from, out.cast::<u8>().add(size_of::<usize>()), n);
    }
}

/// The bytes of an argument; NULL is good for no bytes.
///
/// # Safety
///
/// `data` is readable for `len` bytes, and nobody writes them for `'a`.
#[inline]
pub(crate) unsafe fn bytes<'a>(
    operation: &'static str,
    data: *const c_void,
    len: usize,
) -> Result<&'a [u8], Refused> {
    if data.is_null() || len > isize::MAX as usize {
        return odd_bytes(operation, data, len);
    }
    // SAFETY: the caller's; not NULL and no more than isize::MAX by the check above.
    Ok(unsafe { slice::from_raw_parts(data.cast(), len) })
}

#[cold]
fn odd_bytes<'a>(
    operation: &'static str,
    data: *const c_void,
    len: usize,
) -> Result<&'a [u8], Refused> {
    if len == 0 {
        return Ok(&[]);
    }
    Err(match data.is_null() {
        true => Refused::new(operation, ECHOLOOP_ENULL),
        false => Refused::because(
            operation,
            ECHOLOOP_EINVAL,
            format_args!("the length is beyond all memory"),
        ),
    })
}

/// A text that may be left out.
///
/// # Safety
///
/// `text` is NULL or a string with an end mark.
pub(crate) unsafe fn string(
    operation: &'static str,
    text: *const c_char,
) -> Result<Option<String>, Refused> {
    if text.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller's.
    let text = unsafe { c_text(operation, text) }?;
    match text.to_str() {
        Ok(text) => Ok(Some(text.to_owned())),
        Err(_) => Err(Refused::because(
            operation,
            ECHOLOOP_EINVAL,
            format_args!("the text is not UTF-8"),
        )),
    }
}

/// A text of a length that any text here may have: copies of it are small, and need no memory that
/// might not be had.
///
/// # Safety
///
/// `text` is a string with an end mark, which nobody writes for `'a`.
pub(crate) unsafe fn c_text<'a>(
    operation: &'static str,
    text: *const c_char,
) -> Result<&'a CStr, Refused> {
    // SAFETY: the caller's.
    let text = unsafe { CStr::from_ptr(text) };
    if text.count_bytes() <= LONGEST_TEXT {
        return Ok(text);
    }
    let why = format_args!("the text is longer than any address or name");
    Err(Refused::because(operation, ECHOLOOP_EINVAL, why))
}

/// An address from its text.
///
/// # Safety
///
/// `text` is NULL or a string with an end mark.
pub(crate) unsafe fn address(
    operation: &'static str,
    text: *const c_char,
) -> Result<SocketAddr, Refused> {
    if text.is_null() {
        return Err(Refused::new(operation, ECHOLOOP_ENULL));
    }
    // SAFETY: the caller's.
    let text = unsafe { c_text(operation, text) }?;
    text.to_str()
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| {
            let text = text.to_string_lossy();
            let why = format_args!(
                "\"{text}\" is no address; they look like 127.0.0.1:7007 or [::1]:7007"
            );
            Refused::because(operation, ECHOLOOP_EINVAL, why)
        })
}

/// Writes the text of an address with its end mark; the length without it.
///
/// # Safety
///
/// `buf` is NULL or writable for `capacity` bytes.
pub(crate) unsafe fn write_address(
    operation: &'static str,
    addr: &Addr,
    buf: *mut c_char,
    capacity: usize,
) -> Result<i32, Refused> {
    // SAFETY: the caller's.
    unsafe { write_text(operation, AddrText::of(addr).with_end(), buf, capacity) }
}

/// Writes a text of at most [`ECHOLOOP_ADDR_MAX`](crate::ECHOLOOP_ADDR_MAX) bytes, its end mark
/// among them; the length without it.
///
/// # Safety
///
/// `buf` is NULL or writable for `capacity` bytes.
pub(crate) unsafe fn write_text(
    operation: &'static str,
    bytes: &[u8],
    buf: *mut c_char,
    capacity: usize,
) -> Result<i32, Refused> {
    if buf.is_null() {
        return Err(Refused::new(operation, ECHOLOOP_ENULL));
    }
    if bytes.len() > capacity {
        let why = format_args!("the buffer is too small; ECHOLOOP_ADDR_MAX bytes always suffice");
        return Err(Refused::because(operation, ECHOLOOP_EINVAL, why));
    }
    // SAFETY: the caller's: writable for `capacity` bytes, and no more are written.
    unsafe { ptr::copy_nonoverlapping(bytes.as_ptr().cast(), buf, bytes.len()) };
    Ok(bytes.len() as i32 - 1)
}

/// Refuses NULL for a result.
pub(crate) fn check_out<T>(operation: &'static str, out: *mut T) -> Result<(), Refused> {
    if out.is_null() {
        Err(Refused::new(operation, ECHOLOOP_ENULL))
    } else {
        Ok(())
    }
}

/// Writes a result that has passed [`check_out`].
///
/// # Safety
///
/// `out` is writable for one value.
pub(crate) unsafe fn write<T: Copy>(out: *mut T, value: T) {
    // SAFETY: the caller's.
    unsafe { out.write_unaligned(value) }
}

fn check_size(operation: &'static str, size: usize) -> Result<(), Refused> {
    // No struct of this library comes near 4 KiB: a larger size was never set. All are aligned as their first member, so
    // one that ends within a pointer is no header's.
    if (size_of::<usize>()..=4096).contains(&size) && size.is_multiple_of(size_of::<usize>()) {
        return Ok(());
    }
    let why = format_args!("the size member is not set; start with the _INIT macro");
    Err(Refused::because(operation, ECHOLOOP_EINVAL, why))
}
