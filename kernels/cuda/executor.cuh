// An executing warp of a block: the rules of commands, as `kernels/src/device/rules.rs` has them in Rust.
//
// All lanes of the warp walk through here together.
#pragma once

#include "at_hand.cuh"
#include "copies.cuh"
#include "held.cuh"
#include "library/library.cuh"
#include "ring.cuh"
#include "team.cuh"
#include "users.cuh"

namespace gb {

// The most bytes that are zeroed in the ring.
constexpr u64 ZERO_IN_RING_BYTES = 64 << 10;
// One command in this many has its time taken.
constexpr u32 SAMPLE = 64;
// Commands executed between two looks at what is at work beside the ring.
constexpr u32 COMMANDS_PER_TENDING = 8;

struct Executor : AtHand {
    Held held;
    u32 seen;
    u32 executed;
    // Whether the command at hand went beside the ring: it is answered later.
    bool went;
    // Commands that waited behind one that is answered now, to be executed before all others: slots of `chain_lane`.
    u32 chain;
    u32 chain_last;
    u32 chain_lane;

    GB_MEMBER u32 state() const { return seen & 0xff; }

    GB_MEMBER void run() {
        u32 done = 0;
        held.load(ring.blocks[block_index()].held[index]);
        if (rank() == 0) store_release_block(&hall.beside[index], held.at_work);
        for (;;) {
            follow();
            u32 handed = watch(&hall.handed[index]);
            bool tends = held.count > 0 && chain == NO_SLOT && (handed == done || executed % COMMANDS_PER_TENDING == 0);
            if (tends) tend();
            Command command;
            bool chained = chain != NO_SLOT;
            if (!chained && handed == done) {
                // At a stop, what is still held waits for `tend` to cancel it.
                u32 ended = watch(&hall.ended);
                if (ended == ENDED_FOR_NOW || (ended != 0 && (held.count == 0 || state() != STOP))) break;
                spin();
                continue;
            }
            if (chained ? take_chained(command) : take(hall.places[index][done % Hall::PLACES], command)) {
                execute(command);
            }
            if (chained) {
                if (went) chain_behind();
                continue;
            }
            ++done;
            sync_warp();
            if (rank() == 0) store_release_block(&hall.done[index], done);
        }
        if (rank() == 0) ring.blocks[block_index()].held[index] = held.count;
    }

private:
    // A word that another warp writes, the same for all lanes; what that warp did before is seen by all.
    GB_MEMBER static u32 watch(const u32 *at) {
        u32 value = shuffle(load_acquire_block(at), 0);
        sync_warp();
        return value;
    }

    GB_MEMBER void follow() {
        u32 now = watch(&hall.wanted);
        if (now == seen) return;
        seen = now;
        // What is not begun waits for better times; `tend` cancels it if there are none.
        if (state() != RUN && chain != NO_SLOT) {
            held.keep(ring.lanes[chain_lane].records, chain_lane, chain, chain_last);
            chain = NO_SLOT;
        }
        if (rank() == 0) store_release_block(&hall.seen[index], now);
    }

    // Takes a command that the poller handed over; whether it is to be executed now.
    GB_MEMBER bool take(const u64 *place, Command &command) {
        for (u32 i = 0; i < SLOT_WORDS; ++i) command.words[i] = place[i];
        u64 where = place[SLOT_WORDS];
        lane = u32(where >> PLACE_LANE_SHIFT) & (LANES_MAX - 1);
        slot = u32(where) & 0xffff;
        ++executed;
        // A command that waits here when the ring is to stop is not begun: one before it may be cancelled already.
        if ((where & PLACE_CANCELLED) || state() == STOP) {
            finish(command.words[0], STATUS_CANCELLED, 0);
            return false;
        }
        // Almost always nothing is held.
        u32 holder = held.count > 0 ? held.find(lane, command.grain()) : NO_SLOT;
        Record *records = ring.lanes[lane].records;
        if (holder != NO_SLOT) {
            held.wait(records, holder, slot, command);
        } else if (state() == RUN) {
            return true;
        } else {
            // It was handed over before the ring was to hold, and is not begun.
            held.keep(records, lane, slot, command);
        }
        return false;
    }

    // Takes the first command of the chain.
    GB_MEMBER bool take_chained(Command &command) {
        lane = chain_lane;
        slot = chain;
        ++executed;
        const Record *record = &ring.lanes[lane].records[slot];
        for (u32 i = 0; i < SLOT_WORDS; ++i) command.words[i] = record->command[i];
        chain = record->next_waiting;
        sync_warp();
        return true;
    }

    // The command at hand went beside the ring: the rest of the chain waits behind it.
    GB_MEMBER void chain_behind() {
        if (rank() == 0 && chain != NO_SLOT) {
            Record *record = &ring.lanes[lane].records[slot];
            record->first_waiting = chain;
            record->last_waiting = chain_last;
        }
        chain = NO_SLOT;
        sync_warp();
    }

    // Executes a command and answers it, or begins it beside the ring.
    GB_MEMBER void execute(const Command &command) {
        bool sampled = executed % SAMPLE == 0;
        u64 started = sampled ? nanoseconds() : 0;
        answer_bytes = 0;
        went = false;
        if (rank() < PAYLOAD_WORDS) answer()[rank()] = 0;
        sync_warp();
        u64 what = u64(executed) << AT_WORK_COUNT_SHIFT | u64(lane) << AT_WORK_LANE_SHIFT;
        if (rank() == 0) store_block(&hall.at_work[index], what | (command.words[0] & ((1ull << AT_WORK_LANE_SHIFT) - 1)));
        u32 status = perform(command);
        if (rank() == 0) store_block(&hall.at_work[index], 0);
        if (went) return;
        finish(command.words[0], status, sampled ? sampled_ns(nanoseconds() - started) : 0);
    }

    GB_MEMBER u32 perform(const Command &command) {
        switch (command.opcode()) {
        case OPCODE_ECHO:
            if (rank() < PAYLOAD_WORDS) answer()[rank()] = command.payload(rank());
            answer_bytes = PAYLOAD_BYTES;
            return STATUS_OK;
        case OPCODE_BIND: return bind(command);
        case OPCODE_WRITE: return write(command);
        case OPCODE_WRITE_INLINE: return write_inline(command);
        case OPCODE_READ: return read(command);
        case OPCODE_READ_INLINE: return read_inline(command);
        case OPCODE_COMPUTE: return compute(command);
        case OPCODE_WRITE_BULK: return bulk(command, COPY_IN);
        case OPCODE_READ_BULK: return bulk(command, COPY_OUT);
        default: return STATUS_UNKNOWN_OPCODE;
        }
    }

    GB_MEMBER u32 bind(const Command &command) {
        Name name = Name::of(command.payload(0));
        u64 address = command.payload(1), size_bytes = command.payload(2), zero_bytes = command.payload(3);
        if (name.index >= ring.allocations) return STATUS_OUT_OF_BOUNDS;
        if (size_bytes == 0) {
            u32 status = find(name, rank() == 0, 1, command.grain());
            if (status == STATUS_OK) rebind(name, 0, 0, NOBODY);
            return status;
        }
        if (address % BLOCK_ALIGNMENT != 0) return STATUS_INVALID_ARGUMENT;
        if (!is_memory(address, size_bytes > zero_bytes ? size_bytes : zero_bytes)) return STATUS_INVALID_ARGUMENT;
        rebind(name, address, size_bytes, command.grain());
        // The block may come from another lane, and so from another multiprocessor, whose last stores come first.
        if (zero_bytes > 0) fence_device();
        if (zero_bytes > ZERO_IN_RING_BYTES) {
            begin_beside(command, ZERO_BYTES, 1, Call{{}, {}, {pointer(address), zero_bytes}, 0, {}, 0}, zero_bytes / 4);
        } else {
            zero(Warp{}, pointer(address), zero_bytes);
        }
        return STATUS_OK;
    }

    GB_MEMBER void rebind(Name name, u64 address, u64 size_bytes, u32 owner) {
        // What was written through the name before comes before what another lane will do with the block.
        fence_device();
        sync_warp();
        if (rank() == 0) ring.lanes[lane].table[name.index].change(address, size_bytes, name.generation, owner);
        sync_warp();
    }

    GB_MEMBER u32 write(const Command &command) {
        u8 *to;
        u32 size_bytes;
        u32 status = transfer(command, ring.staging_words * 8, to, size_bytes);
        if (status == STATUS_OK) copy_in(to, words_of(ring, lane).staging(slot), size_bytes);
        return status;
    }

    GB_MEMBER u32 write_inline(const Command &command) {
        u8 *to;
        u32 size_bytes;
        u32 status = transfer(command, INLINE_WRITE_BYTES, to, size_bytes);
        if (status == STATUS_OK && rank() < size_bytes) {
            to[rank()] = u8(command.payload(TRANSFER_HEADER_WORDS + rank() / 8) >> (rank() % 8 * 8));
        }
        return status;
    }

    GB_MEMBER u32 read(const Command &command) {
        u8 *from;
        u32 size_bytes;
        u32 status = transfer(command, ring.staging_words * 8, from, size_bytes);
        if (status != STATUS_OK) return status;
        copy_out(words_of(ring, lane).staging(slot), from, size_bytes);
        // The header, which this lane writes, is behind the bytes that all lanes wrote.
        sync_warp();
        if (rank() == 0) fence_system();
        return STATUS_OK;
    }

    GB_MEMBER u32 read_inline(const Command &command) {
        u8 *from;
        u32 size_bytes;
        u32 status = transfer(command, PAYLOAD_BYTES, from, size_bytes);
        if (status != STATUS_OK) return status;
        if (rank() < PAYLOAD_WORDS) answer()[rank()] = bytes_at(from, rank(), size_bytes);
        answer_bytes = size_bytes;
        return STATUS_OK;
    }

    // Has the host copy between a chunk and a block, by the copy engine. A command that names a chunk has no use for its staging
    // area otherwise: there the host is told what it cannot see.
    GB_MEMBER u32 bulk(const Command &command, u32 variant) {
        if (ring.bulk_chunks == 0) return STATUS_UNKNOWN_OPCODE;
        u8 *first;
        u32 size_bytes;
        u32 status = transfer(command, ring.bulk_chunk_bytes, first, size_bytes);
        u64 chunk = command.payload(TRANSFER_HEADER_WORDS);
        if (status == STATUS_OK && chunk >= ring.bulk_chunks) status = STATUS_INVALID_ARGUMENT;
        if (status != STATUS_OK || size_bytes == 0) return status;
        if (rank() == 0) {
            u64 *told = words_of(ring, lane).staging(slot);
            store_system(told + COPY_ADDRESS, reinterpret_cast<u64>(first));
            store_system(told + COPY_BYTES, size_bytes);
            store_system(told + COPY_CHUNK, chunk);
            // No kernel runs that would note it.
            ring.lanes[lane].records[slot].started_ns = nanoseconds();
        }
        // For a kernel, where the copy engine is none for it.
        begin_beside(command, variant, 0, Call{{}, {}, {reinterpret_cast<u32 *>(first), size_bytes}, 0, {}, 0}, size_bytes);
        return STATUS_OK;
    }

    // What a kernel's name stands for: its checks, then the run or the way beside.
    struct Compute {
        Executor &executor;
        const Command &command;
        u32 status;

        template <class Kernel>
        GB_MEMBER void operator()(Kernel kernel) {
            status = executor.call(kernel, traits_of<Kernel>(), command);
        }
    };

    GB_MEMBER u32 compute(const Command &command) {
        if (command.kernel() >= FIRST_USER) {
            Traits traits = traits_of_user(u32(command.payload(3) >> 32));
            User user{command.kernel() - FIRST_USER, traits.phases, answer(), 0};
            return call(user, traits, command);
        }
        Compute visitor{*this, command, STATUS_UNKNOWN_KERNEL};
        with_kernel(command.kernel(), visitor);
        return visitor.status;
    }

    template <class Kernel>
    GB_MEMBER u32 call(Kernel &kernel, const Traits &traits, const Command &command) {
        Name input = Name::of(command.payload(0)), operand = Name::of(command.payload(1));
        Name output = Name::of(command.payload(2));
        Name own = rank() == 0 ? input : rank() == 1 ? operand : output;
        bool looks = rank() < 3 && !own.is_none() && (traits.buffers >> rank() & 1);
        if (rank() < 3 && !looks) {
            // Neither named nor used, or one of the two.
            bool fits = own.is_none() == !(traits.buffers >> rank() & 1);
            hall.found[index][rank()] = fits ? STATUS_OK : STATUS_INVALID_ARGUMENT;
            hall.size_bytes[index][rank()] = 0;
        }
        u32 status = find(own, looks, 3, command.grain());
        if (status != STATUS_OK) return status;
        bool aliased = same(input, operand) || same(input, output) || same(operand, output);
        if (aliased && !traits.in_place) return STATUS_INVALID_ARGUMENT;

        Call call{buffer(0), buffer(1), buffer(2), u32(command.payload(3)), {}, u32(command.payload(3) >> 32)};
        if (call.count == 0) call.count = input.is_none() ? call.output.count : call.input.count;
        for (u32 i = 0; i < 3; ++i) call.scalars.words[i] = command.payload(4 + i);
        if (!kernel.check(call)) return STATUS_INVALID_ARGUMENT;
        u64 work = kernel.work(call);
        if (work > traits.in_ring_up_to) {
            begin_beside(command, command.kernel(), traits.phases, call, work);
            return STATUS_OK;
        }
        Answer told{answer(), 0, rank() == 0, false};
        kernel.run(Warp{}, call, told);
        answer_bytes = told.bytes;
        return told.failed ? STATUS_KERNEL_FAULT : STATUS_OK;
    }

    GB_MEMBER static bool same(Name a, Name b) { return !a.is_none() && a.index == b.index; }

    // Hands the command at hand to the host, to be launched beside the ring. Its grain waits from now on.
    GB_MEMBER void begin_beside(const Command &command, u32 variant, u32 phases, const Call &call, u64 work) {
        Record *record = &ring.lanes[lane].records[slot];
        sync_warp();
        if (rank() < SLOT_WORDS) record->command[rank()] = command.words[rank()];
        if (rank() < PAYLOAD_WORDS) record->answer[rank()] = 0;
        if (rank() == 0) {
            record->call = call;
            record->answer_bytes = 0;
            record->begun += 1;
        }
        held.begin(record, lane, slot, command.grain());
        if (rank() == 0) {
            store_release_block(&hall.beside[index], held.at_work);
            u32 request = atomic_add(&ring.blocks[block_index()].requests, 1);
            u64 lap = u64(request / ring.requests_max % 2 == 0);
            u64 *word = ring.outbox + u64(block_index()) * ring.requests_max + request % ring.requests_max;
            u64 size = 64 - (work == 0 ? 64 : __builtin_clzll(work));
            // The record, and whatever the grain's earlier commands wrote, come before the word that asks for the launch.
            fence_system();
            store_system(word, lap << 63 | u64(phases) << REQUEST_PHASES_SHIFT | size << REQUEST_WORK_SHIFT | u64(variant) << REQUEST_VARIANT_SHIFT |
                                   u64(lane) << REQUEST_LANE_SHIFT | slot);
        }
        sync_warp();
        went = true;
    }

    // Looks at the commands beside the ring, and answers those that are done, until one leaves commands to execute.
    GB_MEMBER void tend() {
        for (u32 base = 0; base < held.count && chain == NO_SLOT; base += WARP) {
            u32 ripe = ballot(is_ripe(base + rank()));
            sync_warp();
            // From the back: what is taken out makes room for the last one.
            for (u32 i = WARP; i-- > 0 && chain == NO_SLOT;) {
                if (ripe >> i & 1) tend_to(base + i);
            }
        }
        if (rank() == 0) store_release_block(&hall.beside[index], held.at_work);
    }

    // Whether there is something to do about an entry, by one lane.
    GB_MEMBER bool is_ripe(u32 at) const {
        if (at >= held.count) return false;
        u64 entry = held.entries[at];
        if (entry & HELD_ANSWERED) return state() == RUN || state() == STOP;
        const Record *record = record_of(entry);
        if (state() == STOP && record->first_waiting != NO_SLOT) return true;
        return load_acquire_device(&record->done) == record->begun;
    }

    GB_MEMBER Record *record_of(u64 entry) const { return &ring.lanes[held_lane(entry)].records[held_slot(entry)]; }

    // Answers the entry's command if it is done; lets go what waits behind it, or cancels that.
    GB_MEMBER void tend_to(u32 at) {
        u64 entry = held.entries[at];
        u32 of_lane = held_lane(entry), first = held_slot(entry);
        Record *record = record_of(entry);
        // Whether the entry stands for commands that wait for nothing any more.
        bool answered = entry & HELD_ANSWERED;
        if (!answered) {
            first = record->first_waiting;
            bool done = shuffle(load_acquire_device(&record->done) == record->begun, 0) != 0;
            sync_warp();
            if (done) {
                // In the table first: with the answer the slot is the host's again, and the record with it.
                held.answer(ring.lanes[of_lane].records, at);
                answer_entry(of_lane, held_slot(entry), *record);
                answered = first != NO_SLOT;
            } else if (rank() == 0) {
                record->first_waiting = NO_SLOT;
            }
        }
        if (state() == STOP) {
            cancel_from(of_lane, first);
            if (answered) held.remove(at);
        } else if (state() == RUN && answered) {
            chain = first;
            chain_last = ring.lanes[of_lane].records[first].last_waiting;
            chain_lane = of_lane;
            held.remove(at);
        }
    }

    GB_MEMBER void answer_entry(u32 of_lane, u32 of_slot, const Record &record) {
        if (rank() < PAYLOAD_WORDS) answer()[rank()] = record.answer[rank()];
        answer_bytes = record.answer_bytes;
        lane = of_lane;
        slot = of_slot;
        u64 header = record.command[0];
        u32 device_time_ns = record.device_time_ns;
        // What the copy engine wrote to the host's memory is there before the header that says so.
        if (rank() == 0 && (u32(header >> OPCODE_SHIFT) & OPCODE_MASK) == OPCODE_READ_BULK) fence_system();
        finish(header, answer_bytes == FAULTED ? STATUS_KERNEL_FAULT : STATUS_OK, device_time_ns);
    }

    GB_MEMBER void cancel_from(u32 of_lane, u32 first) {
        const Record *records = ring.lanes[of_lane].records;
        lane = of_lane;
        for (u32 next = first; next != NO_SLOT;) {
            slot = next;
            u64 header = records[slot].command[0];
            next = records[slot].next_waiting;
            finish(header, STATUS_CANCELLED, 0);
        }
    }
};

} // namespace gb
