//! Calls that travel through the ring: waited for at once, or posted and taken later.

use gpubridge_abstractions::{ComputeMessage, ErrorKind, Parameters, ReadMessage};
use gpubridge_runtime::{Call, Compute, Read, SessionId, Write};

use super::super::contents::{Kernel, Word};
use super::super::{Checked, Refusals, computed, same};
use super::world::World;
use crate::rig::staged;

/// A call whose answer was not taken yet.
#[derive(Debug)]
pub(super) struct Flight<'a> {
    /// The operation that made it.
    at: usize,
    pub session: usize,
    pub id: SessionId,
    call: Posted<'a>,
    /// Whether its session was shut down without draining since.
    pub cancelled: bool,
}

#[derive(Debug)]
enum Posted<'a> {
    Write(Call<'a, Write<'a>>, usize),
    Read(Call<'a, Read<'a>>, usize),
    Compute(Call<'a, Compute>, Option<Word>),
}

impl<'a> World<'a> {
    fn fly(&mut self, at: usize, session: usize, call: Posted<'a>) {
        self.flying.push(Flight { at, session, id: self.places[session].id, call, cancelled: false });
    }

    /// The refusals of a transfer.
    fn transfer_refusals(&self, session: usize, index: usize, offset_bytes: u64, size: usize) -> Refusals {
        self.refusals(session, |place| match &place.allocations[index].contents {
            None => Refusals::none().with(ErrorKind::NotFound, true),
            Some(contents) => {
                Refusals::none().with(ErrorKind::InvalidArgument, !contents.holds(offset_bytes, size as u64))
            }
        })
    }

    /// Takes a write that was accepted into the model.
    fn written(&mut self, session: usize, index: usize, offset_bytes: u64, source: &[u8]) {
        let place = &mut self.places[session];
        if let Some(contents) = &mut place.allocations[index].contents {
            contents.write(offset_bytes, source);
        }
        place.counts.writes.add(source.len() as u64);
        self.processed += 1;
    }

    pub(super) fn write_now(&mut self, session: usize, index: usize, offset_bytes: u64, source: &[u8]) -> Checked {
        let refusals = self.transfer_refusals(session, index, offset_bytes, source.len());
        let place = &self.places[session];
        let answer = self.rig.try_write(place.id, place.allocations[index].id, offset_bytes, source);
        if let Some(response) = refusals.check(answer)? {
            same("bytes written", response.bytes_written, source.len() as u64)?;
            self.written(session, index, offset_bytes, source);
        }
        Ok(())
    }

    pub(super) fn write_later(
        &mut self,
        at: usize,
        session: usize,
        index: usize,
        offset_bytes: u64,
        source: &'a [u8],
    ) -> Checked {
        let refusals = self.transfer_refusals(session, index, offset_bytes, source.len());
        let place = &self.places[session];
        let message = self.rig.write_message(place.allocations[index].id, offset_bytes, source.len());
        let posted = self.rig.memory.write(place.id, &message, source).post();
        if let Some(call) = refusals.check(posted)? {
            self.written(session, index, offset_bytes, source);
            self.fly(at, session, Posted::Write(call, source.len()));
        }
        Ok(())
    }

    pub(super) fn read_now(
        &mut self,
        session: usize,
        index: usize,
        offset_bytes: u64,
        size: usize,
    ) -> Checked<Vec<u8>> {
        let refusals = self.transfer_refusals(session, index, offset_bytes, size);
        let place = &self.places[session];
        let answer = self.rig.try_read(place.id, place.allocations[index].id, offset_bytes, size);
        let Some(bytes) = refusals.check(answer)? else { return Ok(Vec::new()) };
        let place = &mut self.places[session];
        place.counts.reads.add(size as u64);
        self.processed += 1;
        if let Some(contents) = &mut place.allocations[index].contents {
            contents.part(offset_bytes, size as u64).agrees(&bytes)?;
            contents.write(offset_bytes, &bytes);
        }
        Ok(bytes)
    }

    /// All bytes of a live allocation.
    pub(super) fn read_whole(&mut self, session: usize, index: usize) -> Checked<Vec<u8>> {
        self.make_room(session)?;
        let size = self.places[session].allocations[index].contents.as_ref().map_or(0, |contents| contents.len());
        self.read_now(session, index, 0, size)
            .map_err(|seen| format!("allocation {index} of session {session}: {seen}"))
    }

    pub(super) fn read_later(
        &mut self,
        at: usize,
        session: usize,
        index: usize,
        offset_bytes: u64,
        target: &'a mut [u8],
    ) -> Checked {
        let size = target.len();
        let refusals = self.transfer_refusals(session, index, offset_bytes, size);
        let place = &self.places[session];
        let message =
            ReadMessage::new(self.rig.memory.envelope(), place.allocations[index].id, offset_bytes, staged(size));
        let posted = self.rig.memory.read(place.id, &message, target).post();
        let Some(call) = refusals.check(posted)? else { return Ok(()) };
        let place = &mut self.places[session];
        place.counts.reads.add(size as u64);
        self.processed += 1;
        if let Some(contents) = &place.allocations[index].contents {
            self.read.push((at, contents.part(offset_bytes, size as u64)));
        }
        self.fly(at, session, Posted::Read(call, size));
        Ok(())
    }

    pub(super) fn compute(
        &mut self,
        at: usize,
        (session, kernel, buffers): (usize, Kernel, [usize; 3]),
        (count, value): (u32, u32),
        wait: bool,
    ) -> Checked {
        let place = &self.places[session];
        let mut indices = [None; 3];
        for i in (0..3).filter(|i| kernel.takes()[*i]) {
            let Some(index) = place.find(buffers[i]) else { return Ok(()) };
            indices[i] = Some(index);
        }
        let named = indices.map(|index| index.map(|index| &place.allocations[index]));
        let words =
            named.map(|named| named.and_then(|named| named.contents.as_ref()).map_or(Vec::new(), |c| c.words()));
        let counted = kernel.count(count, [0, 1, 2].map(|i| words[i].len()));
        let is_dead = named.iter().flatten().any(|allocation| allocation.contents.is_none());
        let refusals = self.refusals(session, |_| {
            Refusals::none()
                .with(ErrorKind::NotFound, is_dead)
                .with(ErrorKind::InvalidArgument, !is_dead && counted.is_none())
        });
        let [input, operand, output] = named.map(|named| named.map(|allocation| allocation.id));
        let mut message = ComputeMessage::new(self.rig.memory.envelope(), kernel.spec(), input, output);
        message.parameters = Parameters::new().with_count(count).with_u32(value);
        message.parameters.operand = operand;
        let call = self.rig.memory.compute(place.id, &message).or_error();
        let (results, answer) = kernel.compute(&words[0], &words[1], counted.unwrap_or(0), value);
        if wait {
            let Some(response) = refusals.check(call.wait())? else { return Ok(()) };
            computed(&response, answer)?;
        } else {
            let Some(call) = refusals.check(call.post())? else { return Ok(()) };
            self.fly(at, session, Posted::Compute(call, answer));
        }
        self.processed += 1;
        let place = &mut self.places[session];
        place.counts.computes += 1;
        if let Some(contents) = indices[2].and_then(|index| place.allocations[index].contents.as_mut()) {
            contents.set_words(&results);
        }
        Ok(())
    }

    /// Takes the answer to a call in flight.
    pub(super) fn take(&mut self, which: usize) -> Checked {
        let Flight { at, call, cancelled, .. } = self.flying.remove(which);
        let refusals = Refusals::none().with(ErrorKind::Cancelled, cancelled);
        let taken = match call {
            Posted::Write(call, size) => refusals.check(call.wait()).and_then(|response| {
                response.map_or(Ok(()), |it| same("bytes written", it.bytes_written, size as u64))
            }),
            Posted::Read(call, size) => refusals
                .check(call.wait())
                .and_then(|response| response.map_or(Ok(()), |it| same("bytes read", it.bytes_read, size as u64))),
            Posted::Compute(call, answer) => {
                refusals.check(call.wait()).and_then(|response| response.map_or(Ok(()), |it| computed(&it, answer)))
            }
        };
        if cancelled {
            self.read.retain(|(read, _)| *read != at);
        }
        taken.map_err(|seen| format!("the answer to operation {at}: {seen}"))
    }
}
