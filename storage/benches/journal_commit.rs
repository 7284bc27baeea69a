//! What a commit costs on the disk of the temporary directory (or of `BENCH_DIR`): the two ways to make a write durable, the journal
//! itself, and its checksums. Prints a table; `cargo bench -p storage --bench journal_commit`. With `--test`, as with
//! `cargo test`, everything is done a few times.

#![allow(clippy::disallowed_methods, reason = "it measures")]

use glommio::{LocalExecutorBuilder, Placement};
use protocol::records::CRC_START;
use std::{
    hint::black_box,
    path::Path,
    rc::Rc,
    time::{Duration, Instant},
};
use storage::{
    LeaderEpoch, Offset, PartitionId, TopicIdPartition,
    disk::{DirectDisk, Disk, DiskFile, OpenMode, zero_fill},
    journal::{Durability, EntryHeader, EntryKind, Journal, JournalConfig},
};
use uuid::Uuid;

/// glommio takes "preempted before anything ran" for "nothing to run" and sleeps although work is ready: the longer the timer the more seldom, and
/// whatever sleeps all the same goes on at the next beat.
const PREEMPT_TIMER: Duration = Duration::from_millis(10);
const HEARTBEAT: Duration = Duration::from_millis(50);

/// How often something is done: `rounds` times, or a few times if it is only to be shown that it works, as `cargo test` wants it.
fn rounds(rounds: usize) -> usize {
    let is_given = |wanted| std::env::args().any(|argument| argument == wanted);
    if is_given("--bench") && !is_given("--test") { rounds } else { 10 }
}

fn main() {
    let base = std::env::var_os("BENCH_DIR").map_or_else(std::env::temp_dir, Into::into);
    let dir = tempfile::tempdir_in(base).expect("a directory");
    let path = dir.path().to_owned();
    LocalExecutorBuilder::new(Placement::Fixed(0))
        .preempt_timer(PREEMPT_TIMER)
        .make()
        .expect("an executor")
        .run(async move {
            let beat = async {
                loop {
                    glommio::timer::sleep(HEARTBEAT).await;
                }
            };
            glommio::spawn_local(beat).detach();
            let disk = DirectDisk::new(&path, 64 << 20).await.expect("a disk");
            for bytes in [4 << 10, 64 << 10, 1 << 20] {
                raw(&disk, &path, bytes).await;
            }
            for bytes in [200, 1 << 20] {
                for in_flight in [1, 2, 8] {
                    journal(&disk, &path, bytes, in_flight).await;
                }
            }
        });
    checksums();
}

/// Writes of `bytes` to a zero-filled file of 64 MiB, one after the other, both ways.
async fn raw(disk: &DirectDisk, dir: &Path, bytes: usize) {
    const FILE_BYTES: u64 = 64 << 20;
    let path = dir.join("raw");
    let file = disk.open(&path, OpenMode::CREATE).await.expect("a file");
    file.preallocate(FILE_BYTES).await.expect("space");
    zero_fill(disk, &file, 0, FILE_BYTES).await.expect("zeros");
    file.sync_data().await.expect("synced");
    let write_through = disk.open(&path, OpenMode::WRITE_DSYNC).await.expect("a file");
    let mut buffer = disk.alloc(bytes);
    buffer.fill(0x5a);
    let buffer = buffer.freeze();
    let rounds = rounds(if bytes > 100_000 { 1000 } else { 3000 });
    // Turn about, so that a noisy neighbour hits both.
    let (mut synced, mut through) = (Vec::new(), Vec::new());
    for i in 0..rounds {
        let pos = (i * bytes) as u64 % (FILE_BYTES - bytes as u64 + 1) / 4096 * 4096;
        let start = Instant::now();
        file.write_at(pos, &buffer, bytes).await.expect("written");
        file.sync_data().await.expect("synced");
        synced.push(start.elapsed());
        let start = Instant::now();
        write_through.write_at(pos, &buffer, bytes).await.expect("written");
        through.push(start.elapsed());
    }
    report(&format!("raw {bytes} B: write + fdatasync"), bytes, synced);
    report(&format!("raw {bytes} B: O_DSYNC write"), bytes, through);
    disk.remove(&path).await.expect("removed");
}

fn report(what: &str, bytes: usize, mut times: Vec<Duration>) {
    let total: Duration = times.iter().sum();
    times.sort();
    let at = |per_mille: usize| times[(times.len() - 1) * per_mille / 1000].as_secs_f64() * 1e3;
    let rate = (bytes * times.len()) as f64 / total.as_secs_f64() / 1e9;
    println!(
        "{what:48} p50 {:.3} ms  p99 {:.3} ms  p99.9 {:.3} ms  {rate:.3} GB/s",
        at(500),
        at(990),
        at(999)
    );
}

/// Batches of `bytes` through the journal, each waited for, `in_flight` at a time; a flusher that is always done at once.
async fn journal(disk: &DirectDisk, dir: &Path, bytes: usize, in_flight: usize) {
    let dir = dir.join(format!("journal-{bytes}-{in_flight}"));
    let config = JournalConfig { initial_files: 4, ..JournalConfig::new(Uuid::from_u128(1), 0) };
    let (journal, _) = Journal::open(disk.clone(), &dir, config).await.expect("a journal");
    let running = journal.clone();
    let run = glommio::spawn_local(async move { running.run().await });
    let mut payload = vec![0x77; bytes];
    let checksum = crc32c::crc32c(&payload[CRC_START..]);
    payload[CRC_START - 4..CRC_START].copy_from_slice(&checksum.to_be_bytes());
    let payload: Rc<[u8]> = payload.into();
    let rounds = rounds(if bytes > 100_000 { 3000 } else { 6000 } / in_flight);
    let cpu = cpu_time();
    let start = Instant::now();
    let tasks: Vec<_> = (0..in_flight)
        .map(|_| {
            let (journal, payload) = (journal.clone(), payload.clone());
            glommio::spawn_local(async move {
                let mut times = Vec::with_capacity(rounds);
                let header = EntryHeader {
                    kind: EntryKind::Batch,
                    partition: TopicIdPartition::new(Uuid::from_u128(7), PartitionId(0)),
                    base_offset: Offset(0),
                    last_offset: Offset(0),
                    leader_epoch: LeaderEpoch(0),
                };
                for _ in 0..rounds {
                    let start = Instant::now();
                    let appended =
                        journal.append(&header, Durability::Sync, &[&payload], |_| {}).expect("room");
                    journal.durable(appended.commit).await.expect("durable");
                    times.push(start.elapsed());
                    journal.release(journal.durable_end());
                }
                times
            })
        })
        .collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await);
    }
    let (wall, cpu) = (start.elapsed(), cpu_time() - cpu);
    let total = bytes * times.len();
    report(&format!("journal {bytes} B, {in_flight} in flight"), bytes, times);
    println!(
        "{:48} together {:.3} GB/s, {:.0}% of a core",
        "",
        total as f64 / wall.as_secs_f64() / 1e9,
        100.0 * cpu.as_secs_f64() / wall.as_secs_f64()
    );
    journal.shutdown().await.expect("synced");
    run.await.expect("no disk error");
}

/// CPU time of the process, from the kernel's own account.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("procfs");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().expect("utime") + fields[12].parse::<u64>().expect("stime");
    Duration::from_millis(ticks * 10)
}

/// The checksum of a payload, against deriving it from the record batch's own.
fn checksums() {
    let payload = vec![0x33u8; 1 << 20];
    let time = |what: &str, mut work: Box<dyn FnMut() -> u32 + '_>| {
        let start = Instant::now();
        let times = rounds(1000);
        for _ in 0..times {
            black_box(work());
        }
        println!("{what:48} {:.2} us", start.elapsed().as_secs_f64() * 1e6 / times as f64);
    };
    time("CRC-32C of 1 MiB", Box::new(|| crc32c::crc32c(black_box(&payload))));
    time(
        "combining two CRC-32C over 1 MiB",
        Box::new(|| crc32c::crc32c_combine(black_box(1), 2, payload.len())),
    );
    let mut target = vec![0u8; 1 << 20];
    time(
        "copying 1 MiB",
        Box::new(|| {
            target.copy_from_slice(black_box(&payload));
            u32::from(target[7])
        }),
    );
}
