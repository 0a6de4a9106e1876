//! The silo under test and the model of its grains.

use gpubridge_abstractions::{ErrorKind, GpuMemoryHandle, MemoryType, Parameters};
use gpubridge_grains::{GrainCall, GrainRef, Silo, wait};
use gpubridge_runtime::{Compute, Read, Write};

use super::super::contents::{Contents, Kernel, Word};
use super::super::{Checked, Refusals, computed, same};
use super::{GRAINS, GrainOp};

/// Calls whose answers wait to be taken: fewer than the slots of a lane.
const IN_FLIGHT: usize = 4;

/// What the model knows of an allocation.
#[derive(Debug)]
struct Allocation {
    handle: GpuMemoryHandle,
    /// `None` once it is released.
    contents: Option<Contents>,
}

/// What the model knows of a grain. Deactivations and restarts change nothing of it but that it is not active.
#[derive(Debug, Default)]
struct Grain {
    allocations: Vec<Allocation>,
    stored: Option<Contents>,
    /// Whether it gave memory back: what it is given next may be that.
    has_released: bool,
    is_active: bool,
}

impl Grain {
    fn live(&self) -> usize {
        self.allocations.iter().filter(|allocation| allocation.contents.is_some()).count()
            + usize::from(self.stored.is_some())
    }

    /// The index of the allocation that is counted back from the latest.
    fn find(&self, back: usize) -> Option<usize> {
        let len = self.allocations.len();
        (len > 0).then(|| len - 1 - back % len)
    }
}

/// What the model knows.
#[derive(Debug)]
pub(super) struct Model {
    grains: Vec<Grain>,
}

impl Model {
    pub(super) fn new(grains: usize) -> Self {
        Self { grains: (0..grains).map(|_| Grain::default()).collect() }
    }

    /// No grain is active any more. Returns how many were.
    pub(super) fn deactivate_all(&mut self) -> usize {
        self.grains.iter_mut().map(|grain| usize::from(std::mem::take(&mut grain.is_active))).sum()
    }
}

/// A call whose answer was not taken yet.
#[derive(Debug)]
enum Flight<'a> {
    Write(GrainCall<'a, Write<'a>>, usize),
    Read(GrainCall<'a, Read<'a>>, usize),
    Compute(GrainCall<'a, Compute>, Option<Word>),
}

/// A silo and the model of its grains.
pub(super) struct World<'a> {
    silo: &'a Silo,
    refs: &'a [GrainRef],
    grains: &'a mut [Grain],
    flying: Vec<(usize, Flight<'a>)>,
    /// What posted reads must have brought, by operation.
    read: Vec<(usize, Contents)>,
}

impl<'a> World<'a> {
    pub(super) fn new(silo: &'a Silo, refs: &'a [GrainRef], model: &'a mut Model) -> Self {
        Self { silo, refs, grains: &mut model.grains, flying: Vec::new(), read: Vec::new() }
    }

    pub(super) fn apply(&mut self, at: usize, op: &GrainOp, source: &'a [u8], target: &'a mut [u8]) -> Checked {
        match *op {
            GrainOp::Allocate { grain, size_bytes, memory_type } => {
                self.allocate(grain % GRAINS, size_bytes, memory_type)
            }
            GrainOp::Write { grain, allocation, offset_bytes, wait, .. } => {
                let Some(index) = self.grains[grain % GRAINS].find(allocation) else { return Ok(()) };
                self.write(at, (grain % GRAINS, index, offset_bytes), source, wait)
            }
            GrainOp::Read { grain, allocation, offset_bytes, wait, .. } => {
                let Some(index) = self.grains[grain % GRAINS].find(allocation) else { return Ok(()) };
                let place = (grain % GRAINS, index, offset_bytes);
                if wait { self.read_now(place, target.len()) } else { self.read_later(at, place, target) }
            }
            GrainOp::Compute { grain, kernel, buffers, count, value, wait } => {
                self.compute(at, (grain % GRAINS, kernel, buffers), (count, value), wait)
            }
            GrainOp::Release { grain, allocation, return_to_pool } => {
                self.release(grain % GRAINS, allocation, return_to_pool)
            }
            GrainOp::Trespass { grain, other, allocation } => self.trespass(grain % GRAINS, other % GRAINS, allocation),
            GrainOp::Store { grain, .. } => self.store(grain % GRAINS, source),
            GrainOp::Load { grain } => self.load(grain % GRAINS),
            GrainOp::Clear { grain } => self.clear(grain % GRAINS),
            GrainOp::Save { grain } => wait(self.refs[grain % GRAINS].save()).map_err(|error| error.to_string()),
            GrainOp::Deactivate { grain } => {
                self.grains[grain % GRAINS].is_active = false;
                wait(self.refs[grain % GRAINS].deactivate()).map_err(|error| error.to_string())
            }
            GrainOp::Take { call } if !self.flying.is_empty() => self.take(call % self.flying.len()),
            GrainOp::Take { .. } | GrainOp::Restart => Ok(()),
            GrainOp::Metrics { grain } => self.metrics(grain % GRAINS),
        }
    }

    /// A reference to a grain that is about to be called, and the model of it.
    fn call(&mut self, grain: usize) -> (&'a GrainRef, &mut Grain) {
        self.grains[grain].is_active = true;
        (&self.refs[grain], &mut self.grains[grain])
    }

    /// The refusals of a handle that is not live: one of an earlier silo may be told as lost.
    fn dead(&self, refusals: Refusals, handle: GpuMemoryHandle, is_dead: bool) -> Refusals {
        let earlier = handle.id.epoch() < self.silo.epoch();
        refusals.with(ErrorKind::NotFound, is_dead).with(ErrorKind::ContentsLost, is_dead && earlier)
    }

    fn allocate(&mut self, grain: usize, size_bytes: u64, memory_type: MemoryType) -> Checked {
        let capabilities = self.silo.memory().device().info().capabilities;
        let refusals = Refusals::none()
            .with(ErrorKind::InvalidArgument, size_bytes == 0)
            .with(ErrorKind::Unsupported, !capabilities.supports_memory(memory_type));
        let (reference, _) = self.call(grain);
        let answer = wait(reference.allocate_reporting(size_bytes, memory_type));
        let Some(response) = refusals.check(answer)? else { return Ok(()) };
        let handle = response.handle;
        same("size and type", (handle.size_bytes, handle.memory_type), (size_bytes, memory_type))?;
        if self.grains.iter().flat_map(|grain| &grain.allocations).any(|known| known.handle.id == handle.id) {
            return Err(format!("{} was issued before", handle.id));
        }
        let (_, known) = self.call(grain);
        let own = known.has_released && response.is_pool_hit;
        let contents = if own { Contents::unknown(size_bytes) } else { Contents::zeroed(size_bytes) };
        known.allocations.push(Allocation { handle, contents: Some(contents) });
        Ok(())
    }

    /// The handle and the refusals of a transfer.
    fn transfer(&self, (grain, index, offset_bytes): (usize, usize, u64), size: usize) -> (GpuMemoryHandle, Refusals) {
        let Allocation { handle, contents } = &self.grains[grain].allocations[index];
        let holds = contents.as_ref().is_none_or(|contents| contents.holds(offset_bytes, size as u64));
        let refusals = Refusals::none().with(ErrorKind::InvalidArgument, !holds);
        (*handle, self.dead(refusals, *handle, contents.is_none()))
    }

    fn write(&mut self, at: usize, place: (usize, usize, u64), source: &'a [u8], wait: bool) -> Checked {
        self.make_room()?;
        let ((grain, index, offset_bytes), (handle, refusals)) = (place, self.transfer(place, source.len()));
        let (reference, _) = self.call(grain);
        let call = reference.write(handle, source, offset_bytes);
        if wait {
            let Some(response) = refusals.check(call.wait())? else { return Ok(()) };
            same("bytes written", response.bytes_written, source.len() as u64)?;
        } else {
            let Some(call) = refusals.check(call.post())? else { return Ok(()) };
            self.flying.push((at, Flight::Write(call, source.len())));
        }
        if let Some(contents) = &mut self.grains[grain].allocations[index].contents {
            contents.write(offset_bytes, source);
        }
        Ok(())
    }

    fn read_now(&mut self, place: (usize, usize, u64), size: usize) -> Checked {
        self.make_room()?;
        let ((grain, index, offset_bytes), (handle, refusals)) = (place, self.transfer(place, size));
        let (reference, known) = self.call(grain);
        let mut bytes = vec![0xee_u8; size];
        let answer = reference.read_into(handle, offset_bytes, &mut bytes).wait();
        let Some(response) = refusals.check(answer)? else { return Ok(()) };
        same("bytes read", response.bytes_read, size as u64)?;
        let Some(contents) = &mut known.allocations[index].contents else { return Ok(()) };
        contents.part(offset_bytes, size as u64).agrees(&bytes)?;
        contents.write(offset_bytes, &bytes);
        Ok(())
    }

    fn read_later(&mut self, at: usize, place: (usize, usize, u64), target: &'a mut [u8]) -> Checked {
        self.make_room()?;
        let size = target.len();
        let ((grain, index, offset_bytes), (handle, refusals)) = (place, self.transfer(place, size));
        let (reference, _) = self.call(grain);
        let Some(call) = refusals.check(reference.read_into(handle, offset_bytes, target).post())? else {
            return Ok(());
        };
        if let Some(contents) = &self.grains[grain].allocations[index].contents {
            self.read.push((at, contents.part(offset_bytes, size as u64)));
        }
        self.flying.push((at, Flight::Read(call, size)));
        Ok(())
    }

    fn compute(
        &mut self,
        at: usize,
        (grain, kernel, buffers): (usize, Kernel, [usize; 3]),
        (count, value): (u32, u32),
        wait: bool,
    ) -> Checked {
        self.make_room()?;
        let mut indices = [None; 3];
        for i in (0..3).filter(|i| kernel.takes()[*i]) {
            let Some(index) = self.grains[grain].find(buffers[i]) else { return Ok(()) };
            indices[i] = Some(index);
        }
        let named = indices.map(|index| index.map(|index| &self.grains[grain].allocations[index]));
        let words = named.map(|named| named.and_then(|it| it.contents.as_ref()).map_or(Vec::new(), Contents::words));
        let counted = kernel.count(count, [0, 1, 2].map(|i| words[i].len()));
        let dead: Vec<_> = named.iter().flatten().filter(|it| it.contents.is_none()).map(|it| it.handle).collect();
        let shape = Refusals::none().with(ErrorKind::InvalidArgument, dead.is_empty() && counted.is_none());
        let refusals = dead.iter().fold(shape, |refusals, handle| self.dead(refusals, *handle, true));
        let [input, operand, output] = named.map(|named| named.map(|allocation| allocation.handle));
        let mut parameters = Parameters::new().with_count(count).with_u32(value);
        parameters.operand = operand.map(|handle| handle.id);
        let (results, answer) = kernel.compute(&words[0], &words[1], counted.unwrap_or(0), value);
        let (reference, _) = self.call(grain);
        let call = reference.compute(kernel.spec(), input, output, parameters);
        if wait {
            let Some(response) = refusals.check(call.wait())? else { return Ok(()) };
            computed(&response, answer)?;
        } else {
            let Some(call) = refusals.check(call.post())? else { return Ok(()) };
            self.flying.push((at, Flight::Compute(call, answer)));
        }
        let output = indices[2].and_then(|index| self.grains[grain].allocations[index].contents.as_mut());
        if let Some(contents) = output {
            contents.set_words(&results);
        }
        Ok(())
    }

    fn release(&mut self, grain: usize, allocation: usize, return_to_pool: bool) -> Checked {
        let Some(index) = self.grains[grain].find(allocation) else { return Ok(()) };
        let (reference, known) = self.call(grain);
        let Allocation { handle, contents } = &mut known.allocations[index];
        let was_live = contents.take().is_some();
        known.has_released |= was_live;
        let response = wait(reference.release(*handle, return_to_pool)).map_err(|error| error.to_string())?;
        let freed = if was_live { handle.size_bytes } else { 0 };
        let seen = (response.bytes_freed, response.returned_to_pool);
        same("freed and returned", seen, (freed, was_live && return_to_pool))
    }

    fn trespass(&mut self, grain: usize, other: usize, allocation: usize) -> Checked {
        let Some(index) = self.grains[other].find(allocation).filter(|_| grain != other) else { return Ok(()) };
        let handle = self.grains[other].allocations[index].handle;
        let refusals = self.dead(Refusals::none(), handle, true);
        let (reference, _) = self.call(grain);
        refusals.check(reference.write(handle, &[1_u8], 0).wait())?;
        refusals.check(reference.read_into(handle, 0, &mut [0_u8]).wait())?;
        let response = wait(reference.release(handle, true)).map_err(|error| error.to_string())?;
        same("freed of another's", response.bytes_freed, 0)
    }

    fn store(&mut self, grain: usize, source: &[u8]) -> Checked {
        self.make_room()?;
        let refusals = Refusals::none().with(ErrorKind::InvalidArgument, source.is_empty());
        let (reference, known) = self.call(grain);
        if refusals.check(wait(reference.store(source)))?.is_some() {
            let mut contents = Contents::zeroed(source.len() as u64);
            contents.write(0, source);
            known.has_released |= known.stored.replace(contents).is_some();
        }
        Ok(())
    }

    fn load(&mut self, grain: usize) -> Checked {
        self.make_room()?;
        let (reference, known) = self.call(grain);
        let loaded = wait(reference.load::<u8>()).map_err(|error| error.to_string())?;
        match (&loaded, &known.stored) {
            (Some(bytes), Some(contents)) => contents.agrees(bytes),
            _ => same("whether a buffer is stored", loaded.is_some(), known.stored.is_some()),
        }
    }

    fn clear(&mut self, grain: usize) -> Checked {
        let (reference, known) = self.call(grain);
        known.has_released |= known.live() > 0;
        known.allocations.iter_mut().for_each(|allocation| allocation.contents = None);
        known.stored = None;
        wait(reference.clear()).map_err(|error| error.to_string())
    }

    fn metrics(&mut self, grain: usize) -> Checked {
        let (reference, _) = self.call(grain);
        let response = wait(reference.metrics(false)).map_err(|error| error.to_string())?;
        let active = || self.grains.iter().filter(|grain| grain.is_active);
        let live: usize = active().map(Grain::live).sum();
        same("live allocations", response.active_allocation_count, live as u64)?;
        same("active grains", self.silo.active_grains(), active().count())
    }

    /// Takes answers that nobody took, so that every lane has slots for a call that is waited for.
    fn make_room(&mut self) -> Checked {
        while self.flying.len() >= IN_FLIGHT {
            self.take(0)?;
        }
        Ok(())
    }

    /// Takes the answer to a call in flight.
    fn take(&mut self, which: usize) -> Checked {
        let (at, call) = self.flying.remove(which);
        let words = |error: gpubridge_abstractions::Error| error.to_string();
        let taken = match call {
            Flight::Write(call, size) => {
                call.wait().map_err(words).and_then(|it| same("bytes written", it.bytes_written, size as u64))
            }
            Flight::Read(call, size) => {
                call.wait().map_err(words).and_then(|it| same("bytes read", it.bytes_read, size as u64))
            }
            Flight::Compute(call, answer) => call.wait().map_err(words).and_then(|it| computed(&it, answer)),
        };
        taken.map_err(|seen| format!("the answer to operation {at}: {seen}"))
    }

    /// Takes all answers; compares all contents if this is the last silo. Returns what posted reads must have brought.
    pub(super) fn finish(mut self, is_last: bool) -> Checked<Vec<(usize, Contents)>> {
        while !self.flying.is_empty() {
            self.take(0)?;
        }
        for grain in (0..GRAINS).filter(|_| is_last) {
            for index in 0..self.grains[grain].allocations.len() {
                let size = self.grains[grain].allocations[index].contents.as_ref().map_or(1, Contents::len);
                let read = self.read_now((grain, index, 0), size);
                read.map_err(|seen| format!("allocation {index} of grain {grain}: {seen}"))?;
            }
            self.load(grain)?;
            self.metrics(grain)?;
        }
        Ok(self.read)
    }
}
