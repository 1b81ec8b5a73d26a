//! The library's allocator: malloc, and a reserve for when malloc says no.
//!
//! The rule: a small piece of memory that malloc refuses comes out of a fixed reserve, so what std
//! and other crates allocate without a way to say no does not end the host. Large pieces are
//! refused: whatever a program or a peer can make large is asked for in a way that can be refused.
//! While the reserve is in use and malloc says no still, the loop makes no handle and accepts
//! nobody ([`is_short`]), so the rest of it is for what there is.
//!
//! Blocks of a few sizes, a bit for each; no lock, so a thread that another one's fork catches here
//! leaves nothing behind. The ordinary way goes to malloc alone: valgrind and sanitizers see it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::ptr;
use std::sync::atomic::{
    AtomicU64, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};

/// Sizes of blocks, and how many there are of each: multiples of 64.
const CLASSES: [Class; 4] = [
    Class::new(64, 1024, 0, 0),
    Class::new(512, 512, 64 << 10, 16),
    Class::new(4 << 10, 128, 320 << 10, 24),
    Class::new(16 << 10, 64, 832 << 10, 26),
];
const SIZE: usize = 1856 << 10;
const WORDS: usize = 27;
/// Blocks begin at multiples of their size or of this.
const ALIGNED: usize = 4 << 10;
/// With so many blocks in use memory is short, whatever malloc says.
const MANY: usize = 512;
/// What malloc must have again before memory is no longer short.
const PROBE: usize = 64 << 10;

struct Class {
    block: usize,
    count: usize,
    /// Where its blocks begin, and its words of `taken`.
    at: usize,
    word: usize,
}

impl Class {
    const fn new(block: usize, count: usize, at: usize, word: usize) -> Self {
        assert!(count.is_multiple_of(64) && at.is_multiple_of(ALIGNED));
        Self {
            block,
            count,
            at,
            word,
        }
    }
}

const _: () = {
    let (mut at, mut word, mut i) = (0, 0, 0);
    while i < CLASSES.len() {
        assert!(CLASSES[i].at == at && CLASSES[i].word == word);
        at += CLASSES[i].block * CLASSES[i].count;
        word += CLASSES[i].count / 64;
        i += 1;
    }
    assert!(at == SIZE && word == WORDS);
};

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;
static RESERVE: Reserve = Reserve::new();

/// Memory is short: the reserve is in use, and malloc has none still.
pub(crate) fn is_short() -> bool {
    let used = RESERVE.used.load(Relaxed);
    used > 0 && (used > MANY || !malloc_has_some())
}

#[cold]
fn malloc_has_some() -> bool {
    let Ok(layout) = Layout::from_size_align(PROBE, 16) else {
        return true;
    };
    // SAFETY: the size is not 0, and what was had is given back with the same layout.
    unsafe {
        let had = std::hint::black_box(System.alloc(layout));
        if !had.is_null() {
            System.dealloc(had, layout);
        }
        !had.is_null()
    }
}

struct Allocator;

// SAFETY: every pointer is System's, or that of a block that is large enough, aligned enough and
// nobody else's until `dealloc`; which of the two, its address tells, also for `dealloc`.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's.
        let memory = unsafe { System.alloc(layout) };
        match memory.is_null() {
            false => memory,
            true => RESERVE.take(layout),
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's.
        let memory = unsafe { System.alloc_zeroed(layout) };
        if !memory.is_null() {
            return memory;
        }
        let block = RESERVE.take(layout);
        if !block.is_null() {
            // SAFETY: the block has at least this size and is nobody else's.
            unsafe { block.write_bytes(0, layout.size()) };
        }
        block
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        if RESERVE.has(memory) {
            return RESERVE.give_back(memory);
        }
        // SAFETY: the caller's: it came from here, and not from the reserve, so from System.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if !RESERVE.has(memory) {
            // SAFETY: the caller's: it is System's.
            let moved = unsafe { System.realloc(memory, layout, new_size) };
            if !moved.is_null() {
                return moved;
            }
        }
        // SAFETY: the caller's: the size is not 0 and no more than isize::MAX, aligned.
        let new = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        // SAFETY: the size of `new` is not 0; `memory` holds `layout.size()` bytes and the new piece
        // `new_size`, they are two, and the old one is given back once.
        unsafe {
            let moved = self.alloc(new);
            if !moved.is_null() {
                ptr::copy_nonoverlapping(memory, moved, layout.size().min(new_size));
                self.dealloc(memory, layout);
            }
            moved
        }
    }
}

#[repr(align(4096))]
struct Memory(UnsafeCell<[u8; SIZE]>);

struct Reserve {
    memory: Memory,
    /// A bit for each block that is in use.
    taken: [AtomicU64; WORDS],
    used: AtomicUsize,
}

// SAFETY: the bytes of a block are touched only by who holds it; its bit, which is set and cleared
// atomically, says that somebody does.
unsafe impl Sync for Reserve {}

impl Reserve {
    const fn new() -> Self {
        Self {
            memory: Memory(UnsafeCell::new([0; SIZE])),
            taken: [const { AtomicU64::new(0) }; WORDS],
            used: AtomicUsize::new(0),
        }
    }

    fn base(&self) -> *mut u8 {
        self.memory.0.get().cast()
    }

    #[inline]
    fn has(&self, memory: *mut u8) -> bool {
        memory.addr().wrapping_sub(self.base().addr()) < SIZE
    }

    /// A block for `layout`; NULL when there is none.
    #[cold]
    fn take(&self, layout: Layout) -> *mut u8 {
        let needed = layout.size().max(layout.align());
        if layout.align() > ALIGNED {
            return ptr::null_mut();
        }
        let fitting = CLASSES.iter().filter(|class| class.block >= needed);
        for class in fitting {
            if let Some(number) = self.take_number(class) {
                self.used.fetch_add(1, Relaxed);
                // SAFETY: the class has more blocks than `number`, so it is within the memory.
                return unsafe { self.base().add(class.at + number * class.block) };
            }
        }
        ptr::null_mut()
    }

    fn take_number(&self, class: &Class) -> Option<usize> {
        let words = &self.taken[class.word..class.word + class.count / 64];
        for (place, word) in words.iter().enumerate() {
            let first_free = |taken: u64| (taken != u64::MAX).then(|| taken | (taken + 1));
            if let Ok(before) = word.fetch_update(Acquire, Relaxed, first_free) {
                return Some(place * 64 + before.trailing_ones() as usize);
            }
        }
        None
    }

    #[cold]
    fn give_back(&self, block: *mut u8) {
        let at = block.addr() - self.base().addr();
        let Some(class) = CLASSES.iter().rfind(|class| class.at <= at) else {
            return; // The first class begins at 0.
        };
        let number = (at - class.at) / class.block;
        self.taken[class.word + number / 64].fetch_and(!(1 << (number % 64)), Release);
        self.used.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).unwrap()
    }

    #[test]
    fn a_reserve_gives_out_each_block_once_until_it_has_none() {
        static RESERVE: Reserve = Reserve::new();
        let reserve = &RESERVE;
        let mut blocks = Vec::new();
        for size in [1, 64, 65, 4096, 5000] {
            loop {
                let block = reserve.take(layout(size, 16));
                if block.is_null() {
                    break;
                }
                assert!(reserve.has(block));
                // SAFETY: the block has at least this size, and is this test's.
                unsafe { block.write_bytes(blocks.len() as u8, size) };
                blocks.push((block, size));
            }
        }
        assert_eq!(blocks.len(), 1024 + 512 + 128 + 64);
        for (place, (block, size)) in blocks.iter().enumerate() {
            // SAFETY: as above.
            let bytes = unsafe { std::slice::from_raw_parts(*block, *size) };
            assert!(bytes.iter().all(|byte| *byte == place as u8));
        }
        assert_eq!(reserve.used.load(Relaxed), blocks.len());
        blocks.iter().for_each(|block| reserve.give_back(block.0));
        assert_eq!(reserve.used.load(Relaxed), 0);
        assert!(reserve.taken.iter().all(|word| word.load(Relaxed) == 0));
    }

    #[test]
    fn blocks_are_aligned_and_what_is_too_large_is_refused() {
        static RESERVE: Reserve = Reserve::new();
        let reserve = &RESERVE;
        for align in [1, 64, 512, 4096] {
            for size in [1, 100, 1000, 10_000] {
                let block = reserve.take(layout(size, align));
                assert!(!block.is_null() && block.addr().is_multiple_of(align));
            }
        }
        assert!(reserve.take(layout((16 << 10) + 1, 1)).is_null());
        assert!(reserve.take(layout(1, 8192)).is_null());
    }

    #[test]
    fn threads_never_share_a_block() {
        static RESERVE: Reserve = Reserve::new();
        let reserve = &RESERVE;
        std::thread::scope(|scope| {
            for mine in 0..4_u8 {
                scope.spawn(move || {
                    for round in 0..2000 {
                        let blocks = [48, 300].map(|size| (reserve.take(layout(size, 8)), size));
                        for (block, size) in blocks {
                            // SAFETY: the block has this size and is this thread's.
                            unsafe { block.write_bytes(mine, size) };
                        }
                        for (block, size) in blocks {
                            // SAFETY: as above.
                            let bytes = unsafe { std::slice::from_raw_parts(block, size) };
                            assert!(bytes.iter().all(|byte| *byte == mine), "round {round}");
                            reserve.give_back(block);
                        }
                    }
                });
            }
        });
    }
}
