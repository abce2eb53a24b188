//! Receive buffers that the kernel picks from: how many, where, and whose turn.
//!
//! A buffer is the kernel's while it is provided, and ours from the completion that brings it until
//! it is given back. The memory is handed over and read in `uring.rs`; nothing here follows a
//! pointer.

use std::mem::ManuallyDrop;
use std::num::NonZero;
use std::ptr::NonNull;

use io_uring::types::BufRingEntry;

/// The memory of all buffers and the page through which they are provided. Both are reached only
/// through the pointers, which were taken before the kernel had them.
pub(super) struct Pool {
    page: Vec<Page>,
    memory: Vec<u8>,
    entries: NonNull<BufRingEntry>,
    start: NonNull<u8>,
    /// The length of one buffer.
    each: u32,
    /// A power of 2.
    count: u16,
    /// Buffers that are the kernel's.
    free: usize,
    /// How many were provided so far, as the kernel counts.
    tail: u16,
}

/// What the kernel wants aligned to pages.
#[repr(C, align(4096))]
struct Page([u8; 4096]);

/// A buffer with bytes in it. It is not the kernel's as long as this exists.
#[derive(Debug)]
pub(super) struct Buffer {
    id: u16,
    length: usize,
}

impl Buffer {
    pub(super) fn id(&self) -> u16 {
        self.id
    }
}

impl Pool {
    /// Buffers of `each` bytes, about `total` bytes of them: 4 at least and [`COUNT_MAX`] at most.
    /// The kernel gives memory only to those that are really used.
    pub(super) fn new(each: usize, total: usize) -> Self {
        let each = u32::try_from(each.max(1)).unwrap_or(EACH_MAX).min(EACH_MAX);
        let length = usize::try_from(each).expect("32 bits fit into a usize");
        let wanted = u16::try_from(total / length).unwrap_or(COUNT_MAX).clamp(4, COUNT_MAX);
        let count = 1 << wanted.ilog2();
        let mut page = vec![Page([0; 4096])];
        let mut memory = vec![0; length * usize::from(count)];
        Self {
            entries: NonNull::from(&mut page[0]).cast(),
            start: NonNull::new(memory.as_mut_ptr()).expect("a vector's pointer is not null"),
            page,
            memory,
            each,
            count,
            free: 0,
            tail: 0,
        }
    }

    /// The number of buffers.
    pub(super) fn count(&self) -> u16 {
        self.count
    }

    /// The first entry of the page.
    pub(super) fn entries(&self) -> NonNull<BufRingEntry> {
        self.entries
    }

    /// How many buffers the kernel has.
    pub(super) fn free(&self) -> usize {
        self.free
    }

    /// The kernel filled a buffer.
    pub(super) fn taken(&mut self, id: u16, length: usize) -> Buffer {
        self.free = self.free.saturating_sub(1);
        Buffer { id, length }
    }

    /// The place for the entry that provides a buffer, and the tail once it is written.
    pub(super) fn provide(&mut self) -> (NonNull<BufRingEntry>, u16) {
        self.free += 1;
        let place = usize::from(self.tail & (self.count - 1)) * size_of::<BufRingEntry>();
        self.tail = self.tail.wrapping_add(1);
        (self.entries.map_addr(|base| offset(base, place)), self.tail)
    }

    /// The address and length of a buffer, as the kernel wants them.
    pub(super) fn whole(&self, id: u16) -> (u64, u32) {
        let address = self.at(id).addr().get();
        (u64::try_from(address).expect("an address fits into 64 bits"), self.each)
    }

    /// The bytes in a buffer: where, and how many.
    pub(super) fn filled(&self, buffer: &Buffer) -> (NonNull<u8>, usize) {
        let each = usize::try_from(self.each).expect("32 bits fit into a usize");
        (self.at(buffer.id), buffer.length.min(each))
    }

    /// Never frees the memory: the kernel may still write to it, and read from the page where.
    pub(super) fn leak(&mut self) {
        let _ = ManuallyDrop::new(std::mem::take(&mut self.memory));
        let _ = ManuallyDrop::new(std::mem::take(&mut self.page));
    }

    fn at(&self, id: u16) -> NonNull<u8> {
        assert!(id < self.count, "the kernel picks a buffer that it was given");
        let each = usize::try_from(self.each).expect("32 bits fit into a usize");
        self.start.map_addr(|base| offset(base, usize::from(id) * each))
    }
}

fn offset(base: NonZero<usize>, by: usize) -> NonZero<usize> {
    base.checked_add(by).expect("it lies inside one allocation")
}

/// Most buffers: their entries fit into one page.
const COUNT_MAX: u16 = 256;

/// Longest buffer.
const EACH_MAX: u32 = 1 << 24;
