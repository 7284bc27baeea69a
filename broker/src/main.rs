//! The broker process.

use std::process::ExitCode;

use broker::config::{Flags, example, load};
use broker::runtime::allocator::Allocator;
use broker::{Error, logging, runtime, server, signals};
use clap::Parser;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

fn main() -> ExitCode {
    runtime::memory::tune_allocator();
    runtime::abort_on_panic();
    let flags = Flags::parse();
    match run(&flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("broker: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(flags: &Flags) -> Result<(), Error> {
    if flags.print_config {
        print!("{}", example::example_file());
        return Ok(());
    }
    let config = load(flags.config.as_deref(), std::env::vars(), &flags.overrides())?;
    if flags.check {
        server::check(&config)?;
        println!("The configuration is valid.");
        return Ok(());
    }
    logging::start(&config).map_err(Error::Unsuitable)?;
    signals::block().map_err(|error| Error::system("cannot block signals", error))?;
    server::run(config)
}
