//! The command line.

use std::path::{Path, PathBuf};

use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use gpubridge::figures::Area;

use super::error::Error;
use super::place::Place;
use super::stress;

/// Actors whose state lives in GPU memory. Without a command: the demonstration, the flights of
/// 2013 through one actor per aircraft, each score checked against a plain reference.
#[derive(Debug, Parser)]
#[command(name = "gpubridge", version)]
pub struct Cli {
    /// What to do; nothing means the demonstration.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the devices that actors can live on
    Devices,
    /// Run the conformance suite on a backend
    Conformance(ConformanceArgs),
    /// Score each row of a CSV file against the earlier rows of its key
    Stream(StreamArgs),
    /// Run the actors hard and long, with exact accounts at the end
    Stress(StressArgs),
    /// Measure the figures that the project promises, beside their targets
    Bench(BenchArgs),
}

/// Options of `gpubridge conformance`.
#[derive(Debug, Args)]
pub struct ConformanceArgs {
    /// Only the cases whose `area::name` contains one of these
    #[arg(value_name = "FILTER")]
    pub filters: Vec<String>,
    /// Backend to run on, on its device 0, by name, or `auto`; may be given several times
    #[arg(long, value_name = "NAME", default_value = "auto")]
    pub backend: Vec<String>,
    /// How to report: a line per case, a table of capabilities, or JSON
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// How a run of the conformance suite is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A line per case, as it ends.
    Text,
    /// A table of backends and what they can do.
    Markdown,
    /// An object per backend; an array of them if there are several.
    Json,
}

/// Options of `gpubridge bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// What to measure
    #[arg(value_name = "AREA", default_value = BenchArgs::ALL, value_parser = BenchArgs::areas())]
    pub area: String,
    #[command(flatten)]
    pub place: Place,
    /// A smoke run of seconds: it shows that everything runs, its figures mean nothing
    #[arg(long)]
    pub quick: bool,
    /// Write the report as one JSON object to this file (`-` is standard output, in place of the tables)
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Put the tables between the two marker lines of this file
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,
    /// Draw latency.svg, throughput.svg and hit-rate.svg into this folder, which is made if need be
    #[arg(long, value_name = "DIR")]
    pub svg: Option<PathBuf>,
}

impl BenchArgs {
    /// The name of all areas together.
    const ALL: &str = "all";

    fn areas() -> PossibleValuesParser {
        PossibleValuesParser::new(Area::ALL.map(Area::name).into_iter().chain([Self::ALL]))
    }

    /// Whether the report goes to standard output as JSON.
    pub fn json_to_standard_output(&self) -> bool {
        self.json.as_deref() == Some(Path::new("-"))
    }

    /// The one area asked for; `None` for all.
    pub fn one_area(&self) -> Option<Area> {
        Area::ALL.into_iter().find(|area| area.name() == self.area)
    }
}

/// Options of `gpubridge stream`.
#[derive(Debug, Args)]
pub struct StreamArgs {
    /// CSV or gzipped CSV with a header line; `-` is standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Column whose every distinct value gets an actor
    #[arg(long, value_name = "COLUMN")]
    pub key: String,
    /// Column with the numbers to score
    #[arg(long, value_name = "COLUMN")]
    pub value: String,
    /// How many earlier values of its key a value is scored against
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(2..=65_536), allow_negative_numbers = true)]
    pub window: u32,
    /// Scores of at least this size are counted as anomalies
    #[arg(long, default_value_t = 3.0, value_parser = parse_threshold, allow_negative_numbers = true)]
    pub threshold: f64,
    #[command(flatten)]
    pub place: Place,
    /// Write `row,key,value,score` lines to this file (`-` is standard output)
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Check every score against a plain reference
    #[arg(long)]
    pub verify: bool,
    /// Also run a plain single-threaded loop in turn with the actors, and compare
    #[arg(long)]
    pub baseline: bool,
    /// Count rows whose value is no finite number instead of stopping
    #[arg(long)]
    pub skip_bad: bool,
    /// Stop when there are more distinct keys than this
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..), allow_negative_numbers = true)]
    pub max_keys: u32,
    /// Print the report as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Options of `gpubridge stress`.
#[derive(Debug, Args)]
pub struct StressArgs {
    /// Which run
    #[arg(value_name = "RUN", default_value = stress::ALL, value_parser = PossibleValuesParser::new(stress::names()))]
    pub run: String,
    #[command(flatten)]
    pub place: Place,
    /// Operations of each run, instead of its own number
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..), allow_negative_numbers = true)]
    pub operations: Option<u64>,
    /// Where the random numbers begin; the same seed gives the same load
    #[arg(long, default_value_t = 42)]
    pub seed: u64,
    /// Print the report as one JSON object
    #[arg(long)]
    pub json: bool,
}

impl StreamArgs {
    /// Whether the input is standard input.
    pub fn reads_standard_input(&self) -> bool {
        self.file == Path::new("-")
    }
}

fn parse_threshold(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(threshold) if threshold.is_finite() && threshold >= 0.0 => Ok(threshold),
        Ok(_) => Err("a threshold is finite and not negative".into()),
        Err(_) => Err("not a number".into()),
    }
}

/// Parses the command line. Help and version are printed here and end the program.
pub fn parse() -> Result<Cli, Error> {
    let parsed = Cli::try_parse().and_then(check);
    parsed.map_err(|error| {
        if !error.use_stderr() {
            error.exit();
        }
        Error::Usage(first_paragraph(&error.render().to_string()))
    })
}

fn check(cli: Cli) -> Result<Cli, clap::Error> {
    if let Some(Command::Stream(args)) = &cli.command
        && args.baseline
        && args.reads_standard_input()
    {
        return Err(clap::Error::raw(
            clap::error::ErrorKind::ArgumentConflict,
            "--baseline reads its input more than once: standard input cannot be",
        ));
    }
    Ok(cli)
}

/// The parser's message without its hints, on one line.
fn first_paragraph(message: &str) -> String {
    let message = message.strip_prefix("error: ").unwrap_or(message);
    let lines = message.lines().map(str::trim).take_while(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn defaults_are_those_of_the_manual() {
        let cli = Cli::try_parse_from(["gpubridge", "stream", "f.csv", "--key", "k", "--value", "v"]).unwrap();
        let Some(Command::Stream(args)) = cli.command else { panic!("not a stream") };
        assert_eq!((args.window, args.threshold, args.max_keys), (64, 3.0, 1_000_000));
        assert_eq!([args.place.backend, args.place.device], ["auto", "auto"]);
        assert!(!args.verify && !args.baseline && !args.skip_bad && !args.json && args.output.is_none());
    }

    #[test]
    fn several_lines_of_a_message_become_one() {
        let message = "error: these are missing:\n  --key <COLUMN>\n  --value <COLUMN>\n\nUsage: more";
        assert_eq!(first_paragraph(message), "these are missing: --key <COLUMN> --value <COLUMN>");
    }
}
