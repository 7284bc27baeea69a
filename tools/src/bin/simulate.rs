//! The simulator's command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    tools::simulator::cli::main()
}
