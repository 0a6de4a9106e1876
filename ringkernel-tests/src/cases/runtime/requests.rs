//! The sixteen messages in use: every request through resident memory, and its response.

use std::thread;
use std::time::{Duration, Instant};

use gpubridge_abstractions::{
    AllocateMessage, AllocationId, ComputeMessage, ErrorKind, GetMetricsMessage, InitializeMessage, KernelId, Message,
    Parameters, ReadMessage, ReleaseMessage, Response, ShutdownMessage, StagedRange, WriteMessage,
};
use gpubridge_kernels::id::{FILL, SUM};
use gpubridge_runtime::RestoredAllocation;

use crate::rig::{Gate, KIB, OpenAtEnd, Rig, SOON, config, narrow, pattern, staged};
use crate::twins::{COUNTER, GATED, counter, gated};
use crate::{Case, Context};

/// All cases of the area.
pub const CASES: &[Case] = crate::cases::table!("requests",
    Memory {
        every_memory_request_is_answered_by_its_response => "ResidentMemory/answered",
        message_counters_are_exact => "ResidentMemory::metrics/messages-exact",
        rates_are_those_of_the_counts_and_the_clock => "ResidentMemory::metrics/rates",
        a_transfer_in_pieces_is_one_message => "ResidentMemory::metrics/pieces",
        trackers_count_what_the_session_did => "ResidentMemory::totals/own",
        trackers_count_what_is_restored => "ResidentMemory::totals/restored",
        details_list_the_size_classes_when_asked_for => "ResidentMemory::get_metrics/details",
        concurrent_replies_name_their_requests => "ResidentMemory/correlation",
    }
    Compute {
        a_compute_request_is_answered_by_its_response => "ResidentMemory::compute/answered",
        kernel_counters_are_exact => "ResidentMemory::metrics/kernels-exact",
    }
    Twins {
        what_is_pending_is_counted => "ResidentMemory::metrics/pending",
        work_beside_the_ring_is_always_timed => "ResidentMemory::compute/timed-beside",
    }
);

/// What arrives after the message has travelled in its binary layout.
fn sent<M: Message>(message: M) -> M {
    let mut bytes = Vec::new();
    message.encode(&mut bytes).expect("the message fits");
    M::decode(&bytes).expect("what was encoded decodes")
}

#[track_caller]
fn answers<Q: Message, R: Response + Clone>(request: &Q, response: &R) {
    assert_eq!(response.original_request_id(), request.envelope().request_id, "{} answers another", R::NAME);
    assert_ne!(response.envelope().request_id, request.envelope().request_id, "a response has an id of its own");
    assert!(response.envelope().timestamp_us >= request.envelope().timestamp_us, "{} came before", R::NAME);
    assert_eq!(sent(response.clone()).original_request_id(), request.envelope().request_id);
}

/// Goal: each request that needs no kernel is answered by its own response. Method: all of them in the order of a
/// session's life, each sent through the binary layout first, each response compared with its request.
pub fn every_memory_request_is_answered_by_its_response(context: &Context) {
    let Rig { memory } = Rig::new(context.device(), config());
    let session = memory.session(0);
    let initialize = sent(InitializeMessage::new(memory.envelope()));
    answers(&initialize, &memory.initialize(session, &initialize).expect("opens"));
    let allocate = sent(AllocateMessage::new(memory.envelope(), 100));
    let allocated = memory.allocate(session, &allocate).expect("there is room");
    answers(&allocate, &allocated);
    assert_eq!((allocated.handle.size_bytes, allocated.is_pool_hit), (100, false));

    let data = pattern(1, 300);
    let write = sent(WriteMessage {
        size_bytes: 60,
        ..WriteMessage::new(
            memory.envelope(),
            allocated.handle.id,
            40,
            StagedRange { offset_bytes: 10, size_bytes: 60 },
        )
    });
    let written = memory.write(session, &write, &data).wait().expect("is written");
    answers(&write, &written);
    assert_eq!(written.bytes_written, 60);
    assert!(written.transfer_time_us.is_none_or(|us| us > 0.0));

    let mut bytes = vec![0xee; 200];
    let read = sent(ReadMessage::new(
        memory.envelope(),
        allocated.handle.id,
        30,
        StagedRange { offset_bytes: 100, size_bytes: 70 },
    ));
    let got = memory.read(session, &read, &mut bytes).wait().expect("is read");
    answers(&read, &got);
    assert_eq!(got.bytes_read, 70);
    assert_eq!(bytes[100..110], [0; 10], "what was not written is zero");
    assert_eq!(bytes[110..170], data[10..70], "offsets of both sides are kept");
    assert!(bytes[..100].iter().chain(&bytes[170..]).all(|byte| *byte == 0xee), "bytes beside the range were touched");

    let metrics = sent(GetMetricsMessage::new(memory.envelope()));
    answers(&metrics, &memory.get_metrics(session, &metrics).expect("is answered"));
    let release = sent(ReleaseMessage::new(memory.envelope(), allocated.handle.id));
    let released = memory.release(session, &release).expect("is answered");
    answers(&release, &released);
    assert_eq!((released.bytes_freed, released.returned_to_pool), (100, true));
    let again = memory.release(session, &release).expect("is answered");
    assert_eq!((again.bytes_freed, again.returned_to_pool), (0, false), "a second release changes nothing");
    let shutdown = sent(ShutdownMessage::new(memory.envelope()));
    answers(&shutdown, &memory.shutdown(session, &shutdown, SOON).expect("closes"));
}

/// Goal: Compute and its response. Method: fill and sum, the answer known; a failure as a response, not as silence.
pub fn a_compute_request_is_answered_by_its_response(context: &Context) {
    let rig = Rig::new(context.device(), config());
    let (memory, session) = (&rig.memory, rig.session(0));
    let id = rig.allocate(session, 40);
    let mut fill = ComputeMessage::new(memory.envelope(), FILL, None, Some(id));
    fill.parameters = Parameters::new().with_f32(1.5);
    let fill = sent(fill);
    let filled = memory.compute(session, &fill).wait().expect("is answered");
    answers(&fill, &filled);
    assert!(filled.success && filled.error.is_none() && !filled.is_cache_hit, "{filled:?}");
    assert!(filled.total_time_us.is_some_and(|us| us > 0.0));
    let sum = sent(ComputeMessage::new(memory.envelope(), SUM, Some(id), None));
    for hit in [false, true] {
        let summed = memory.compute(session, &sum).wait().expect("is answered");
        answers(&sum, &summed);
        assert_eq!((summed.result.f32_at(0), summed.is_cache_hit), (Some(15.0), hit));
    }
    let unknown = sent(ComputeMessage::new(memory.envelope(), KernelId(999_999), Some(id), None));
    let refused = memory.compute(session, &unknown).wait();
    match refused {
        Ok(refused) => {
            answers(&unknown, &refused);
            assert!(!refused.success && refused.error.is_some() && refused.result.len_bytes() == 0, "{refused:?}");
        }
        Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound),
    }
}

/// Goal: total_messages_processed counts requests, each once, and nothing else. Method: a known number of each kind,
/// several sessions and threads, the sum kept outside.
pub fn message_counters_are_exact(context: &Context) {
    const ROUNDS: u64 = 50;
    const THREADS: u64 = 4;
    let rig = Rig::new(context.device(), config());
    thread::scope(|scope| {
        for hash in 0..THREADS {
            let rig = &rig;
            scope.spawn(move || {
                let session = rig.session(hash);
                for round in 0..ROUNDS {
                    let id = rig.allocate(session, 100);
                    rig.write(session, id, &pattern(round, 100));
                    assert_eq!(rig.read(session, id, 100), pattern(round, 100));
                    rig.release(session, id);
                }
            });
        }
    });
    // Initialize, and four requests per round.
    assert_eq!(rig.processed(), THREADS * (1 + 4 * ROUNDS));
    let metrics = rig.memory.metrics();
    assert_eq!((metrics.pending_message_count, metrics.active_allocation_count), (0, 0));
    assert_eq!(metrics.pool_hit_count + metrics.pool_miss_count, THREADS * ROUNDS);
    assert!(metrics.pool_miss_count <= THREADS, "each session misses once: {metrics:?}");
    let session = rig.session(9);
    let message = GetMetricsMessage::new(rig.memory.envelope());
    let response = rig.memory.get_metrics(session, &message).expect("is answered");
    assert_eq!(response.total_messages_processed, THREADS * (1 + 4 * ROUNDS) + 2, "with Initialize and this one");
}

/// Goal: rates are those of the counts and the clock. Method: some hundred calls, each timed here; the rate lies between the
/// count over the longest and over the shortest time that can have passed, the mean latency below the longest call.
pub fn rates_are_those_of_the_counts_and_the_clock(context: &Context) {
    const ROUNDS: u64 = 300;
    let device = context.device();
    let opening = Instant::now();
    let rig = Rig::new(device, config());
    let opened = Instant::now();
    let session = rig.session(0);
    let id = rig.allocate(session, 64);
    let mut longest = Duration::ZERO;
    for round in 0..ROUNDS {
        let called = Instant::now();
        rig.write(session, id, &pattern(round, 64));
        longest = longest.max(called.elapsed());
    }
    let asked = opened.elapsed();
    let metrics = rig.memory.metrics();
    let answered = opening.elapsed();
    let count = (ROUNDS + 2) as f64;
    let (least, most) = (count / answered.as_secs_f64(), count / asked.as_secs_f64());
    let rate = metrics.messages_per_second;
    assert!(least <= rate && rate <= most, "{least} <= {rate} <= {most}");
    let latency_ns = metrics.average_message_latency_ns;
    assert!(
        latency_ns > 0.0 && latency_ns <= longest.as_nanos() as f64,
        "{latency_ns} ns; the longest took {longest:?}"
    );
}

/// Goal: what is pending is counted. Method: a kernel at a gate and five calls behind it, then none.
pub fn what_is_pending_is_counted(context: &Context) {
    let gate = Gate::closed();
    let rig = Rig::new(context.device_with(&[gated(&gate), counter()]), config());
    let session = rig.session(0);
    let id = rig.allocate(session, 4);
    let _open = OpenAtEnd(&gate);
    let first = rig.compute(session, GATED, None).post().expect("is submitted");
    let behind: Vec<_> =
        (0..5).map(|_| rig.compute(session, COUNTER, Some(id)).post().expect("is submitted")).collect();
    gate.wait_arrived(1);
    assert_eq!(rig.memory.metrics().pending_message_count, 6);
    gate.open();
    for call in std::iter::once(first).chain(behind) {
        assert!(call.wait().expect("is answered").success);
    }
    assert_eq!(rig.memory.metrics().pending_message_count, 0);
}

/// Goal: a write of many pieces counts once. Method: 64 KiB through staging of 256 bytes.
pub fn a_transfer_in_pieces_is_one_message(context: &Context) {
    let rig = Rig::new(context.device(), narrow(8));
    let session = rig.session(0);
    let id = rig.allocate(session, 64 * KIB);
    let before = rig.processed();
    rig.write(session, id, &pattern(3, 64 << 10));
    assert_eq!(rig.processed() - before, 1);
    assert_eq!(rig.read(session, id, 64 << 10), pattern(3, 64 << 10));
    assert_eq!(rig.processed() - before, 2);
}

/// Goal: a session's totals are its own and exact. Method: two sessions in one lane, one of them watched.
pub fn trackers_count_what_the_session_did(context: &Context) {
    let rig = Rig::new(context.device(), narrow(8));
    let (session, other) = (rig.session(0), rig.session(0));
    rig.write(other, rig.allocate(other, 10), &[1; 10]);
    let first = rig.allocate(session, 1000);
    rig.write(session, first, &[1; 1000]);
    rig.write(session, first, &[1; 10]);
    rig.read(session, first, 30);
    rig.release(session, first);
    rig.release(session, first);
    rig.allocate(session, 1000);
    let totals = rig.memory.totals(session).expect("the session is open");
    let allocations = totals.allocations;
    assert_eq!((allocations.count, allocations.pool_hit_count, allocations.bytes), (2, 1, 2000));
    assert_eq!((totals.writes.count, totals.writes.bytes), (2, 1010));
    assert_eq!((totals.reads.count, totals.reads.bytes), (1, 30));
    assert_eq!((totals.releases.count, totals.releases.returned_to_pool_count, totals.releases.bytes), (1, 1, 1000));
    assert_eq!(totals.computes.count, 0);
}

/// Goal: what is restored is an allocation of its session, hit or miss as the device counts it. Method: one under the id of
/// a block that is idle, and one for which there is none.
pub fn trackers_count_what_is_restored(context: &Context) {
    let rig = Rig::new(context.device(), config());
    let session = rig.session(0);
    let released = rig.allocate(session, KIB);
    let [listed] = rig.memory.allocations(session).expect("the session is open")[..] else { panic!("there is one") };
    rig.release(session, released);
    let other = AllocationId { slot: released.slot + 1, ..released };
    for restored in [listed, RestoredAllocation { id: other, size_bytes: 5 * KIB, ..listed }] {
        rig.memory.restore(session, &restored).expect("its slot is free");
    }
    let allocations = rig.memory.totals(session).expect("the session is open").allocations;
    assert_eq!((allocations.count, allocations.pool_hit_count, allocations.bytes), (3, 1, 7 * KIB));
    let metrics = rig.memory.metrics();
    assert_eq!((metrics.pool_hit_count, metrics.pool_miss_count), (1, 2));
}

/// Goal: details on request only, and right. Method: two classes, one idle block.
pub fn details_list_the_size_classes_when_asked_for(context: &Context) {
    let rig = Rig::new(context.device(), config());
    let session = rig.session(0);
    rig.allocate(session, KIB);
    let big = rig.allocate(session, 5 * KIB);
    rig.release(session, big);
    let mut message = GetMetricsMessage::new(rig.memory.envelope());
    assert!(rig.memory.get_metrics(session, &message).expect("is answered").details.is_empty());
    message.include_details = true;
    let response = sent(rig.memory.get_metrics(session, &message).expect("is answered"));
    let rows = response.details.iter().map(|class| {
        (class.block_size_bytes, class.live_block_count, class.idle_block_count, class.hit_count, class.miss_count)
    });
    assert_eq!(rows.collect::<Vec<_>>(), [(KIB, 1, 0, 0, 1), (5 * KIB, 0, 1, 0, 1)]);
}

/// Goal: a reply is taken by who asked, never by the next in line. Method: threads on one lane write and read their own
/// numbers, in lanes of few slots, and compare ids and contents.
pub fn concurrent_replies_name_their_requests(context: &Context) {
    let rig = Rig::new(context.device(), narrow(4));
    thread::scope(|scope| {
        for thread in 0..4_u64 {
            let rig = &rig;
            scope.spawn(move || {
                let session = rig.session(0);
                let id = rig.allocate(session, 8);
                for round in 0..500_u64 {
                    let value = (thread << 32 | round).to_le_bytes();
                    let write = rig.write_message(id, 0, 8);
                    answers(&write, &rig.memory.write(session, &write, &value).wait().expect("is written"));
                    let mut bytes = [0; 8];
                    let read = ReadMessage::new(rig.memory.envelope(), id, 0, staged(8));
                    answers(&read, &rig.memory.read(session, &read, &mut bytes).wait().expect("is read"));
                    assert_eq!(bytes, value, "thread {thread} took the answer of another");
                }
            });
        }
    });
}

/// Goal: the kernel cache's counters are exact. Method: known numbers of first and later calls.
pub fn kernel_counters_are_exact(context: &Context) {
    let rig = Rig::new(context.device(), config());
    let session = rig.session(0);
    let id = rig.allocate(session, 64);
    let before = rig.processed();
    for _ in 0..10 {
        rig.run(session, FILL.into(), Some(id));
    }
    let message = GetMetricsMessage::new(rig.memory.envelope());
    let response = rig.memory.get_metrics(session, &message).expect("is answered");
    assert_eq!((response.kernel_cache_hit_count, response.kernel_cache_miss_count), (9, 1));
    assert_eq!(response.total_messages_processed - before, 11);
    let metrics = rig.memory.metrics();
    assert!((metrics.kernel_cache_hit_rate - 0.9).abs() < 1e-12 && metrics.kernel_cache_size == 1, "{metrics:?}");
    let totals = rig.memory.totals(session).expect("the session is open");
    assert_eq!((totals.computes.count, totals.computes.cache_hit_count), (10, 9));
}

/// Goal: kernel_time_us is there for work beside the ring. Method: one such kernel, its gate open.
pub fn work_beside_the_ring_is_always_timed(context: &Context) {
    let rig = Rig::new(context.device_with(&[gated(&Gate::opened())]), config());
    let session = rig.session(0);
    for _ in 0..10 {
        let called = Instant::now();
        let response = rig.run(session, GATED, None);
        let whole_us = called.elapsed().as_secs_f64() * 1e6;
        assert!(response.kernel_time_us.is_some_and(|us| us > 0.0 && us <= whole_us), "{response:?} in {whole_us} us");
    }
}
