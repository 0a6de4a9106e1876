//! Which calls of the driver return, stall or hang while a ring runs: each in a process of its own, which is ended when it
//! takes too long.

use std::env;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use gpubridge_backend_cuda::probe;
use serde_json::{Value, json};

use crate::{DEVICE, Done, tell};

/// A call that takes longer than this, though it returns, stalls.
const STALL: Duration = Duration::from_millis(100);
const PAUSE: Duration = Duration::from_millis(20);

/// One call, in this process.
pub fn run(name: &str) -> Done {
    let outcome = probe::meet_hazard(DEVICE, name)?;
    tell(&json!({
        "step": "hazard", "call": name, "microseconds": outcome.took.as_micros() as u64,
        "ring_answers": outcome.ring_answers,
        "outcome": if outcome.took > STALL { "stalls" } else { "returns" },
    }));
    Ok(true)
}

/// All calls, each for at most so many seconds.
pub fn run_all(seconds: u64) -> Done {
    let program = env::current_exe()?;
    for hazard in probe::HAZARDS {
        let mut child = Command::new(&program)
            .args(["hazard", hazard.name])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let until = Instant::now() + Duration::from_secs(seconds);
        while child.try_wait()?.is_none() && Instant::now() < until {
            thread::sleep(PAUSE);
        }
        if child.try_wait()?.is_none() {
            child.kill()?;
            child.wait()?;
            tell(&json!({"step": "hazard", "call": hazard.name, "outcome": "hangs", "ended_after_seconds": seconds}));
            continue;
        }
        let output = child.wait_with_output()?;
        let told = String::from_utf8_lossy(&output.stdout);
        let mut result: Value = told.lines().last().map_or(Ok(Value::Null), serde_json::from_str)?;
        if result.get("outcome").is_none() {
            let said = String::from_utf8_lossy(&output.stderr);
            let said = result.get("error").and_then(Value::as_str).or(said.lines().find(|line| !line.is_empty()));
            result = json!({"step": "hazard", "call": hazard.name, "outcome": "fails", "said": said});
        }
        tell(&result);
    }
    Ok(true)
}
