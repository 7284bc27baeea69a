//! Text for whoever started the program: results on the standard output, anything else on the standard error output.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

use crate::error::BenchError;

/// Prints a result. A reader that has gone away, as `head` does, has seen what it wanted.
pub fn print(text: &str) -> Result<(), BenchError> {
    print_to(&mut io::stdout().lock(), text)
}

/// [`print`] to any writer.
pub fn print_to(out: &mut impl Write, text: &str) -> Result<(), BenchError> {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome.map_err(|source| BenchError::Output { path: "stdout".into(), source }),
    }
}

/// Tells how things go. Whether anybody listens changes nothing about them, so a failure is none.
pub fn tell(line: impl Display) {
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}
