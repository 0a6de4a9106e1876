//! Where rows come from: a file, standard input, or the data set in the program; plain or gzipped.

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;

use super::error::Error;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// Compressed bytes read at a time.
const COMPRESSED_BUFFER_BYTES: usize = 64 * 1024;

/// An input that has not been opened yet.
#[derive(Debug, Clone)]
pub enum Input {
    /// A file, by path.
    File(PathBuf),
    /// Standard input; it can be read once.
    Stdin,
    /// Bytes inside the program.
    Embedded { name: &'static str, bytes: &'static [u8] },
}

/// An opened input.
pub struct Opened {
    /// The bytes of the CSV text, decompressed.
    pub reader: Box<dyn Read>,
    /// Name for messages.
    pub name: String,
    /// Whether the bytes are decompressed on the way.
    pub is_gzip: bool,
    /// Size of the input as stored, where it is known.
    pub stored_bytes: Option<u64>,
    /// How many stored bytes have been read.
    pub consumed_bytes: Arc<AtomicU64>,
}

impl Input {
    /// Name for messages and for the report.
    pub fn name(&self) -> String {
        match self {
            Input::File(path) => path.display().to_string(),
            Input::Stdin => "standard input".into(),
            Input::Embedded { name, .. } => (*name).into(),
        }
    }

    /// Whether the input can be read again from its beginning.
    pub fn can_be_read_again(&self) -> bool {
        match self {
            Input::File(path) => path.metadata().is_ok_and(|metadata| metadata.is_file()),
            Input::Stdin => false,
            Input::Embedded { .. } => true,
        }
    }

    /// Opens the input at its beginning and finds out whether it is compressed.
    pub fn open(&self) -> Result<Opened, Error> {
        let name = self.name();
        let (stored, stored_bytes): (Box<dyn Read>, _) = match self {
            Input::File(path) => {
                let open_error = |source| Error::Open { name: name.clone(), source };
                let file = File::open(path).map_err(open_error)?;
                let metadata = file.metadata().map_err(open_error)?;
                if metadata.is_dir() {
                    return Err(Error::Directory { name });
                }
                let size = metadata.is_file().then_some(metadata.len());
                (Box::new(file), size)
            }
            Input::Stdin => (Box::new(io::stdin().lock()), None),
            Input::Embedded { bytes, .. } => (Box::new(*bytes), Some(bytes.len() as u64)),
        };
        let consumed_bytes = Arc::new(AtomicU64::new(0));
        let mut stored = Counting { inner: stored, consumed_bytes: Arc::clone(&consumed_bytes) };
        let head = read_head(&mut stored).map_err(|source| Error::Read { name: name.clone(), line: 0, source })?;
        let is_gzip = head == GZIP_MAGIC;
        let whole = Cursor::new(head).chain(stored);
        let reader: Box<dyn Read> = if is_gzip {
            Box::new(MultiGzDecoder::new(BufReader::with_capacity(COMPRESSED_BUFFER_BYTES, whole)))
        } else {
            Box::new(whole)
        };
        Ok(Opened { reader, name, is_gzip, stored_bytes, consumed_bytes })
    }
}

/// The first two bytes, or as many as there are. A pipe may hand them out one by one.
fn read_head(reader: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(GZIP_MAGIC.len());
    reader.take(GZIP_MAGIC.len() as u64).read_to_end(&mut head)?;
    Ok(head)
}

/// Counts what passes through, for the progress bar.
struct Counting {
    inner: Box<dyn Read>,
    consumed_bytes: Arc<AtomicU64>,
}

impl Read for Counting {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.consumed_bytes.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}
