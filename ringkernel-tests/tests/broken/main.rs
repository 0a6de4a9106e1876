//! The suite, tested: backends broken on purpose, each caught by the case that speaks of what it does wrong.
//!
//! Every backend is the CPU backend behind a wrapper ([`wrap`]) and one fault of a few lines. The same wrapper without a
//! fault passes every case that is named here, so it is the fault that is caught.

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
        fails::<answers::TakesTheNextAnswer>("requests::concurrent_replies_name_their_requests"),
        fails::<answers::SwapsTwoReplies>("requests::concurrent_replies_name_their_requests"),
        // The period is found by a case that really has as many commands of one lane answered.
        hangs::<answers::DropsEveryTenThousandth>("cache::popular_kernels_stay_when_there_are_more_than_slots"),
        fails::<answers::AnswersTwice>("requests::concurrent_replies_name_their_requests"),
        fails::<answers::AnswersBeforeTheBytes>("transfers::every_size_around_the_limits_arrives"),
        fails::<answers::IgnoresMissingTargets>("faults::an_allocation_that_is_not_live_is_no_success"),
        fails::<answers::HidesKernelFaults>("kernels::a_failure_of_a_kernel_is_its_calls_alone"),
        fails::<answers::LeavesTheLastTail>("transfers::every_size_around_the_limits_arrives"),
        fails::<order::OffByOneAtTheWrap>("progress::a_lane_that_was_full_is_empty_again"),
        fails::<order::KeepsASlotFree>("progress::a_lane_that_was_full_is_empty_again"),
        fails::<order::TakesFullForEmpty>("progress::a_lane_that_was_full_is_empty_again"),
        fails::<order::NeverFull>("progress::a_lane_that_was_full_is_empty_again"),
        fails::<order::FreesWhatIsAbandoned>("progress::a_lane_that_was_full_is_empty_again"),
        fails::<order::Reorders>("requests::concurrent_replies_name_their_requests"),
        fails::<order::Overlaps>("cache::evicted_kernels_in_flight_still_run"),
        hangs::<order::HasOneQueueForAll>("progress::one_slow_grain_holds_up_no_other_in_its_lane"),
        hangs::<order::LosesDoorbells>("progress::two_threads_share_a_lane"),
        fails::<order::SubmitsBeforeTheBytes>("transfers::every_size_around_the_limits_arrives"),
        fails::<memory::IgnoresTheMemoryType>("faults::a_memory_type_the_device_lacks_is_an_error"),
        fails::<memory::AlignsTooLittle>("faults::the_device_index_is_honoured"),
        fails::<memory::LeaksBuffers>("faults::the_device_index_is_honoured"),
        fails::<memory::GivesOutTwice>("faults::the_device_index_is_honoured"),
        fails::<memory::ShowsStaleData>("faults::reused_memory_is_zero_for_another_grain"),
        fails::<memory::ZeroesWholeWords>("faults::reused_memory_is_zero_for_another_grain"),
        fails::<memory::LosesContents>("faults::the_device_index_is_honoured"),
        fails::<memory::ReachesBeyondTheEnd>("faults::the_device_index_is_honoured"),
        fails::<memory::IgnoresTheGeneration>("faults::the_device_index_is_honoured"),
        fails::<memory::IgnoresTheOwner>("faults::the_device_index_is_honoured"),
        fails::<copies::WrongAtOneAlignment>("transfers::offsets_that_are_not_aligned_arrive"),
        fails::<copies::LosesTheLastPartialBlock>("transfers::every_size_around_the_limits_arrives"),
        fails::<copies::WritesWholeWords>("transfers::every_size_around_the_limits_arrives"),
        fails::<copies::LosesWrites>("requests::concurrent_replies_name_their_requests"),
        fails::<kernels::DoesNothing>("kernels::fill_stores_its_bits"),
        fails::<kernels::Sleeps>("faults::a_kernel_really_computes"),
        fails::<kernels::PassesUnknownKernels>("faults::an_unknown_kernel_is_no_success"),
        fails::<kernels::RemembersFailures>("cache::a_failure_is_not_cached_and_keeps_its_text"),
        fails::<kernels::LosesTheCompilersText>("cache::a_failure_is_not_cached_and_keeps_its_text"),
        fails::<kernels::KeepsTheFirstKernel>("kernels::a_specialization_is_there_for_the_next_call"),
        fails::<kernels::IgnoresTheElementType>("kernels::integers_wrap"),
        fails::<kernels::LeavesOutTheLastBlock>("kernels::dot_adds_products"),
        fails::<kernels::StopsAt65535>("kernels::sum_adds"),
        fails::<kernels::TurnsNanIntoZero>("kernels::nan_and_infinities_spread"),
        fails::<lifecycle::StartsActive>("faults::the_device_index_is_honoured"),
        fails::<lifecycle::IgnoresDeactivation>("faults::the_device_index_is_honoured"),
        fails::<lifecycle::IgnoresTheStopFlag>("faults::the_device_index_is_honoured"),
        fails::<lifecycle::TimesOutAtTheEnd>("grains::activation_initializes_the_ring_kernel"),
        fails::<lifecycle::AcceptsAfterTheEnd>("faults::the_device_index_is_honoured"),
        hangs::<lifecycle::IgnoresDeadlines>("sessions::a_shutdown_that_cannot_finish_says_so_in_time"),
        fails::<lifecycle::CancelsWhatIsQueued>("faults::the_device_index_is_honoured"),
        fails::<reports::ClaimsEveryMemoryType>("faults::memory_types_have_pools_of_their_own"),
        fails::<reports::IgnoresTheDeviceIndex>("faults::the_device_index_is_honoured"),
        fails::<reports::MixesUpTotalAndAvailable>("faults::the_device_index_is_honoured"),
        fails::<reports::NeverTellsTheTime>("requests::work_beside_the_ring_is_always_timed"),
        fails::<reports::RoundsResultsUp>("faults::the_device_index_is_honoured"),
        fails::<reports::CompletesTooEarly>("cache::too_many_evicted_kernels_at_work_are_a_typed_error"),
        fails::<reports::CountsOnePendingTooFew>("faults::the_device_index_is_honoured"),
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

/// The backend with the fault fails the case, in the way that the table says.
fn is_caught(row: Caught) -> Result<(), Failed> {
    // What takes ten times as long as it should does not come to an end.
    let until_it_hangs = || Ok::<_, Failed>(passes_without_a_fault(row.case)? * 10 + Duration::from_secs(1));
    let deadline = if row.hangs { Some(until_it_hangs()?) } else { None };
    let report = attempt(row.case, row.backend, deadline)?;
    let seen = report.reason.unwrap_or_default();
    match (report.status, seen.starts_with("hangs: ")) {
        (Status::Failed, hangs) if hangs == row.hangs => {
            println!("{} is caught by {}: {}", row.fault, row.case, seen.lines().collect::<Vec<_>>().join(" "));
            Ok(())
        }
        (status, _) => Err(format!("{}: {status} {seen}", row.case).into()),
    }
}

fn main() -> ExitCode {
    // The panics here are cases that catch a fault. What they saw is in their reports.
    std::panic::set_hook(Box::new(|_| {}));
    let table = table();
    let cases: BTreeSet<_> = table.iter().map(|row| row.case).collect();
    let sound = cases
        .into_iter()
        .map(|case| Trial::test(format!("sound passes {case}"), move || passes_without_a_fault(case).map(drop)));
    let trials = sound.chain(table.into_iter().map(|row| Trial::test(row.fault, move || is_caught(row))));
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}
