//! What the program does: command line → rows → actors → report.
//!
//! - `cli`, `error`, `interrupt`, `process`: options, everything that can go wrong, Ctrl-C, the process's beginning and end
//! - `source` → `split` → `csv` → `value` → `rows`: bytes to rows to numbers, as a stream
//! - `keys`: key texts as dense numbers
//! - `engine`: the seam to the actors; `window`: the same arithmetic in plain memory
//! - `pipeline`, `reorder`: rows in, scores out, in input order
//! - `tally`, `reference`, `verify`, `output`, `report`, `progress`: what becomes of the scores
//! - `stream`, `compare`, `demonstration`, `devices`, `conformance`, `stress`, `bench`: the commands

mod actors;
mod bench;
mod cli;
mod compare;
mod conformance;
mod csv;
mod demonstration;
mod devices;
mod engine;
mod error;
mod interrupt;
mod keys;
mod output;
mod pipeline;
mod place;
mod process;
mod progress;
mod reference;
mod reorder;
mod report;
mod rows;
mod source;
mod split;
mod stream;
mod stress;
mod tally;
mod value;
mod verify;
mod window;

use std::io::{self, Write};

use cli::Command;
use error::Error;

/// Runs the program, and ends the process with its exit code. To be called first in `main`. Errors are one line on standard error.
pub fn run() -> ! {
    // Before there are other threads.
    process::begin();
    let code = match cli::parse().and_then(|cli| dispatch(cli.command)) {
        Ok(()) => 0,
        Err(error) => {
            if !matches!(error, Error::ReaderGone) {
                // Nobody is left to be told when this fails too.
                let _ = writeln!(io::stderr(), "error: {}", error.one_line());
            }
            error.exit_code()
        }
    };
    process::exit(code)
}

fn dispatch(command: Option<Command>) -> Result<(), Error> {
    match command {
        None => demonstration::run(),
        Some(Command::Devices) => devices::run(),
        Some(Command::Conformance(args)) => conformance::run(&args),
        Some(Command::Stress(args)) => stress::run(&args),
        Some(Command::Stream(args)) => stream::run(&stream::Plan::from(args)).map(drop),
        Some(Command::Bench(args)) => bench::run(&args),
    }
}
