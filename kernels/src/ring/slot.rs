//! Moving eight-word slots and staged bytes: the one place where words cross between host and device.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::layout::{self, SLOT_WORDS};
use super::word::Word;

/// The slot whose first word is `words[first]`.
#[inline]
pub(super) fn at<W>(words: &[W], first: usize) -> &[W; SLOT_WORDS] {
    words[first..].first_chunk().expect("a lane's memory holds all its slots")
}

/// Writes a slot, header last.
#[inline]
pub(super) fn write<W: Word>(slot: &[W; SLOT_WORDS], words: &[u64; SLOT_WORDS]) {
    for i in 1..SLOT_WORDS {
        // Relaxed: the header's Release store below orders it on one host; across a bus that keeps no order, the word
        // proves by its own tag that it belongs to the header.
        slot[i].store(words[i], Relaxed);
    }
    // Release: pairs with the Acquire load in `read`. What was done before, staged bytes above all, is visible to
    // whoever reads the slot.
    slot[0].store(words[0], Release);
}

/// Reads a slot, if every word of it carries `tag`.
#[inline]
pub(super) fn read<W: Word>(slot: &[W; SLOT_WORDS], tag: bool) -> Option<[u64; SLOT_WORDS]> {
    // Acquire: pairs with the Release store in `write`.
    let header = slot[0].load(Acquire);
    if !layout::tagged(header, tag) {
        return None;
    }
    let mut words = [header; SLOT_WORDS];
    let mut differing = 0;
    for i in 1..SLOT_WORDS {
        // Relaxed: see `write`.
        words[i] = slot[i].load(Relaxed);
        differing |= words[i] ^ header;
    }
    // Every word carries the header's tag.
    layout::tagged(differing, false).then_some(words)
}

/// Copies `bytes` into the first words of a staging area; a last partial word is filled up with zeros.
#[inline]
pub(super) fn stage<W: Word>(words: &[W], bytes: &[u8]) {
    let (whole, rest) = bytes.as_chunks::<8>();
    for (word, chunk) in words.iter().zip(whole) {
        // Relaxed: the header that is written next publishes the staged bytes.
        word.store(u64::from_le_bytes(*chunk), Relaxed);
    }
    if !rest.is_empty() {
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        words[whole.len()].store(u64::from_le_bytes(last), Relaxed);
    }
}

/// Copies the first words of a staging area into `bytes`, as many as there are.
#[inline]
pub(super) fn unstage<W: Word>(words: &[W], bytes: &mut [u8]) {
    let (whole, rest) = bytes.as_chunks_mut::<8>();
    for (word, chunk) in words.iter().zip(whole.iter_mut()) {
        // Relaxed: the header that was read before made the staged bytes visible.
        *chunk = word.load(Relaxed).to_le_bytes();
    }
    if !rest.is_empty()
        && let Some(word) = words.get(whole.len())
    {
        let last = word.load(Relaxed).to_le_bytes();
        rest.copy_from_slice(&last[..rest.len()]);
    }
}
