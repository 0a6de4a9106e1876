//! Files of results, all or nothing where the target allows it; `--output`: the scores as CSV.
//!
//! A file is written beside its target, synced, and moved there at the end, so that a run that
//! fails leaves what was there before. A pipe or a device is written as the scores come.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use tempfile::TempPath;

use super::error::Error;
use super::interrupt;

const BUFFER_BYTES: usize = 256 * 1024;
/// Scores from this size on, or below its like, are shorter with an exponent.
const PLAIN_SCORES: std::ops::Range<f32> = 1e-5..1e16;
/// How many links in a row are followed: as many as Linux does.
const LINKS_MAX: usize = 40;

/// The lines `row,key,value,score`, on their way.
#[derive(Debug)]
pub struct ScoreFile(OutputFile);

/// What is written to a target, on its way.
#[derive(Debug)]
struct OutputFile {
    writer: BufWriter<File>,
    name: String,
    target: Target,
}

#[derive(Debug)]
enum Target {
    /// Written beside `path` and moved there at the end.
    Beside {
        temporary: Option<TempPath>,
        path: PathBuf,
    },
    /// A pipe or a device.
    Direct,
    StandardOutput,
}

/// Whether writing to `path` would be writing to standard output.
pub fn is_standard_output(path: &Path) -> bool {
    if path == Path::new("-") {
        return true;
    }
    let standard_output = || File::from(io::stdout().as_fd().try_clone_to_owned().ok()?).metadata().ok();
    let (Ok(target), Some(standard_output)) = (fs::metadata(path), standard_output()) else { return false };
    // Two users of /dev/null do not get into each other's way; two of a terminal do.
    let is_shared_device = target.file_type().is_char_device() && !io::stdout().is_terminal();
    !is_shared_device && (target.dev(), target.ino()) == (standard_output.dev(), standard_output.ino())
}

impl ScoreFile {
    /// Opens the target and writes the header line.
    pub fn create(path: &Path) -> Result<Self, Error> {
        let mut file = OutputFile::create(path)?;
        file.check(|writer| writer.write_all(b"row,key,value,score\n"))?;
        Ok(Self(file))
    }

    /// Writes one line. The value is a number as it was read: it never needs quotes.
    pub fn write_row(&mut self, row: u64, key: &[u8], value: &[u8], score: f32) -> Result<(), Error> {
        self.0.check(|writer| {
            write!(writer, "{row},")?;
            write_field(writer, key)?;
            writer.write_all(b",")?;
            writer.write_all(value)?;
            writer.write_all(b",")?;
            write_score(writer, score)?;
            writer.write_all(b"\n")
        })
    }

    /// Writes what is still in memory and puts the file in its place.
    pub fn commit(self) -> Result<(), Error> {
        self.0.commit()
    }
}

/// Writes `text` to `path`, in place of what was there.
pub fn replace(path: &Path, text: &str) -> Result<(), Error> {
    let mut file = OutputFile::create(path)?;
    file.check(|writer| writer.write_all(text.as_bytes()))?;
    file.commit()
}

/// Finds out whether [`replace`] could write to `path` now; leaves everything as it is.
pub fn check(path: &Path) -> Result<(), Error> {
    // Opening a pipe would begin what is to come later.
    let is_direct = fs::metadata(path).is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir());
    if is_direct { Ok(()) } else { OutputFile::create(path).map(drop) }
}

impl OutputFile {
    fn create(path: &Path) -> Result<Self, Error> {
        let name = path.display().to_string();
        let (file, target) = open(path).map_err(|source| Error::Write { name: name.clone(), source })?;
        Ok(Self { writer: BufWriter::with_capacity(BUFFER_BYTES, file), name, target })
    }

    fn commit(mut self) -> Result<(), Error> {
        self.check(|writer| writer.flush())?;
        let Target::Beside { temporary, path } = &mut self.target else { return Ok(()) };
        let Some(temporary) = temporary.take() else { return Ok(()) };
        let file = self.writer.get_ref();
        let write_error = |source| Error::Write { name: self.name.clone(), source };
        file.sync_all().map_err(write_error)?;
        interrupt::settle(|| {
            interrupt::check()?;
            temporary.persist(&path).map_err(|error| write_error(error.error))
        })?;
        sync_directory(path).map_err(write_error)
    }

    fn check(&mut self, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> Result<(), Error> {
        write(&mut self.writer).map_err(|source| match (&self.target, source.kind()) {
            (Target::StandardOutput, ErrorKind::BrokenPipe) => Error::ReaderGone,
            _ => Error::Write { name: self.name.clone(), source },
        })
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        if let Target::Beside { temporary, .. } = &mut self.target
            && let Some(temporary) = temporary.take()
        {
            // The run has failed already; a file that cannot be removed is not the news.
            let _ = interrupt::settle(|| temporary.close());
        }
    }
}

fn open(path: &Path) -> io::Result<(File, Target)> {
    if is_standard_output(path) {
        // Not opened by its path: that would begin again at the start of a redirected file.
        return Ok((File::from(io::stdout().as_fd().try_clone_to_owned()?), Target::StandardOutput));
    }
    let existing = match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => return Err(ErrorKind::IsADirectory.into()),
        Ok(metadata) if !metadata.is_file() => {
            return Ok((OpenOptions::new().write(true).open(path)?, Target::Direct));
        }
        Ok(metadata) => Some(metadata),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    // A link stays a link: the file that it names is replaced, or made.
    let path = if existing.is_some() { fs::canonicalize(path)? } else { follow_links(path)? };
    let (file, temporary) = create_beside(&path)?;
    interrupt::protect(&temporary);
    let target = Target::Beside { temporary: Some(temporary), path };
    if let Some(existing) = existing {
        file.set_permissions(existing.permissions())?;
    }
    Ok((file, target))
}

/// The path of the file that does not exist yet, behind whatever links lead to it.
fn follow_links(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        // What is no link, or not there, is where it ends.
        let Ok(next) = fs::read_link(&path) else { return Ok(path) };
        path = directory_of(&path).join(next);
    }
    Err(io::Error::other("too many levels of symbolic links"))
}

/// A new file in the folder of `path`, with the mode of any new file.
fn create_beside(path: &Path) -> io::Result<(File, TempPath)> {
    let name = path.file_name().ok_or(ErrorKind::InvalidFilename)?.to_string_lossy().into_owned();
    let mut builder = tempfile::Builder::new();
    let prefix = format!(".{}.", name.chars().take(50).collect::<String>());
    builder.prefix(&prefix).suffix(".part");
    // The builder's own error names the temporary file, which means nothing to the user: the system's is kept.
    let mut refused = None;
    let made = builder.make_in(directory_of(path), |temporary| {
        let opened = OpenOptions::new().write(true).create_new(true).open(temporary);
        opened.inspect_err(|error| refused = error.raw_os_error())
    });
    made.map(|file| file.into_parts()).map_err(|error| refused.map_or(error, io::Error::from_raw_os_error))
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes the move itself last.
fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(directory_of(path))?.sync_all()
}

fn write_field(writer: &mut impl Write, field: &[u8]) -> io::Result<()> {
    if memchr::memchr3(b',', b'"', b'\n', field).is_none() && !field.contains(&b'\r') {
        return writer.write_all(field);
    }
    writer.write_all(b"\"")?;
    for (index, part) in field.split(|&byte| byte == b'"').enumerate() {
        if index > 0 {
            writer.write_all(b"\"\"")?;
        }
        writer.write_all(part)?;
    }
    writer.write_all(b"\"")
}

/// The shortest text that reads back as the same f32.
fn write_score(writer: &mut impl Write, score: f32) -> io::Result<()> {
    if score == 0.0 || PLAIN_SCORES.contains(&score.abs()) || !score.is_finite() {
        write!(writer, "{score}")
    } else {
        write!(writer, "{score:e}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_quoted_when_needed() {
        let written = |field: &str| {
            let mut out = Vec::new();
            write_field(&mut out, field.as_bytes()).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            ["a b", "a,b", "\"", "a\"b\nc", "\r"].map(written),
            ["a b", "\"a,b\"", "\"\"\"\"", "\"a\"\"b\nc\"", "\"\r\""]
        );
    }

    #[test]
    fn scores_read_back_as_themselves() {
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..100_000 {
            let score = f32::from_bits(random.u32(..));
            let mut out = Vec::new();
            write_score(&mut out, score).unwrap();
            let text = String::from_utf8(out).unwrap();
            let back: f32 = text.parse().unwrap();
            assert!(back.to_bits() == score.to_bits() || score.is_nan(), "{text}");
            assert!(text.len() <= 18, "{text}");
        }
    }
}
