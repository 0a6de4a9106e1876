//! Sizes, offsets and the like, as sequences draw them: mostly small, at times past every limit.

use gpubridge_abstractions::MemoryType;
use proptest::prelude::*;

pub(super) fn allocation_size() -> impl Strategy<Value = u64> {
    prop_oneof![9 => 1..300_u64, 3 => 300..5000_u64, 2 => 60_000..70_000_u64, 1 => Just(0_u64)]
}

pub(super) fn offset() -> impl Strategy<Value = u64> {
    prop_oneof![4 => Just(0_u64), 5 => 0..64_u64, 3 => 0..300_u64, 1 => 300..5000_u64, 1 => any::<u64>()]
}

pub(super) fn size() -> impl Strategy<Value = usize> {
    prop_oneof![5 => 0..64_usize, 5 => 0..300_usize, 2 => 300..5000_usize, 1 => 60_000..70_000_usize]
}

pub(super) fn count() -> impl Strategy<Value = u32> {
    prop_oneof![3 => Just(0_u32), 3 => 1..70_u32, 1 => any::<u32>()]
}

pub(super) fn memory_type() -> impl Strategy<Value = MemoryType> {
    prop_oneof![6 => Just(MemoryType::Default), 1 => prop::sample::select(&MemoryType::ALL[..])]
}
