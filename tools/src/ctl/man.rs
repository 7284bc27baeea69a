//! `brokerctl man`: manual pages, made from the same words as `--help`.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Command};
use clap_mangen::Man;

use super::CtlError;

/// Options of `man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// Write the pages of brokerctl and of all its subcommands to this folder, such as /usr/local/share/man/man1
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
    /// Print the page of this subcommand, such as 'group reset' [default: that of brokerctl]
    #[arg(conflicts_with = "dir")]
    subcommand: Vec<String>,
}

/// Runs `man`.
pub fn run(args: &ManArgs, mut root: Command, out: &mut dyn Write) -> Result<(), CtlError> {
    if let Some(dir) = &args.dir {
        let failed = |source| CtlError::Io { what: format!("cannot write to {}", dir.display()), source };
        fs::create_dir_all(dir).and_then(|()| clap_mangen::generate_to(root, dir)).map_err(failed)?;
        return writeln!(out, "written to {}", dir.display()).map_err(CtlError::stdout);
    }
    root.build();
    let mut command = &root;
    for name in &args.subcommand {
        let found = command.find_subcommand(name);
        command = found.ok_or_else(|| CtlError::Usage(format!("there is no subcommand '{name}'")))?;
    }
    Man::new(command.clone()).render(out).map_err(CtlError::stdout)
}
