//! `brokerctl log dump`: what is in segment and index files, and whether it is sound. Works offline, on files alone.
//!
//! | file | owns |
//! |---|---|
//! | this | the command's arguments, which files belong to a path, the exit state |
//! | `segment` | `.log`: batches, records, checks |
//! | `index` | `.index` and `.timeindex`: entries, and whether they point at batches |
//! | `line` | every line of output, as text (in the words of `kafka-dump-log`) and as JSON |

mod index;
mod line;
mod segment;

use std::{
    fs,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use line::Line;

/// Show what segment and index files hold and check it: CRCs, offsets, records, index entries.
///
/// Works on files alone, with the broker stopped or running. The exit status is not zero if anything is damaged.
#[derive(Debug, Clone, clap::Args)]
pub struct LogDumpArgs {
    /// Files (.log, .index, .timeindex), partition directories or whole data directories.
    #[arg(required = true)]
    pub paths: Vec<PathBuf>,
    /// Print every record: offset, timestamp, key, value and headers.
    #[arg(long)]
    pub records: bool,
    /// Print one JSON object per line.
    #[arg(long)]
    pub json: bool,
    /// Print only damage and the summary of each file.
    #[arg(long)]
    pub quiet: bool,
    /// Print only batches that reach this offset.
    #[arg(long, value_name = "OFFSET")]
    pub from: Option<i64>,
    /// Print only batches that start at or before this offset.
    #[arg(long, value_name = "OFFSET")]
    pub to: Option<i64>,
}

/// Why a dump did not end well.
#[derive(Debug, thiserror::Error)]
pub enum LogDumpError {
    /// A path could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// File or directory.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// Output failed.
    #[error("cannot write the dump: {0}")]
    Write(#[from] io::Error),
    /// Nothing to dump.
    #[error("{} holds no segment or index file (named by 20 digits, .log, .index or .timeindex)", .0.display())]
    NoFiles(PathBuf),
    /// Everything was printed, and some of it is damaged.
    #[error("{0} of the files are damaged")]
    Damaged(usize),
}

/// Dumps to standard output.
///
/// # Errors
/// [`LogDumpError`]; also, after everything has been printed, if something is damaged.
pub fn run(args: LogDumpArgs) -> Result<(), LogDumpError> {
    match dump(&args, &mut BufWriter::new(io::stdout().lock())) {
        // Somebody piped us into head.
        Err(LogDumpError::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Dumps to `out`.
///
/// # Errors
/// As [`run`].
pub fn dump(args: &LogDumpArgs, out: &mut impl Write) -> Result<(), LogDumpError> {
    let mut output = Output { args, out };
    let mut damaged = 0;
    for path in &args.paths {
        for file in files_of(path)? {
            let sound = match kind_of(&file) {
                Some(Kind::Log) => segment::dump(&file, &mut output)?,
                Some(Kind::Index) => index::dump_offsets(&file, &mut output)?,
                Some(Kind::TimeIndex) => index::dump_times(&file, &mut output)?,
                None => return Err(LogDumpError::NoFiles(file)),
            };
            damaged += usize::from(!sound);
        }
    }
    output.out.flush()?;
    if damaged > 0 { Err(LogDumpError::Damaged(damaged)) } else { Ok(()) }
}

/// Where lines go.
struct Output<'a, W> {
    args: &'a LogDumpArgs,
    out: &'a mut W,
}

impl<W: Write> Output<'_, W> {
    /// Prints what `--quiet` leaves out.
    fn detail(&mut self, line: &Line<'_>) -> io::Result<()> {
        if self.args.quiet { Ok(()) } else { self.print(line) }
    }

    fn print(&mut self, line: &Line<'_>) -> io::Result<()> {
        if self.args.json {
            serde_json::to_writer(&mut *self.out, line)?;
            writeln!(self.out)
        } else {
            writeln!(self.out, "{line}")
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Log,
    Index,
    TimeIndex,
}

fn kind_of(path: &Path) -> Option<Kind> {
    match path.extension()?.to_str()? {
        "log" => Some(Kind::Log),
        "index" => Some(Kind::Index),
        "timeindex" => Some(Kind::TimeIndex),
        _ => None,
    }
}

/// The offset in a segment file's name.
fn base_offset_of(path: &Path) -> Option<i64> {
    let stem = path.file_stem()?.to_str()?;
    (stem.len() == 20 && stem.bytes().all(|byte| byte.is_ascii_digit())).then(|| stem.parse().ok())?
}

/// A file itself, or all segment and index files below a directory, in order of their names.
fn files_of(path: &Path) -> Result<Vec<PathBuf>, LogDumpError> {
    let read_error = |source| LogDumpError::Read { path: path.to_owned(), source };
    if !fs::metadata(path).map_err(read_error)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    collect(path, &mut files)?;
    if files.is_empty() {
        return Err(LogDumpError::NoFiles(path.to_owned()));
    }
    Ok(files)
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) -> Result<(), LogDumpError> {
    let read_error = |source| LogDumpError::Read { path: directory.to_owned(), source };
    let mut entries = fs::read_dir(directory)
        .and_then(|entries| {
            entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()
        })
        .map_err(read_error)?;
    entries.sort();
    for entry in entries {
        if entry.is_dir() {
            collect(&entry, files)?;
        } else if kind_of(&entry).is_some() && base_offset_of(&entry).is_some() {
            files.push(entry);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
