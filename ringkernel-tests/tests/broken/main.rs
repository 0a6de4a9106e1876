//! The suite, tested: backends broken on purpose, each caught by the case that speaks of what it does wrong.
//!
//! Every backend is the CPU backend behind a wrapper ([`wrap`]) and one fault of a few lines. The same wrapper without
//! a fault passes every case that is named here, so it is the fault that is caught.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use gpubridge_abstractions::Backend;
use gpubridge_kernels::{KernelLibrary, library};
use libtest_mimic::{Arguments, Failed, Trial};
use ringkernel_tests::{CaseReport, Status, Suite};

mod answers;
mod copies;
mod kernels;
mod lifecycle;
mod memory;
mod order;
mod reports;
mod wrap;

use wrap::{Broken, Fault, Sound};

/// A fault, and the case that catches it.
#[derive(Clone, Copy)]
struct Caught {
    fault: &'static str,
    backend: fn(KernelLibrary) -> Arc<dyn Backend>,
    case: &'static str,
    hangs: bool,
}

/// The fault `F` makes `case` say what it saw.
fn fails<F: Fault>(case: &'static str) -> Caught {
    let name = std::any::type_name::<F>();
    let fault = name.strip_prefix("broken::").unwrap_or(name);
    Caught { fault, backend: Broken::<F>::over, case, hangs: false }
}

/// The fault `F` has `case` wait for what never comes, until its deadline ends it.
fn hangs<F: Fault>(case: &'static str) -> Caught {
    Caught { hangs: true, ..fails::<F>(case) }
}

/// Every fault, and the case that says most directly what is wrong.
fn table() -> Vec<Caught> {
    vec![
        fails::<answers::TakesTheNextAnswer>("answers::answers_taken_in_any_order_are_their_own"),
        fails::<answers::SwapsTwoReplies>("answers::answers_taken_in_any_order_are_their_own"),
        // An honest period: the case has twice as many commands of one lane answered.
        hangs::<answers::DropsEveryTenThousandth>("order::writes_and_reads_of_a_grain_keep_their_order"),
        fails::<answers::AnswersTwice>("answers::an_answer_is_taken_once"),
        fails::<answers::AnswersBeforeTheBytes>("answers::a_read_fills_what_it_is_given"),
        fails::<answers::IgnoresMissingTargets>("binding::a_name_of_nothing_is_unknown"),
        fails::<answers::HidesKernelFaults>("compute::a_fault_is_its_commands_alone"),
        fails::<answers::LeavesTheLastTail>("copies::inline_answers_end_with_zeros"),
        fails::<order::OffByOneAtTheWrap>("ring::every_slot_carries_every_payload_lap_after_lap"),
        fails::<order::KeepsASlotFree>("ring::a_lane_is_full_at_its_slots_in_every_lap"),
        fails::<order::TakesFullForEmpty>("answers::pending_counts_what_is_not_answered"),
        fails::<order::NeverFull>("ring::a_lane_is_full_at_its_slots_in_every_lap"),
        fails::<order::FreesWhatIsAbandoned>("answers::given_up_slots_come_back"),
        fails::<order::Reorders>("order::writes_and_reads_of_a_grain_keep_their_order"),
        fails::<order::Overlaps>("order::what_waits_behind_a_slow_call_keeps_its_order"),
        hangs::<order::HasOneQueueForAll>("order::a_thousand_others_are_answered_meanwhile"),
        hangs::<order::LosesDoorbells>("ring::a_bell_is_heard_after_every_pause"),
        fails::<order::SubmitsBeforeTheBytes>("ring::staged_bytes_arrive_with_their_command_lap_after_lap"),
        fails::<memory::IgnoresTheMemoryType>("memory::a_type_that_is_not_honoured_is_refused"),
        fails::<memory::AlignsTooLittle>("memory::addresses_are_aligned"),
        fails::<memory::LeaksBuffers>("memory::dropped_memory_cannot_be_bound"),
        fails::<memory::GivesOutTwice>("memory::fifty_reservations_at_once_are_apart"),
        fails::<memory::ShowsStaleData>("binding::another_owner_finds_zeros"),
        fails::<memory::ZeroesWholeWords>("binding::binding_zeroes_exactly_what_is_asked"),
        fails::<memory::LosesContents>("binding::a_bound_index_is_bound_again"),
        fails::<memory::ReachesBeyondTheEnd>("copies::ranges_beyond_the_allocation_are_refused"),
        fails::<memory::IgnoresTheGeneration>("binding::a_stale_name_is_unknown_to_everybody"),
        fails::<memory::IgnoresTheOwner>("binding::another_grains_block_is_not_reached"),
        fails::<copies::WrongAtOneAlignment>("copies::staged_copies_of_all_sizes_and_offsets"),
        fails::<copies::LosesTheLastPartialBlock>("copies::staged_copies_of_all_sizes_and_offsets"),
        fails::<copies::WritesWholeWords>("copies::staged_copies_of_all_sizes_and_offsets"),
        fails::<copies::LosesWrites>("ring::staged_bytes_arrive_with_their_command_lap_after_lap"),
        fails::<kernels::DoesNothing>("kernels::fill_stores_its_bits"),
        fails::<kernels::Sleeps>("kernels::sum_adds"),
        fails::<kernels::PassesUnknownKernels>("compute::a_slot_without_a_kernel_is_unknown"),
        fails::<kernels::RemembersFailures>("cache::a_failure_is_not_cached_and_keeps_its_text"),
        fails::<kernels::LosesTheCompilersText>("compute::a_kernel_that_does_not_build_says_why"),
        fails::<kernels::KeepsTheFirstKernel>("compute::the_next_command_runs_what_was_compiled"),
        fails::<kernels::IgnoresTheElementType>("kernels::integers_wrap"),
        fails::<kernels::LeavesOutTheLastBlock>("kernels::dot_adds_products"),
        fails::<kernels::StopsAt65535>("kernels::sum_adds"),
        fails::<kernels::TurnsNanIntoZero>("kernels::nan_and_infinities_spread"),
        fails::<lifecycle::StartsActive>("lifecycle::a_launched_ring_executes_nothing"),
        fails::<lifecycle::IgnoresDeactivation>("lifecycle::an_inactive_ring_keeps_what_comes"),
        fails::<lifecycle::IgnoresTheStopFlag>("lifecycle::a_terminated_ring_cannot_be_activated"),
        fails::<lifecycle::TimesOutAtTheEnd>("lifecycle::a_ring_can_be_terminated_in_any_state"),
        fails::<lifecycle::AcceptsAfterTheEnd>("lifecycle::a_terminated_ring_refuses_commands"),
        hangs::<lifecycle::IgnoresDeadlines>("lifecycle::a_kernel_that_does_not_end_makes_a_change_time_out"),
        fails::<lifecycle::CancelsWhatIsQueued>("lifecycle::an_inactive_ring_keeps_what_comes"),
        fails::<reports::ClaimsEveryMemoryType>("device::claimed_memory_types_are_honoured_and_no_others"),
        fails::<reports::IgnoresTheDeviceIndex>("device::an_unknown_index_is_not_found"),
        fails::<reports::MixesUpTotalAndAvailable>("device::no_more_memory_is_available_than_there_is"),
        fails::<reports::NeverTellsTheTime>("requests::work_beside_the_ring_is_always_timed"),
        fails::<reports::RoundsResultsUp>("copies::inline_answers_end_with_zeros"),
        fails::<reports::CompletesTooEarly>("answers::completed_below_is_the_oldest_unanswered"),
        fails::<reports::CountsOnePendingTooFew>("answers::pending_counts_what_is_not_answered"),
    ]
}

/// Runs the case of this name.
fn attempt(
    case: &str,
    backend: fn(KernelLibrary) -> Arc<dyn Backend>,
    deadline: Option<Duration>,
) -> Result<CaseReport, Failed> {
    let case = Suite::find(case).ok_or_else(|| format!("there is no case `{case}`"))?;
    let suite = Suite::new(backend(library())).running_twins(backend);
    Ok(deadline.map_or(suite.clone(), |deadline| suite.with_deadline(deadline)).run_case(case))
}

/// The wrapper alone passes the case. Returns how long that takes.
fn passes_without_a_fault(case: &str) -> Result<Duration, Failed> {
    match attempt(case, Broken::<Sound>::over, None)? {
        CaseReport { status: Status::Passed, seconds, .. } => Ok(Duration::from_secs_f64(seconds)),
        CaseReport { status, reason, .. } => Err(format!("{status} {}", reason.unwrap_or_default()).into()),
    }
}

/// The backend with the fault fails the case: by what it sees, or by waiting where the table says that it hangs.
fn is_caught(row: Caught) -> Result<(), Failed> {
    let deadline = if row.hangs {
        // Far more than it takes when all is well, so that it is no slow case that is taken for a hanging one.
        Some(passes_without_a_fault(row.case)? * 3 + Duration::from_secs(1))
    } else {
        None
    };
    let report = attempt(row.case, row.backend, deadline)?;
    let seen = report.reason.unwrap_or_default();
    if report.status == Status::Failed && (row.hangs || !seen.starts_with("hangs: ")) {
        let start: String = seen.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(200).collect();
        println!("{} is caught by {}: {start}", row.fault, row.case);
        return Ok(());
    }
    Err(format!("{}: {} {seen}", row.case, report.status).into())
}

fn main() -> ExitCode {
    // The panics here are cases that catch a fault. What they saw is in their reports.
    std::panic::set_hook(Box::new(|_| {}));
    let mut table = table();
    // What hangs comes last: the threads that are given up on turn on the spot until the program ends.
    table.sort_by_key(|row| row.hangs);
    // Where a fault hangs the case, it is passed without the fault first, in the same test.
    let cases: BTreeSet<_> = table.iter().filter(|row| !row.hangs).map(|row| row.case).collect();
    let sound = |case| Trial::test(format!("sound::{case}"), move || passes_without_a_fault(case).map(drop));
    let broken = |row: Caught| Trial::test(row.fault, move || is_caught(row));
    let trials = cases.into_iter().map(sound).chain(table.into_iter().map(broken)).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
