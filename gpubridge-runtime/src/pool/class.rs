//! Size classes: a fixed number per doubling, found with one leading-zeros count.
//!
//! One scheme serves twice: four classes per doubling for the bins, sixteen lists per doubling for the arena. Since
//! every bin class starts an arena list, the arena's good fit needs no rounding of its own.

/// The smallest block and the unit of every block size, in bytes.
pub const GRANULE_BYTES: u64 = 64;

/// The largest block, in bytes (1 TiB): bounds the number of classes and lists.
pub const MAX_BLOCK_BYTES: u64 = 1 << 40;

/// Bin classes per doubling, as a power of two.
const CLASS_BITS: u32 = 2;

/// Number of bin classes.
pub const CLASSES: usize = floor_index(MAX_BLOCK_BYTES / GRANULE_BYTES - 1, CLASS_BITS) + 1;

/// The index of the last step that starts at or below `units`, with `1 << bits` steps per doubling.
#[inline]
pub const fn floor_index(units: u64, bits: u32) -> usize {
    // Below 2^bits every unit is a step of its own; setting that bit makes the shift below 0 for them too.
    let top = 63 - (units | 1 << bits).leading_zeros();
    let shift = top - bits;
    ((shift as usize) << bits) + (units >> shift) as usize
}

/// The units at which step `index` starts: the inverse of [`floor_index`].
pub const fn step_start(index: usize, bits: u32) -> u64 {
    let doubling = index >> bits;
    if doubling == 0 {
        return index as u64;
    }
    let within = (index & ((1 << bits) - 1)) as u64;
    (within + (1 << bits)) << (doubling - 1)
}

/// The smallest class that holds `size_bytes`, which is from 1 to [`MAX_BLOCK_BYTES`].
#[inline]
pub const fn class_of(size_bytes: u64) -> usize {
    floor_index((size_bytes - 1) / GRANULE_BYTES, CLASS_BITS)
}

/// The size of the blocks of `class`, in bytes.
pub const fn class_bytes(class: usize) -> u64 {
    step_start(class + 1, CLASS_BITS) * GRANULE_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_and_starts_are_inverse_and_ascending() {
        for bits in [2, 4] {
            for index in 0..floor_index(MAX_BLOCK_BYTES / GRANULE_BYTES, bits) {
                let (start, next) = (step_start(index, bits), step_start(index + 1, bits));
                assert!(start < next);
                assert_eq!(floor_index(start, bits), index);
                assert_eq!(floor_index(next - 1, bits), index);
            }
        }
    }

    #[test]
    fn a_class_is_the_smallest_that_holds_the_size() {
        for size_bytes in (1..20_000).chain([1 << 20, (1 << 20) + 1, MAX_BLOCK_BYTES - 1, MAX_BLOCK_BYTES]) {
            let class = class_of(size_bytes);
            assert!(class < CLASSES && class_bytes(class) >= size_bytes, "{size_bytes}");
            assert!(class == 0 || class_bytes(class - 1) < size_bytes, "{size_bytes}");
        }
    }

    #[test]
    fn common_sizes_are_classes_and_waste_stays_below_a_fifth() {
        for size_bytes in [64, 128, 192, 256, 320, 384, 448, 512, 640, 1024, 4096, 65_536, 1 << 20, 64 << 20] {
            assert_eq!(class_bytes(class_of(size_bytes)), size_bytes);
        }
        for size_bytes in 257..100_000_u64 {
            let block_bytes = class_bytes(class_of(size_bytes));
            assert!((block_bytes - size_bytes) * 5 < block_bytes, "{size_bytes} in {block_bytes}");
        }
    }

    #[test]
    fn blocks_over_1_kib_are_multiples_of_256() {
        assert!((0..CLASSES).map(class_bytes).filter(|&bytes| bytes > 1024).all(|bytes| bytes % 256 == 0));
    }
}
