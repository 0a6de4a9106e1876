//! A mixed load over many grains from one thread: each grain's blocks are changed by kernels and by writes, and each has
//! a model in plain memory that is changed in the same way.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::time::Instant;

use bytemuck::cast_slice;
use fastrand::Rng;
use gpubridge::grains::{Computation, GrainBatch, Silo};
use gpubridge::kernels::id::{ADD, COPY, FILL, SUM};
use gpubridge::runtime::Answered;
use gpubridge::{ElementType, Error, GpuMemoryHandle, KernelId, KernelSpec, Parameters};

use super::counted::Counted;
use super::counts::Seen;
use super::stage::Monitor;

/// Computations in flight from one thread.
const DEPTH: NonZeroUsize = NonZeroUsize::new(128).expect("not 0");
/// Blocks of a grain.
const BLOCKS: usize = 3;
/// Most elements of a block; one in 32 is larger, beyond what one slot of the ring carries.
const ELEMENTS: usize = 512;
const MANY_ELEMENTS: usize = 6_000;

/// The kernels of the load, all over u32, whose sums wrap and are exact on every device.
pub const KERNELS: [KernelId; 4] = [ADD, COPY, FILL, SUM];

const fn over_u32(kernel: KernelId) -> KernelSpec {
    KernelSpec::new(kernel).of(ElementType::U32)
}

/// An allocation and what must be in it.
#[derive(Debug)]
struct Block {
    handle: GpuMemoryHandle,
    words: Vec<u32>,
}

/// A grain with its blocks.
#[derive(Debug)]
struct Actor {
    calls: Counted,
    blocks: Vec<Block>,
}

impl Actor {
    /// A block of random size, which the model takes for what it is written.
    fn block(calls: &mut Counted, random: &mut Rng) -> Result<Block, Error> {
        let most = if random.u8(..32) == 0 { MANY_ELEMENTS } else { ELEMENTS };
        let words: Vec<u32> = (0..random.usize(1..=most)).map(|_| random.u32(..)).collect();
        let handle = calls.allocate(words.len() as u64 * 4)?;
        calls.write(handle, 0, &words)?;
        Ok(Block { handle, words })
    }

    /// Reads a part of a block and compares it.
    fn verify(&mut self, block: usize, first: usize, count: usize, target: &mut Vec<u32>) -> Result<(), Error> {
        let Self { calls, blocks } = self;
        let Block { handle, words } = &blocks[block];
        target.clear();
        target.resize(count, 0);
        calls.read(*handle, first, target)?;
        let key = calls.grain.key();
        let expected = &words[first..first + count];
        calls.seen.bytes(cast_slice(target), cast_slice(expected), || format!("grain {key}, block {}", handle.id));
        Ok(())
    }
}

/// An answer to come.
#[derive(Debug)]
struct Awaited {
    /// The sum, or nothing for a kernel that answers nothing.
    sum: Option<u32>,
    submitted: Instant,
}

/// One thread's part of the load.
#[derive(Debug)]
pub struct Driver {
    actors: Vec<Actor>,
    batch: GrainBatch,
    /// The answers to come, oldest first.
    expected: VecDeque<Awaited>,
    submitted: u64,
    answered: u64,
    seen: Seen,
    random: Rng,
    target: Vec<u32>,
    /// One operation in so many deactivates its grain; none of them when 0.
    deactivate_one_in: u32,
}

impl Driver {
    /// Gives each grain its blocks. From here on its calls are made here alone, unless it was made with
    /// [`Counted::beside`].
    pub fn new(silo: &Silo, grains: Vec<Counted>, seed: u64, deactivate_one_in: u32) -> Result<Self, Error> {
        let mut random = Rng::with_seed(seed);
        let actor = |mut calls: Counted| {
            let blocks = (0..BLOCKS).map(|_| Actor::block(&mut calls, &mut random)).collect::<Result<_, _>>()?;
            Ok(Actor { calls, blocks })
        };
        Ok(Self {
            actors: grains.into_iter().map(actor).collect::<Result<_, Error>>()?,
            batch: silo.batch(DEPTH),
            expected: VecDeque::with_capacity(DEPTH.get()),
            submitted: 0,
            answered: 0,
            seen: Seen::default(),
            random,
            target: Vec::with_capacity(MANY_ELEMENTS),
            deactivate_one_in,
        })
    }

    /// Does its share of the operations, then reads every block and compares it.
    pub fn run(&mut self, monitor: &Monitor) -> Result<(), Error> {
        let outcome = self.work(monitor);
        if outcome.is_err() {
            monitor.fail();
        }
        outcome
    }

    /// The calls, and what was seen.
    pub fn finish(self) -> (Vec<Counted>, Seen) {
        (self.actors.into_iter().map(|actor| actor.calls).collect(), self.seen)
    }

    fn work(&mut self, monitor: &Monitor) -> Result<(), Error> {
        while monitor.begin() {
            self.operate()?;
            monitor.end();
        }
        while let Some(answered) = self.batch.next() {
            take(&mut self.expected, &mut self.answered, &mut self.seen, answered)?;
        }
        self.seen.answer(self.answered == self.submitted, || {
            format!("{} of {} computations in flight were answered", self.answered, self.submitted)
        });
        for actor in &mut self.actors {
            for block in 0..BLOCKS {
                let count = actor.blocks[block].words.len();
                actor.verify(block, 0, count, &mut self.target)?;
            }
        }
        Ok(())
    }

    /// One operation of the load.
    fn operate(&mut self) -> Result<(), Error> {
        let Self { actors, random, target, .. } = self;
        let at = random.usize(..actors.len());
        let block = random.usize(..BLOCKS);
        let actor = &mut actors[at];
        if self.deactivate_one_in > 0 && random.u32(..self.deactivate_one_in) == 0 {
            return actor.calls.deactivate();
        }
        let length = actor.blocks[block].words.len();
        let first = random.usize(..length);
        let count = random.usize(1..=length - first);
        match random.u8(..100) {
            0..40 => self.add(at, block, true),
            40..60 => self.sum(at, block),
            60..65 => self.add(at, block, false),
            65..70 => {
                let (value, Block { handle, words }) = (random.u32(..), &mut actor.blocks[block]);
                words[..count].fill(value);
                let parameters = Parameters::new().with_count(count as u32).with_u32(value);
                actor.calls.compute(over_u32(FILL), None, Some(*handle), parameters).map(drop)
            }
            70..78 => {
                let Block { handle, words } = &mut actor.blocks[block];
                let part = &mut words[first..first + count];
                part.iter_mut().for_each(|word| *word = random.u32(..));
                actor.calls.write(*handle, first, part)
            }
            78..90 => actor.verify(block, first, count, target),
            90..95 => self.copy(at, block),
            _ => {
                actor.verify(block, 0, length, target)?;
                actor.calls.release(actor.blocks[block].handle, random.u8(..8) > 0)?;
                actor.blocks[block] = Actor::block(&mut actor.calls, random)?;
                Ok(())
            }
        }
    }

    /// Adds the next block to this one, in place: in the pipeline, or with the answer given up.
    fn add(&mut self, at: usize, block: usize, in_pipeline: bool) -> Result<(), Error> {
        let Actor { calls, blocks } = &mut self.actors[at];
        let [target, operand] = blocks.get_disjoint_mut([block, (block + 1) % BLOCKS]).expect("two blocks");
        let count = target.words.len().min(operand.words.len());
        for (word, other) in target.words.iter_mut().zip(&operand.words) {
            *word = word.wrapping_add(*other);
        }
        let handle = Some(target.handle);
        let parameters = Parameters::new().with_operand(operand.handle.id).with_count(count as u32);
        if !in_pipeline {
            return calls.post(over_u32(ADD), handle, handle, parameters);
        }
        self.submit(at, ADD, [handle, handle], parameters, None)
    }

    fn sum(&mut self, at: usize, block: usize) -> Result<(), Error> {
        let Block { handle, words } = &self.actors[at].blocks[block];
        let sum = words.iter().fold(0_u32, |sum, word| sum.wrapping_add(*word));
        let input = Some(*handle);
        self.submit(at, SUM, [input, None], Parameters::new(), Some(sum))
    }

    /// Copies this block over the beginning of the next.
    fn copy(&mut self, at: usize, block: usize) -> Result<(), Error> {
        let Actor { calls, blocks } = &mut self.actors[at];
        let [source, target] = blocks.get_disjoint_mut([block, (block + 1) % BLOCKS]).expect("two blocks");
        let count = source.words.len().min(target.words.len());
        target.words[..count].copy_from_slice(&source.words[..count]);
        let parameters = Parameters::new().with_count(count as u32);
        calls.compute(over_u32(COPY), Some(source.handle), Some(target.handle), parameters).map(drop)
    }

    /// Puts a computation into the pipeline.
    fn submit(
        &mut self,
        at: usize,
        kernel: KernelId,
        [input, output]: [Option<GpuMemoryHandle>; 2],
        parameters: Parameters,
        sum: Option<u32>,
    ) -> Result<(), Error> {
        let Self { actors, batch, expected, submitted, answered, seen, .. } = self;
        let calls = &mut actors[at].calls;
        calls.count_batched()?;
        let (kernel, token) = (over_u32(kernel), *submitted);
        let computation = Computation { grain: &calls.grain, kernel, input, output, parameters, token };
        *submitted += 1;
        expected.push_back(Awaited { sum, submitted: Instant::now() });
        let mut outcome = Ok(());
        batch.submit([computation], |answer| {
            let taken = take(expected, answered, seen, answer);
            // The first failure is the one that says why.
            if outcome.is_ok() {
                outcome = taken;
            }
        });
        outcome
    }
}

#[cfg(test)]
impl Driver {
    /// Changes what the model has in one place.
    fn falsify(&mut self) {
        self.actors[0].blocks[0].words[0] ^= 1 << 8;
    }
}

/// Compares the oldest answer.
fn take(
    expected: &mut VecDeque<Awaited>,
    answered: &mut u64,
    seen: &mut Seen,
    (token, response): Answered,
) -> Result<(), Error> {
    let found = response?.result.u32_at(0);
    seen.pipelined += 1;
    // Answers come in the order of submission; one that nobody waits for has no token left.
    let sum = expected.pop_front().and_then(|Awaited { sum, submitted }| {
        seen.took(submitted);
        sum
    });
    seen.answer((token, found) == (*answered, sum), || {
        let spell = |sum: Option<u32>| sum.map_or("nothing".to_owned(), |sum| sum.to_string());
        let (found, sum) = (spell(found), spell(sum));
        format!("computation {token} of the pipeline came as number {answered} with {found} and should be {sum}")
    });
    *answered += 1;
    Ok(())
}

/// Has each kernel of the load run once, so that it is compiled once, whoever comes first afterwards.
pub fn compile(calls: &mut Counted) -> Result<u64, Error> {
    let [input, output] = [calls.allocate(64)?, calls.allocate(64)?];
    let zeros = Parameters::new();
    calls.compute(over_u32(FILL), None, Some(input), zeros.with_u32(7))?;
    calls.compute(over_u32(COPY), Some(input), Some(output), zeros)?;
    calls.compute(over_u32(ADD), Some(input), Some(output), zeros.with_operand(output.id))?;
    let sum = calls.compute(over_u32(SUM), Some(output), None, zeros)?.u32_at(0);
    calls.seen.answer(sum == Some(16 * 14), || format!("sixteen times fourteen is {sum:?}"));
    calls.release(input, true)?;
    calls.release(output, true)?;
    Ok(KERNELS.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::super::engine;
    use super::super::stage::Stage;
    use super::*;
    use crate::program::place::Place;

    fn driven(operations: u64, falsify: bool) -> Seen {
        let stage = Stage::open(&engine::select(&Place::default()).expect("there is a backend")).unwrap();
        let mut calls = Counted::new(stage.silo.grain("kernels").unwrap());
        compile(&mut calls).unwrap();
        let grains = vec![Counted::new(stage.silo.grain(1).unwrap())];
        let mut driver = Driver::new(&stage.silo, grains, 3, 50).unwrap();
        if falsify {
            driver.falsify();
        }
        driver.run(&Monitor::new("test", operations, &stage.silo, &|_| false)).unwrap();
        let (calls, mut seen) = driver.finish();
        calls.into_iter().for_each(|calls| seen.merge(calls.seen));
        seen
    }

    #[test]
    fn a_byte_that_is_not_as_the_model_has_it_is_seen() {
        let seen = driven(0, true);
        assert_eq!((seen.wrong_bytes, seen.wrong_answers), (1, 0));
        let fault = seen.first_fault.expect("it is named");
        assert!(fault.starts_with("grain 1, block ") && fault.contains(": byte 1 is "), "{fault}");
        // Kernels carry it on into the sums that they answer with.
        assert!(driven(60, true).wrong_answers > 0);
    }

    #[test]
    fn kernels_and_model_agree_through_deactivations() {
        let seen = driven(2_000, false);
        assert_eq!((seen.wrong_bytes, seen.wrong_answers), (0, 0), "{:?}", seen.first_fault);
        assert!(seen.bytes > 100_000 && seen.answers > 1_000, "{seen:?}");
    }
}
