//! The limit to compare with: a ring between two threads with nothing around it.
//!
//! Each 8-byte word of a 64-byte command carries its lap in bit 0. The consumer adds the payload up and answers at the
//! command's own slot; the producer checks every answer. Simpler than the project's ring, whose words keep all 64 bits.

use std::hint::spin_loop;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use super::pace::Pace;

const SLOTS: u64 = 1024;
/// Looks in vain between two looks at whether it shall end.
const LOOKS: u32 = 1 << 10;

#[repr(align(128))]
#[derive(Default)]
struct Command([AtomicU64; 8]);

#[repr(align(128))]
#[derive(Default)]
struct Completion(AtomicU64);

struct Memory {
    commands: Box<[Command]>,
    completions: Box<[Completion]>,
    end: AtomicBool,
}

fn lap(sequence: u64) -> u64 {
    ((sequence / SLOTS) & 1) ^ 1
}

impl Memory {
    fn serve(&self) {
        for sequence in 0.. {
            let slot = &self.commands[(sequence % SLOTS) as usize].0;
            let mut looks = 0_u32;
            while slot[7].load(Ordering::Acquire) & 1 != lap(sequence) {
                looks = looks.wrapping_add(1);
                if looks.is_multiple_of(LOOKS) && self.end.load(Ordering::Relaxed) {
                    return;
                }
                spin_loop();
            }
            let sum = slot.iter().fold(0_u64, |sum, word| sum.wrapping_add(word.load(Ordering::Relaxed) >> 1));
            let answer = sum << 1 | lap(sequence);
            self.completions[(sequence % SLOTS) as usize].0.store(answer, Ordering::Release);
        }
    }
}

/// The ring, its consumer running.
pub struct BareRing {
    memory: Arc<Memory>,
    consumer: Option<JoinHandle<()>>,
    next: u64,
}

impl BareRing {
    pub fn start() -> Self {
        let memory = Arc::new(Memory {
            commands: (0..SLOTS).map(|_| Command::default()).collect(),
            completions: (0..SLOTS).map(|_| Completion::default()).collect(),
            end: AtomicBool::new(false),
        });
        let served = Arc::clone(&memory);
        Self { memory, consumer: Some(thread::spawn(move || served.serve())), next: 0 }
    }

    #[inline]
    fn submit(&mut self, x: u64) -> u64 {
        let (sequence, slot) = (self.next, &self.memory.commands[(self.next % SLOTS) as usize].0);
        for (i, word) in slot[..7].iter().enumerate() {
            word.store((x + i as u64) << 1 | lap(sequence), Ordering::Relaxed);
        }
        slot[7].store((x + 7) << 1 | lap(sequence), Ordering::Release);
        self.next += 1;
        sequence
    }

    #[inline]
    fn wait(&self, sequence: u64, x: u64) {
        let slot = &self.memory.completions[(sequence % SLOTS) as usize].0;
        loop {
            let word = slot.load(Ordering::Acquire);
            if word & 1 == lap(sequence) {
                assert_eq!(word >> 1, 8 * x + 28, "the answer to {x}");
                return;
            }
            spin_loop();
        }
    }

    /// Calls, one at a time.
    pub fn one_at_a_time(&mut self, mut pace: Pace) -> Pace {
        for x in pace.steps() {
            pace.begin();
            let sequence = self.submit(x);
            self.wait(sequence, x);
            pace.end(1);
        }
        pace
    }

    /// Nanoseconds per call, over `calls` calls with `depth` in flight.
    pub fn pipelined(&mut self, calls: usize, depth: usize) -> f64 {
        let (calls, depth, base) = (calls as u64, depth as u64, self.next);
        let started = Instant::now();
        for x in 0..calls {
            if x >= depth {
                self.wait(base + x - depth, x - depth);
            }
            self.submit(x);
        }
        (calls.saturating_sub(depth)..calls).for_each(|x| self.wait(base + x, x));
        started.elapsed().as_nanos() as f64 / calls as f64
    }
}

impl Drop for BareRing {
    fn drop(&mut self) {
        self.memory.end.store(true, Ordering::Relaxed);
        if let Some(consumer) = self.consumer.take() {
            consumer.join().expect("the consumer does not panic");
        }
    }
}
