//! Text in a fixed buffer, for strings that go to C without an allocation.

use std::ffi::CStr;
use std::fmt;

/// At most `N` - 1 bytes of text and an end mark. What does not fit is cut, at a character.
pub(crate) struct FixedText<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> FixedText<N> {
    pub(crate) const EMPTY: Self = Self {
        bytes: [0; N],
        len: 0,
    };

    pub(crate) fn of(text: fmt::Arguments<'_>) -> Self {
        let mut fixed = Self::EMPTY;
        fixed.set(text);
        fixed
    }

    pub(crate) fn set(&mut self, text: fmt::Arguments<'_>) {
        self.len = 0;
        let _ = fmt::write(self, text); // A text that does not fit is cut.
        self.bytes[self.len] = 0;
    }

    /// The text with its end mark.
    pub(crate) fn with_end(&self) -> &[u8] {
        &self.bytes[..=self.len]
    }

    /// The text for C, to its first end mark.
    pub(crate) fn c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(self.with_end()).unwrap_or_default()
    }

    pub(crate) fn as_str(&self) -> &str {
        // Only whole characters are ever put in.
        std::str::from_utf8(&self.bytes[..self.len]).unwrap_or_default()
    }
}

impl<const N: usize> fmt::Write for FixedText<N> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let room = N - 1 - self.len;
        let n = (0..=room.min(s.len()))
            .rev()
            .find(|n| s.is_char_boundary(*n))
            .unwrap_or(0);
        self.bytes[self.len..][..n].copy_from_slice(&s.as_bytes()[..n]);
        self.len += n;
        if n < s.len() { Err(fmt::Error) } else { Ok(()) }
    }
}
