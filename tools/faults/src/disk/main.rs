//! A disk in memory that forgets what was not synced when it is told to, and that can be full.
//!
//! It is mounted by FUSE, as root, and unmounted when standard input ends. A line on standard input is a command, and each is answered by a line that begins with `done`
//! or `failed`:
//!
//! - `off`: the power goes. Nothing becomes durable any more and nobody is answered, so that the process that uses the disk can be killed without
//!   learning anything more;
//! - `forget`: the power is back. Nothing of what was unsynced has survived. Waits until no file is open;
//! - `forget SEED`: the same, but of what is unsynced each part survives or not, as chance has it;
//! - `room BYTES`: so much more can be written; `room all`: as much as in the beginning.

#![deny(unsafe_code)]

mod content;
mod fuse;
mod tree;

use clap::Parser;
use fuse::{Requests, Shared};
use std::io::{self, BufRead, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tree::Disk;

/// How long the files of a process that was killed may take to be closed.
const PATIENCE: Duration = Duration::from_secs(60);

/// A disk in memory that forgets what was not synced when it is told to, and that can be full.
#[derive(Parser)]
struct Arguments {
    /// An empty directory that becomes the disk.
    mount_point: PathBuf,
    /// Room on the disk, in bytes.
    #[arg(long, default_value_t = 64 << 30)]
    capacity: u64,
    /// How long a sync takes, in microseconds.
    #[arg(long, default_value_t = 2000)]
    sync_us: u64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let disk = Shared::new(Disk::new(arguments.capacity));
    let requests = Requests::new(disk.clone(), Duration::from_micros(arguments.sync_us));
    let mut config = fuser::Config::default();
    config.mount_options = vec![fuser::MountOption::FSName("forgetful".to_owned())];
    let session = match fuser::spawn_mount(requests, &arguments.mount_point, &config) {
        Ok(session) => session,
        Err(error) => {
            eprintln!("cannot mount at {}: {error}", arguments.mount_point.display());
            return ExitCode::FAILURE;
        }
    };
    say("done: mounted");
    for line in io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        match obey(&line, &disk, arguments.capacity) {
            Ok(what) => say(&format!("done: {what}")),
            Err(why) => say(&format!("failed: {why}")),
        }
    }
    drop(session);
    ExitCode::SUCCESS
}

/// Whoever has started this may be gone; then standard input ends too.
fn say(line: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

fn obey(line: &str, disk: &Shared, capacity: u64) -> Result<String, String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words[..] {
        ["off"] => {
            disk.power_off();
            Ok("off".to_owned())
        }
        ["forget"] => forget(disk, || false),
        ["forget", seed] => {
            let mut state: u64 = seed.parse().map_err(|_| format!("no number: {seed}"))?;
            forget(disk, || coin(&mut state))
        }
        ["room", "all"] => {
            disk.lock().set_capacity(capacity);
            Ok("as in the beginning".to_owned())
        }
        ["room", bytes] => {
            let bytes: u64 = bytes.parse().map_err(|_| format!("no number: {bytes}"))?;
            let mut disk = disk.lock();
            let used = disk.space().0 * content::BLOCK as u64;
            disk.set_capacity(used + bytes);
            Ok(format!("{used} bytes are used, {bytes} are free"))
        }
        _ => Err(format!("no such command: {line}")),
    }
}

fn forget(disk: &Shared, survives: impl FnMut() -> bool) -> Result<String, String> {
    let (bytes, names) = disk.lock_unused(PATIENCE)?.forget(survives);
    Ok(format!("{bytes} bytes and {names} changes of names were unsynced"))
}

/// SplitMix64, one bit of it.
fn coin(state: &mut u64) -> bool {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ (mixed >> 31)) & 1 == 1
}
