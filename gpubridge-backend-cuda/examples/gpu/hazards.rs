//! Which calls of the driver return, stall or hang while a ring runs: each in a process of its own, which is ended when it
//! takes too long.

use std::env;
use std::error::Error;
use std::io::{BufRead, BufReader};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use gpubridge_backend_cuda::probe;
use serde_json::{Value, json};

use crate::{DEVICE, Done, tell};

/// A call that takes longer than this, though it returns, stalls.
const STALL: Duration = Duration::from_millis(100);
/// How long a process may take until it is about to make its call: the driver compiles the kernels first.
const PREPARATION: Duration = Duration::from_secs(60);
/// What it says then.
const READY: &str = "ready";

/// One call, in this process.
pub fn run(name: &str) -> Done {
    let met = |outcome: &probe::Outcome| {
        tell(&json!({
            "step": "hazard", "call": name, "microseconds": outcome.took.as_micros() as u64,
            "ring_answers": outcome.ring_answers,
            "outcome": if outcome.took > STALL { "stalls" } else { "returns" },
        }));
    };
    // A function that the driver has not got is found missing when it is called.
    let meet = AssertUnwindSafe(|| probe::meet_hazard(DEVICE, name, || println!("{READY}"), met));
    catch_unwind(meet).map_err(|_| "the call panicked: most likely this driver has no such function")??;
    Ok(true)
}

/// All calls, each for at most so many seconds.
pub fn run_all(seconds: u64) -> Done {
    for hazard in probe::HAZARDS {
        tell(&meet(hazard.name, Duration::from_secs(seconds))?);
    }
    Ok(true)
}

/// Makes one call in a process of its own, which is ended when the call takes longer than `most`.
fn meet(call: &str, most: Duration) -> Result<Value, Box<dyn Error>> {
    let program = env::current_exe()?;
    let mut child =
        Command::new(&program).args(["hazard", call]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    let (sender, said) = mpsc::channel();
    let reader = thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| sender.send(line)));
    let (mut outcome, mut within) = (None, PREPARATION);
    let mut waits_for = "is not ready";
    loop {
        match said.recv_timeout(within) {
            Ok(line) if line == READY => (within, waits_for) = (most, "hangs"),
            Ok(line) => outcome = serde_json::from_str::<Value>(&line).ok(),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) if outcome.is_some() => break,
            Err(RecvTimeoutError::Timeout) => {
                outcome = Some(
                    json!({"step": "hazard", "call": call, "outcome": waits_for, "after_seconds": within.as_secs()}),
                );
                break;
            }
        }
    }
    // It may still be at work giving back, or never end.
    child.kill()?;
    let output = child.wait_with_output()?;
    drop(reader.join());
    let fails = |said: &str| json!({"step": "hazard", "call": call, "outcome": "fails", "said": said});
    let errors = String::from_utf8_lossy(&output.stderr);
    Ok(match outcome {
        Some(outcome) if outcome.get("outcome").is_some() => outcome,
        Some(outcome) => fails(outcome.get("error").and_then(Value::as_str).unwrap_or_default()),
        None => fails(errors.lines().find(|line| !line.is_empty()).unwrap_or_default()),
    })
}
