//! Records the workload: draws commands, and keeps what every block holds by the kernels' CPU twins.

use fastrand::Rng;
use gpubridge::kernels::id::{COPY, FILL, HISTOGRAM, SCALE, SUM, TOP_K, WINDOW_ZSCORE};
use gpubridge::kernels::{KernelLibrary, library};
use gpubridge::{ElementType, KernelId, KernelSpec};
use ringkernel_tests::call::{Call, INPUT, OPERAND, OUTPUT};

use super::shapes::{Shape, are_common, drawn, shape};
use super::workload::{Block, Command, Contents, GRAINS, What};

/// Sizes that each kernel is called with in each of its types, up to what is placed in the ring at most.
const SIZES: [usize; 12] = [1, 2, 7, 32, 33, 65, 129, 256, 1000, 1025, 4099, 65_536];
/// Sizes beyond the ring, of which each has one.
const LARGE: [usize; 3] = [65_537, 70_001, 131_073];
/// Windows, each of which is called as often.
const WINDOWS: [u32; 5] = [2, 8, 64, 1000, 65_536];
const CALLS_OF_A_WINDOW: usize = 9;
/// The most blocks that a grain keeps.
const BLOCKS_MAX: usize = 12;

/// The commands that this seed gives.
pub fn record(seed: u64) -> Vec<Command> {
    let mut recorder = Recorder::new(seed);
    let mut calls = calls(&recorder.library);
    recorder.rng.shuffle(&mut calls);
    for (spec, elements) in calls {
        let grain = recorder.rng.usize(..GRAINS);
        recorder.compute(grain, spec, elements);
        let grain = recorder.rng.usize(..GRAINS);
        match recorder.rng.usize(..6) {
            0 => recorder.transfer(grain),
            1 => recorder.fail(grain),
            _ => {}
        }
        while recorder.grains[grain].len() > BLOCKS_MAX {
            let at = recorder.rng.usize(..BLOCKS_MAX);
            recorder.release(grain, at);
        }
    }
    for grain in 0..GRAINS {
        while !recorder.grains[grain].is_empty() {
            recorder.release(grain, 0);
        }
    }
    recorder.commands
}

/// Every kernel in each of its types, over so many elements.
fn calls(library: &KernelLibrary) -> Vec<(KernelSpec, usize)> {
    let mut calls = Vec::new();
    let mut large = LARGE.into_iter().cycle();
    for declaration in library.kernels().iter().map(|kernel| &kernel.declaration) {
        let spec = KernelSpec::new(declaration.id);
        if declaration.id == WINDOW_ZSCORE {
            let windows = WINDOWS.map(|window| spec.with_constants([window, 0]));
            calls.extend(windows.into_iter().flat_map(|spec| [(spec, 0); CALLS_OF_A_WINDOW]));
            continue;
        }
        for element in declaration.elements {
            calls.extend(SIZES.into_iter().chain(large.next()).map(|elements| (spec.of(*element), elements)));
        }
    }
    calls
}

struct Recorder {
    rng: Rng,
    library: KernelLibrary,
    commands: Vec<Command>,
    /// The live blocks of each grain.
    grains: [Vec<Block>; GRAINS],
    /// A released block of each.
    released: [Option<Block>; GRAINS],
    /// Blocks so far.
    blocks: usize,
}

impl Recorder {
    fn new(seed: u64) -> Self {
        Self {
            rng: Rng::with_seed(seed),
            library: library(),
            commands: Vec::new(),
            grains: Default::default(),
            released: Default::default(),
            blocks: 0,
        }
    }

    fn push(&mut self, grain: usize, what: What) {
        self.commands.push(Command { grain, what });
    }

    /// A new block of these words and up to three bytes more. Returns where it stands. It is written whole: where a block was the
    /// grain's own before, what it holds is not told.
    fn allocate(&mut self, grain: usize, words: &[u32], contents: Contents) -> usize {
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.extend((0..self.rng.usize(..4)).map(|at| 0xa5 ^ at as u8));
        let (number, at) = (self.blocks, self.grains[grain].len());
        self.blocks += 1;
        self.push(grain, What::Allocate { block: number, size_bytes: bytes.len() });
        self.grains[grain].push(Block { number, bytes: bytes.clone(), contents });
        self.write(grain, at, 0, bytes);
        at
    }

    fn write(&mut self, grain: usize, at: usize, offset_bytes: usize, bytes: Vec<u8>) {
        let block = &mut self.grains[grain][at];
        block.bytes[offset_bytes..][..bytes.len()].copy_from_slice(&bytes);
        let number = block.number;
        self.push(grain, What::Write { block: number, offset_bytes, bytes });
    }

    /// Reads a block whole.
    fn read(&mut self, grain: usize, at: usize, rounded_by: Option<usize>) {
        let Block { number, ref bytes, .. } = self.grains[grain][at];
        self.push(grain, What::Read { block: number, offset_bytes: 0, size_bytes: bytes.len(), rounded_by });
    }

    /// Gives a block back, after a last look at it.
    fn release(&mut self, grain: usize, at: usize) {
        self.read(grain, at, None);
        let block = self.grains[grain].remove(at);
        self.push(grain, What::Release { block: block.number });
        self.released[grain] = Some(block);
    }

    /// A range of a block of so many bytes.
    fn range(&mut self, size_bytes: usize) -> (usize, usize) {
        let offset_bytes = self.rng.usize(..=size_bytes);
        (offset_bytes, self.rng.usize(..=size_bytes - offset_bytes))
    }

    /// Writes some bytes of a block or reads some, wherever they lie.
    fn transfer(&mut self, grain: usize) {
        let Some(at) = self.rng.choice(0..self.grains[grain].len()) else { return };
        let Block { number, ref bytes, .. } = self.grains[grain][at];
        let (offset_bytes, size_bytes) = self.range(bytes.len());
        if self.rng.bool() {
            self.push(grain, What::Read { block: number, offset_bytes, size_bytes, rounded_by: None });
        } else {
            let bytes = std::iter::repeat_with(|| self.rng.u8(..)).take(size_bytes).collect();
            self.write(grain, at, offset_bytes, bytes);
            self.grains[grain][at].contents = Contents::Bytes;
        }
    }

    /// Computes, and reads what was written if its floats may have been rounded otherwise: what the twin has of them is written
    /// then, so that the next command finds the same bits everywhere.
    fn compute(&mut self, grain: usize, spec: KernelSpec, elements: usize) {
        let Shape { elements: takes, scalars } = shape(spec, elements, &mut self.rng);
        let kernel = self.library.find(spec.id).expect("it is the library's").clone();
        let mut places = [None; 3];
        for which in [INPUT, OPERAND, OUTPUT].into_iter().filter(|which| takes[*which] > 0) {
            let in_place = kernel.declaration.in_place && which != INPUT && self.rng.usize(..4) == 0;
            let shared = places[INPUT].filter(|_| in_place);
            places[which] = Some(shared.unwrap_or_else(|| self.place(grain, spec, which, takes[which], places)));
        }
        let mut call = Call::new(spec);
        let mut is_exact = true;
        for (which, at) in places.into_iter().enumerate().filter_map(|(which, at)| Some((which, at?))) {
            let words = self.grains[grain][at].words();
            is_exact &= words.len() == takes[which];
            let shared = (INPUT..which).find(|other| places[*other] == Some(at));
            call = match shared {
                Some(other) => call.same(which, other),
                None => call.buffer(which, &words),
            };
        }
        call = scalars.into_iter().fold(call, Call::scalar);
        if !is_exact || self.rng.bool() {
            let counted = if takes[INPUT] > 0 { takes[INPUT] } else { takes[OUTPUT] };
            call = call.count(counted);
        }
        let twin = call.on_host(&kernel);
        let blocks = places.map(|at| at.map(|at| self.grains[grain][at].number));
        let written = places[OUTPUT];
        for (at, home) in places.into_iter().enumerate().filter_map(|(which, at)| Some((at?, call.home(which)?))) {
            self.grains[grain][at].set_words(&twin.buffers[home]);
        }
        let rounded = twin.is_rounded(&call);
        self.push(grain, What::Compute { call, blocks, is_refused: false });
        let Some(at) = written else { return };
        self.note_contents(grain, at, spec);
        if rounded {
            self.read(grain, at, Some(self.commands.len() - 1));
            let bytes = self.grains[grain][at].bytes.clone();
            self.write(grain, at, 0, bytes);
        } else if self.rng.bool() {
            self.read(grain, at, None);
        }
    }

    /// A block for a buffer of a call: one that is there and fits, or a new one.
    fn place(
        &mut self,
        grain: usize,
        spec: KernelSpec,
        which: usize,
        elements: usize,
        taken: [Option<usize>; 3],
    ) -> usize {
        let contents = match spec.id {
            WINDOW_ZSCORE => Contents::Window(spec.constants[0]),
            _ => Contents::Elements(spec.element),
        };
        // Whatever an output holds is overwritten, unless it is a state.
        let takes_any = which == OUTPUT && spec.id != WINDOW_ZSCORE;
        let fits = |block: &Block| {
            let is_kind = block.contents == contents || takes_any && !matches!(block.contents, Contents::Window(_));
            is_kind && (elements..=4 * elements).contains(&(block.bytes.len() / 4))
        };
        let blocks = self.grains[grain].iter().enumerate();
        let found: Vec<_> = blocks.filter(|(at, block)| fits(block) && !taken.contains(&Some(*at))).collect();
        if let Some((at, _)) = self.rng.choice(found)
            && (spec.id == WINDOW_ZSCORE || self.rng.bool())
        {
            return at;
        }
        let words = match contents {
            Contents::Window(_) => vec![0; elements],
            _ => drawn(spec.element, elements, &mut self.rng),
        };
        self.allocate(grain, &words, contents)
    }

    /// Notes what a block holds after a call.
    fn note_contents(&mut self, grain: usize, at: usize, spec: KernelSpec) {
        let block = &mut self.grains[grain][at];
        let element = if spec.id == HISTOGRAM { ElementType::U32 } else { spec.element };
        block.contents = match block.contents {
            Contents::Window(window) => Contents::Window(window),
            _ if spec.id != TOP_K && are_common(element, &block.words()) => Contents::Elements(element),
            _ => Contents::Bytes,
        };
    }

    /// A command that has to be refused, and change nothing.
    fn fail(&mut self, grain: usize) {
        let Some(at) = self.rng.choice(0..self.grains[grain].len()) else { return };
        let own = self.grains[grain][at].clone();
        let (number, size_bytes) = (own.number, own.bytes.len());
        let others = self.grains[(grain + 1) % GRAINS].first().or(self.released[grain].as_ref()).cloned();
        let gone = self.released[grain].clone().or(others.clone());
        match self.rng.usize(..6) {
            0 => self.push(grain, What::Read { block: number, offset_bytes: 1, size_bytes, rounded_by: None }),
            1 => self.push(grain, What::Write { block: number, offset_bytes: size_bytes, bytes: vec![7] }),
            2 => {
                let Some(other) = others else { return };
                self.push(grain, What::Write { block: other.number, offset_bytes: 0, bytes: vec![7; 2] });
            }
            3 => {
                let Some(gone) = gone else { return };
                self.push(grain, What::Read { block: gone.number, offset_bytes: 0, size_bytes: 1, rounded_by: None });
                self.refuse(grain, Call::new(SUM).buffer(INPUT, &gone.words()), [Some(&gone), None, None]);
                self.push(grain, What::Release { block: gone.number });
            }
            _ => self.fail_to_compute(grain, &own),
        }
    }

    /// A call that is no call of its kernel.
    fn fail_to_compute(&mut self, grain: usize, own: &Block) {
        let words = own.words();
        let over = |spec: KernelSpec| Call::new(spec).buffer(OUTPUT, &words);
        let window = |window| KernelSpec::new(WINDOW_ZSCORE).with_constants([window, 0]);
        let call = match self.rng.usize(..7) {
            0 => over(FILL.into()).scalar(1_u32).count(words.len() + 1),
            1 => over(COPY.into()),
            2 => over(KernelSpec::new(SCALE).of(ElementType::U32)).same(INPUT, OUTPUT).scalar(1.5_f32),
            3 => over(window(1)).scalar(1.0_f32),
            4 => over(window(2)).scalar(f32::NAN),
            5 => over(TOP_K.into()).same(INPUT, OUTPUT).scalar(1_u32),
            _ => over(KernelId(999).into()),
        };
        let blocks = [INPUT, OPERAND, OUTPUT].map(|which| call.home(which).map(|_| own));
        self.refuse(grain, call, blocks);
    }

    fn refuse(&mut self, grain: usize, call: Call, blocks: [Option<&Block>; 3]) {
        let blocks = blocks.map(|block| block.map(|block| block.number));
        self.push(grain, What::Compute { call, blocks, is_refused: true });
    }
}
