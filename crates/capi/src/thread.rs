//! Which thread this is, as a number, in an instruction.
//!
//! The rule: no two threads that live at the same time have the same token, and no token is 0 or
//! uses the three lowest bits. It is the address of something that every thread has one of. (One that
//! was left behind by a thread that ended may come again: a loop that was not freed by its thread
//! then belongs to the newcomer.)

/// The token of this thread.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[inline(always)]
pub(crate) fn token() -> u64 {
    let pointer: u64;
    // SAFETY: on this target fs:0 holds the thread pointer itself (x86-64 psABI, thread-local
    // storage, 3.4.6), so this reads eight bytes that every thread has, and touches nothing else.
    // A thread-local variable would be a function call in a shared library.
    unsafe {
        std::arch::asm!("mov {}, qword ptr fs:[0]", out(reg) pointer,
            options(pure, readonly, nostack, preserves_flags));
    }
    pointer
}

/// The token of this thread.
#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
#[inline]
pub(crate) fn token() -> u64 {
    thread_local! {
        static HERE: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
    }
    HERE.with(|here| std::ptr::from_ref(here).addr() as u64)
}

#[cfg(test)]
mod tests {
    use super::token;

    #[test]
    fn threads_that_live_together_have_tokens_of_their_own() {
        let mine = token();
        assert_eq!(mine, token());
        assert!(mine != 0 && mine & 7 == 0, "{mine:#x}");
        assert_ne!(mine, std::thread::spawn(token).join().unwrap());
    }
}
