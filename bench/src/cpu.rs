//! Processor time of this process and of the broker, as the kernel counts it.

use std::fs;
use std::io;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::error::BenchError;

/// Processor time spent so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct CpuTime {
    user: Duration,
    system: Duration,
}

impl CpuTime {
    fn of_this_process() -> CpuTime {
        // SAFETY: `rusage` consists of integers, for which zeros are values; the kernel writes that struct and nothing else.
        let usage = unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            libc::getrusage(libc::RUSAGE_SELF, &mut usage);
            usage
        };
        let duration = |time: libc::timeval| {
            Duration::from_secs(time.tv_sec as u64) + Duration::from_micros(time.tv_usec as u64)
        };
        CpuTime { user: duration(usage.ru_utime), system: duration(usage.ru_stime) }
    }

    /// Of process `pid`, all its threads together.
    fn of_process(pid: u32) -> io::Result<CpuTime> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // SAFETY: no memory is passed.
        let ticks_per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
        parse_stat(&text, ticks_per_second.max(1) as u64)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not the stat file of a process"))
    }

    fn since(self, before: CpuTime) -> CpuTime {
        CpuTime {
            user: self.user.saturating_sub(before.user),
            system: self.system.saturating_sub(before.system),
        }
    }

    fn add(self, other: CpuTime) -> CpuTime {
        CpuTime { user: self.user + other.user, system: self.system + other.system }
    }
}

/// Fields 14 and 15 of `/proc/PID/stat`; the name in field 2 may hold anything, spaces and parentheses too.
fn parse_stat(text: &str, ticks_per_second: u64) -> Option<CpuTime> {
    let mut fields = text[text.rfind(')')? + 1..].split_ascii_whitespace().skip(11);
    let mut time = || {
        let ticks: u64 = fields.next()?.parse().ok()?;
        Some(Duration::from_secs_f64(ticks as f64 / ticks_per_second as f64))
    };
    Some(CpuTime { user: time()?, system: time()? })
}

/// What a run cost a process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct CpuCost {
    /// Seconds in the process's own code.
    pub user_seconds: f64,
    /// Seconds in the kernel on its behalf.
    pub system_seconds: f64,
    /// Both, as a share of one core.
    pub cores: f64,
    /// Both, for each record.
    pub ns_per_record: f64,
    /// Both, for each GB of keys and values.
    pub seconds_per_gb: f64,
}

impl CpuCost {
    fn of(time: CpuTime, elapsed: Duration) -> CpuCost {
        let (user_seconds, system_seconds) = (time.user.as_secs_f64(), time.system.as_secs_f64());
        let cores = (user_seconds + system_seconds) / elapsed.as_secs_f64().max(1e-9);
        CpuCost { user_seconds, system_seconds, cores, ..CpuCost::default() }
    }

    fn divided(self, records: u64, payload_bytes: u64) -> CpuCost {
        CpuCost {
            ns_per_record: self.seconds() * 1e9 / records.max(1) as f64,
            seconds_per_gb: self.seconds() * 1e9 / payload_bytes.max(1) as f64,
            ..self
        }
    }

    /// Seconds altogether.
    pub fn seconds(&self) -> f64 {
        self.user_seconds + self.system_seconds
    }
}

/// What a run cost this process, and the broker's if they were named.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct CpuCosts {
    /// The load generator.
    pub generator: CpuCost,
    /// The broker's processes together.
    pub broker: Option<CpuCost>,
}

impl CpuCosts {
    /// The same with what each record and each GB cost.
    pub fn divided(self, records: u64, payload_bytes: u64) -> CpuCosts {
        CpuCosts {
            generator: self.generator.divided(records, payload_bytes),
            broker: self.broker.map(|cost| cost.divided(records, payload_bytes)),
        }
    }
}

/// Refuses process ids that are nobody's, or cannot be looked at.
pub fn check_processes(pids: &[u32]) -> Result<(), BenchError> {
    pids.iter().try_for_each(|pid| match CpuTime::of_process(*pid) {
        Ok(_) => Ok(()),
        Err(error) => Err(BenchError::Option(format!("--broker-pid: process {pid}: {error}"))),
    })
}

/// Where the processor time stood at one moment.
#[derive(Debug, Clone, Copy)]
pub struct CpuMark {
    at: Instant,
    generator: CpuTime,
    broker: Option<CpuTime>,
}

impl CpuMark {
    /// Now. `broker` are the process ids of the broker's nodes; without them, or when one is gone, only this process counts.
    pub fn now(broker: &[u32]) -> CpuMark {
        let times: io::Result<Vec<CpuTime>> = broker.iter().map(|pid| CpuTime::of_process(*pid)).collect();
        let broker = times.ok().filter(|times| !times.is_empty());
        CpuMark {
            at: Instant::now(),
            generator: CpuTime::of_this_process(),
            broker: broker.map(|times| times.into_iter().fold(CpuTime::default(), CpuTime::add)),
        }
    }

    /// What was spent since `before`.
    pub fn since(&self, before: &CpuMark) -> CpuCosts {
        let elapsed = self.at - before.at;
        let broker = self.broker.zip(before.broker).map(|(now, then)| now.since(then));
        CpuCosts {
            generator: CpuCost::of(self.generator.since(before.generator), elapsed),
            broker: broker.map(|time| CpuCost::of(time, elapsed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let text = "42 (a (b) c) R 1 42 42 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 1 0 5 1000 10";
        let time = parse_stat(text, 100).expect("a stat line");
        assert_eq!(time, CpuTime { user: Duration::from_millis(2500), system: Duration::from_millis(500) });
        assert_eq!(parse_stat("42 (cut) R 1", 100), None);
    }

    #[test]
    fn time_spent_by_a_process_is_seen_from_inside_and_from_outside() {
        let pid = std::process::id();
        let before = CpuMark::now(&[pid]);
        let mut sum = 0u64;
        // The kernel counts other processes in ticks of 10 ms.
        while CpuMark::now(&[pid]).since(&before).broker.is_some_and(|cost| cost.seconds() < 0.02) {
            sum = std::hint::black_box(sum.wrapping_mul(31) + 1);
        }
        let costs = CpuMark::now(&[pid]).since(&before);
        assert!(costs.generator.seconds() > 0.0 && costs.generator.cores > 0.0);
        let generator = costs.divided(1000, 1_000_000_000).generator;
        assert!((generator.ns_per_record - generator.seconds() * 1e6).abs() < 1e-3);
        assert!((generator.seconds_per_gb - generator.seconds()).abs() < 1e-9);
        assert!(CpuMark::now(&[]).since(&before).broker.is_none());
        check_processes(&[pid]).expect("it is this one");
        let error = check_processes(&[pid, u32::MAX]).expect_err("nobody's").to_string();
        assert!(error.contains("--broker-pid: process 4294967295: No such file"), "{error}");
    }
}
