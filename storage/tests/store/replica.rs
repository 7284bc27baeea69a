//! A follower's log: a leader's batches as they are, truncations and restarts, and the power failing at any moment of all that.

use crate::harness::*;
use protocol::records::{BatchOptions, BatchView, CheckedBatch, iter_batches};
use std::{cell::RefCell, collections::BTreeMap, rc::Rc};
use storage::{
    AppendError, LeaderEpoch, Offset, PartitionLog, PartitionSpec, ReadError, StoreConfig, WakeSignal,
    disk::{SimDisk, sim::Survival},
    log::leader_epoch::{EpochEntry, LeaderEpochCache},
    store::{CommitEvent, HighWatermarkMode},
};

fn replicated(partition: i32) -> PartitionSpec {
    PartitionSpec {
        high_watermark: HighWatermarkMode::Replicated,
        ..spec(partition, &Rc::new(small_log_config()))
    }
}

/// A leader's batch.
fn leaders_batch(
    options: BatchOptions,
    base: i64,
    epoch: i32,
    records: usize,
    value_bytes: usize,
) -> Vec<u8> {
    let mut bytes = batch(options, base as u64 ^ (epoch as u64) << 32, records, value_bytes, NOW);
    let content = validated(&bytes);
    content.assign(&mut bytes, base, epoch, None);
    bytes
}

fn plain(base: i64, epoch: i32, records: usize) -> Vec<u8> {
    leaders_batch(BatchOptions::default(), base, epoch, records, 100)
}

fn checked(batch: &[u8]) -> CheckedBatch<'_> {
    CheckedBatch::parse(batch).unwrap()
}

fn end_of(batch: &[u8]) -> Offset {
    Offset(BatchView::parse(batch).unwrap().next_offset())
}

fn store_durably(run: &mut Run, log: &PartitionLog<SimDisk>, batch: &[u8]) {
    let appended = log.append_replica(&checked(batch), NOW).unwrap();
    assert_eq!(appended.end_offset, end_of(batch));
    let durable = run.store.durable(appended.commit);
    run.pool.run_until(durable).unwrap();
}

/// All that the log holds, to its end.
fn content(run: &mut Run, log: &PartitionLog<SimDisk>) -> Result<Vec<u8>, ReadError> {
    let end = log.offsets().log_end_offset;
    let (mut at, mut bytes) = (log.offsets().log_start_offset, Vec::new());
    while at < end {
        let outcome = run.pool.run_until(log.read(at, end, 3000, true))?;
        if outcome.slices.is_empty() {
            assert!(outcome.next_offset > at, "nothing at {at} of {:?}", log.offsets());
        }
        outcome.slices.iter().for_each(|slice| bytes.extend_from_slice(slice));
        at = outcome.next_offset;
    }
    Ok(bytes)
}

fn open(disk: &SimDisk) -> (Run, PartitionLog<SimDisk>, PartitionSpec) {
    let spec = replicated(0);
    let run = Run::open(disk, small_store_config(0, 1), vec![spec.clone()]).unwrap();
    let log = run.log(&spec);
    (run, log, spec)
}

#[test]
fn a_leaders_batches_are_stored_byte_for_byte_and_nothing_else_is() {
    let disk = SimDisk::new(1);
    let (mut run, log, spec) = open(&disk);
    let batches = [plain(0, 3, 2), plain(2, 3, 1), plain(7, 4, 3)];
    for batch in &batches {
        store_durably(&mut run, &log, batch);
    }
    for wrong in [plain(9, 4, 1), plain(10, 3, 1)] {
        assert!(matches!(log.append_replica(&checked(&wrong), NOW), Err(AppendError::Unfit(_))));
    }
    let damaged = {
        let mut bytes = plain(10, 4, 1);
        *bytes.last_mut().unwrap() ^= 1;
        bytes
    };
    let two = [plain(10, 4, 1), plain(11, 4, 1)].concat();
    for wrong in [damaged, two, vec![1, 2, 3]] {
        assert!(CheckedBatch::parse(&wrong).is_err(), "nothing else can be appended");
    }
    assert_eq!(content(&mut run, &log).unwrap(), batches.concat());
    drop(run);
    let (mut run, log, _) = open(&disk.crash(Survival::AnySubset, 1));
    assert_eq!(content(&mut run, &log).unwrap(), batches.concat());
    assert_eq!(log.epoch_for_offset(Offset(8)), Some(LeaderEpoch(4)));
    assert_eq!(run.log(&spec).first_batch_offset(), Offset(0));
}

#[test]
fn consumers_see_what_replication_has_committed_and_waiters_hear_of_it() {
    let disk = SimDisk::new(1);
    let (mut run, log, _) = open(&disk);
    let events = Rc::new(RefCell::new(Vec::new()));
    let seen = events.clone();
    run.store.observe_commits(move |event| {
        if let CommitEvent::Durable(logs) = event {
            seen.borrow_mut().extend(logs.iter().map(|(_, end)| *end));
        }
    });
    let signal = WakeSignal::new();
    log.subscribe(&signal);
    store_durably(&mut run, &log, &plain(0, 0, 5));
    store_durably(&mut run, &log, &plain(5, 0, 5));
    assert_eq!(*events.borrow(), [Offset(5), Offset(10)]);
    assert_eq!((log.offsets().durable_end_offset, log.offsets().high_watermark), (Offset(10), Offset(0)));
    assert!(!signal.has_fired(), "nothing is committed yet");
    assert!(log.advance_high_watermark(Offset(5)) && signal.has_fired());
    // What is committed before it is durable here can be read once it is.
    assert!(log.advance_high_watermark(Offset(12)));
    assert_eq!(log.offsets().high_watermark, Offset(10));
    store_durably(&mut run, &log, &plain(10, 0, 5));
    assert_eq!(log.offsets().high_watermark, Offset(12));
    log.set_high_watermark_mode(HighWatermarkMode::FollowsDurableEnd);
    assert_eq!(log.offsets().high_watermark, Offset(15));
}

#[test]
fn a_truncation_takes_what_is_in_memory_and_in_segments_and_new_batches_take_the_place() {
    for flushed in [0, 3, 8] {
        let disk = SimDisk::new(1);
        let (mut run, log, spec) = open(&disk);
        let old: Vec<_> = (0..8).map(|i| plain(i * 2, (i / 3) as i32, 2)).collect();
        for (i, batch) in old.iter().enumerate() {
            store_durably(&mut run, &log, batch);
            if i + 1 == flushed {
                run.pool.run_until(run.store.flush()).unwrap();
            }
        }
        log.advance_high_watermark(Offset(6));
        run.pool.run_until(run.store.truncate_to(&spec.id(), Offset(8))).unwrap();
        let offsets = log.offsets();
        assert_eq!((offsets.log_end_offset, offsets.durable_end_offset), (Offset(8), Offset(8)));
        assert_eq!(offsets.high_watermark, Offset(6));
        assert_eq!(log.latest_leader_epoch(), Some(LeaderEpoch(1)));
        assert_eq!(content(&mut run, &log).unwrap(), old[..4].concat());
        let new: Vec<_> = (0..5).map(|i| plain(8 + i * 3, 7, 3)).collect();
        new.iter().for_each(|batch| store_durably(&mut run, &log, batch));
        let all = [old[..4].concat(), new.concat()].concat();
        assert_eq!(content(&mut run, &log).unwrap(), all);
        drop(run);
        let (mut run, log, _) = open(&disk.crash(Survival::AnySubset, 1));
        assert_eq!(content(&mut run, &log).unwrap(), all, "{flushed} batches were in segments");
        run.pool.run_until(run.store.flush()).unwrap();
        run.shutdown();
        let (mut run, log, _) = open(&disk.crash(Survival::Nothing, 2));
        assert_eq!(content(&mut run, &log).unwrap(), all);
    }
}

#[test]
fn a_truncation_amid_a_batch_or_below_the_start_is_refused_and_harmless() {
    let disk = SimDisk::new(1);
    let (mut run, log, spec) = open(&disk);
    let batches = [plain(0, 0, 5), plain(5, 0, 5)];
    batches.iter().for_each(|batch| store_durably(&mut run, &log, batch));
    for to in [7, 11] {
        assert!(run.pool.run_until(run.store.truncate_to(&spec.id(), Offset(to))).is_err(), "{to}");
    }
    assert_eq!(content(&mut run, &log).unwrap(), batches.concat());
    store_durably(&mut run, &log, &plain(10, 1, 1));
    log.advance_high_watermark(Offset(11));
    run.pool.run_until(log.delete_records(Offset(5))).unwrap();
    assert!(run.pool.run_until(run.store.truncate_to(&spec.id(), Offset(4))).is_err());
    run.pool.run_until(run.store.truncate_to(&spec.id(), Offset(5))).unwrap();
    let offsets = log.offsets();
    assert_eq!((offsets.log_start_offset, offsets.log_end_offset), (Offset(5), Offset(5)));
}

#[test]
fn a_truncation_below_the_log_start_takes_the_start_along() {
    let disk = SimDisk::new(1);
    let (mut run, log, spec) = open(&disk);
    let batches = [plain(0, 0, 5), plain(5, 0, 5)];
    batches.iter().for_each(|batch| store_durably(&mut run, &log, batch));
    // The leader's consumers begin at 8, where this log has something that will have to go.
    log.advance_log_start(Offset(8)).unwrap();
    run.pool.run_until(run.store.truncate_to(&spec.id(), Offset(5))).unwrap();
    let offsets = log.offsets();
    assert_eq!((offsets.log_start_offset, offsets.log_end_offset), (Offset(5), Offset(5)));
}

#[test]
fn another_replica_is_given_what_consumers_may_not_read_any_more() {
    for is_flushed in [false, true] {
        let disk = SimDisk::new(1);
        let (mut run, log, _) = open(&disk);
        let batches = [plain(0, 0, 5), plain(5, 0, 5)];
        batches.iter().for_each(|batch| store_durably(&mut run, &log, batch));
        if is_flushed {
            run.pool.run_until(run.store.flush()).unwrap();
        }
        log.advance_high_watermark(Offset(10));
        run.pool.run_until(log.delete_records(Offset(7))).unwrap();
        assert!(run.pool.run_until(log.read(Offset(0), Offset(10), 10_000, true)).is_err());
        assert_eq!(log.first_batch_offset(), Offset(0));
        let read = run.pool.run_until(log.read_for_replica(Offset(0), Offset(10), 10_000, true)).unwrap();
        assert_eq!(read.slices.concat(), batches.concat());
        assert!(run.pool.run_until(log.read_for_replica(Offset(11), Offset(12), 10, true)).is_err());
    }
}

#[test]
fn another_replica_hears_the_epochs_of_what_consumers_may_not_read_any_more() {
    let disk = SimDisk::new(1);
    let (mut run, log, _) = open(&disk);
    let batches = [plain(0, 0, 5), plain(5, 3, 5), plain(10, 4, 5)];
    batches.iter().for_each(|batch| store_durably(&mut run, &log, batch));
    let epochs = [(0, 0), (3, 5), (4, 10)];
    let epochs =
        epochs.map(|(epoch, start)| EpochEntry { epoch: LeaderEpoch(epoch), start_offset: Offset(start) });
    log.advance_high_watermark(Offset(15));
    run.pool.run_until(log.delete_records(Offset(12))).unwrap();
    run.pool.run_until(run.store.flush()).unwrap();
    assert_eq!(log.leader_epochs(), epochs);
    drop(run);
    // What a leader cannot tell the epoch of it cannot compare: its follower would take it for another's log.
    let (_run, log, _) = open(&disk.crash(Survival::Nothing, 1));
    assert_eq!((log.first_batch_offset(), log.offsets().log_start_offset), (Offset(0), Offset(12)));
    assert_eq!(log.leader_epochs(), epochs);
    let ends = [0, 3, 4].map(|epoch| log.end_offset_for_epoch(LeaderEpoch(epoch)));
    let ends = ends.map(|end| end.map(|(epoch, end)| (epoch.0, end.0)));
    assert_eq!(
        ends,
        [(0, 12), (3, 12), (4, 15)].map(Some),
        "consumers hear nothing of what they cannot read"
    );
}

#[test]
fn producers_are_what_they_were_before_the_batches_that_went() {
    for is_flushed in [false, true] {
        let disk = SimDisk::new(1);
        let (mut run, log, spec) = open(&disk);
        let of_producer = |producer_id, base_sequence| BatchOptions {
            producer_id,
            producer_epoch: 0,
            base_sequence,
            ..BatchOptions::default()
        };
        // Producer 1 has more batches after the cut than are remembered, producer 2 none before it.
        for i in 0..8 {
            store_durably(&mut run, &log, &leaders_batch(of_producer(1, i), i.into(), 0, 1, 10));
        }
        store_durably(&mut run, &log, &leaders_batch(of_producer(2, 0), 8, 0, 1, 10));
        if is_flushed {
            run.pool.run_until(run.store.flush()).unwrap();
        }
        run.pool.run_until(run.store.truncate_to(&spec.id(), Offset(2))).unwrap();
        let known: Vec<_> = log.producers().iter().map(|(id, _, last, ..)| (id.0, *last)).collect();
        assert_eq!(known, [(1, 1)]);
    }
}

#[test]
fn a_log_restarts_where_its_leader_begins() {
    let disk = SimDisk::new(1);
    let (mut run, log, spec) = open(&disk);
    store_durably(&mut run, &log, &plain(0, 0, 5));
    run.pool.run_until(run.store.flush()).unwrap();
    store_durably(&mut run, &log, &plain(5, 0, 5));
    run.pool.run_until(run.store.restart_at(&spec.id(), Offset(100))).unwrap();
    let offsets = log.offsets();
    assert_eq!((offsets.log_start_offset, offsets.log_end_offset), (Offset(100), Offset(100)));
    assert_eq!((offsets.high_watermark, log.first_batch_offset()), (Offset(100), Offset(100)));
    assert!(log.leader_epochs().is_empty() && log.size_bytes() == 0);
    let batch = plain(100, 2, 5);
    store_durably(&mut run, &log, &batch);
    drop(run);
    let (mut run, log, _) = open(&disk.crash(Survival::Nothing, 1));
    assert_eq!(log.offsets().log_start_offset, Offset(100));
    assert_eq!(content(&mut run, &log).unwrap(), batch);
}

#[test]
fn what_was_cut_off_stays_away_also_when_the_number_of_shards_changes() {
    let disk = SimDisk::new(3);
    let specs = vec![replicated(0)];
    let mut run = Run::open(&disk, small_store_config(0, 1), specs.clone()).unwrap();
    let log = run.log(&specs[0]);
    let batches = [plain(0, 0, 5), plain(5, 0, 5), plain(10, 0, 5)];
    batches.iter().for_each(|batch| store_durably(&mut run, &log, batch));
    run.pool.run_until(run.store.truncate_to(&specs[0].id(), Offset(5))).unwrap();
    drop(run);
    let disk = disk.crash(Survival::Everything, 1);
    let mut run = Run::open(&disk, small_store_config(0, 2), specs.clone()).unwrap();
    run.pool.run_until(run.store.finish_migration()).unwrap();
    let log = run.log(&specs[0]);
    assert_eq!(content(&mut run, &log).unwrap(), batches[0]);
    // The new journal counts its commits anew: what it holds must count.
    let next = plain(5, 1, 2);
    store_durably(&mut run, &log, &next);
    drop(run);
    let mut run =
        Run::open(&disk.crash(Survival::Nothing, 1), small_store_config(0, 2), specs.clone()).unwrap();
    let log = run.log(&specs[0]);
    assert_eq!(content(&mut run, &log).unwrap(), [batches[0].clone(), next].concat());
}

// ---- the power fails

/// What a log may hold after a crash.
#[derive(Clone, Default)]
struct State {
    start: i64,
    batches: Vec<Vec<u8>>,
    /// As many of them are durable.
    durable: usize,
}

impl State {
    fn end(&self) -> Offset {
        self.batches.last().map_or(Offset(self.start), |batch| end_of(batch))
    }

    fn epoch(&self) -> i32 {
        self.batches.last().map_or(0, |batch| BatchView::parse(batch).unwrap().leader_epoch())
    }

    fn epochs(&self) -> Vec<EpochEntry> {
        let entries = self.batches.iter().map(|bytes| {
            let batch = BatchView::parse(bytes).unwrap();
            EpochEntry { epoch: LeaderEpoch(batch.leader_epoch()), start_offset: Offset(batch.base_offset()) }
        });
        LeaderEpochCache::from_entries(entries).entries().to_vec()
    }

    /// Last sequence and offset of each producer.
    fn producers(&self) -> BTreeMap<i64, (i32, i64)> {
        let views = self.batches.iter().map(|bytes| BatchView::parse(bytes).unwrap());
        let of_producers = views.filter(|batch| batch.has_producer_id());
        of_producers.map(|b| (b.producer_id(), (b.last_sequence(), b.last_offset()))).collect()
    }
}

/// The states that are possible: one, unless a crash has interrupted a cut.
struct Model {
    states: Vec<State>,
}

impl Model {
    fn now(&mut self) -> &mut State {
        self.states.last_mut().unwrap()
    }

    /// Answers false if the power has failed during the check: there will be another one.
    fn check(&mut self, run: &mut Run, disk: &SimDisk, log: &PartitionLog<SimDisk>, context: &str) -> bool {
        assert!(log.offline_reason().is_none(), "{context}: {:?}", log.offline_reason());
        let bytes = match content(run, log) {
            Err(_) if disk.has_stopped() => return false,
            read => read.unwrap(),
        };
        let start = log.offsets().log_start_offset.0;
        let found = self.states.iter().rev().find_map(|state| {
            let kept = (state.durable..=state.batches.len())
                .find(|kept| state.batches[..*kept].concat() == bytes && state.start == start)?;
            Some(State { start, batches: state.batches[..kept].to_vec(), durable: kept })
        });
        let Some(state) = found else {
            let spans: Vec<_> = iter_batches(&bytes)
                .map(|b| b.map(|b| (b.base_offset(), b.leader_epoch(), b.size())).unwrap())
                .collect();
            panic!("{context}: {:?} holds {spans:?}, which it cannot", log.offsets());
        };
        assert_eq!(log.leader_epochs(), state.epochs(), "{context}");
        let known = log.producers();
        let known: BTreeMap<_, _> =
            known.iter().map(|(id, _, sequence, offset, _)| (id.0, (*sequence, offset.0))).collect();
        assert_eq!(known, state.producers(), "{context}");
        assert!(log.offsets().high_watermark <= state.end(), "{context}");
        self.states = vec![state];
        true
    }
}

fn work(run: &mut Run, spec: &PartitionSpec, model: &mut Model, random: &mut Random, steps: usize) {
    let log = run.log(spec);
    for _ in 0..steps {
        match random.below(16) {
            0 => {
                let _ = run.pool.run_until(run.store.flush());
            }
            1 => run.settle(),
            2 | 3 => {
                let old = model.now().clone();
                let kept = old.batches.len() - random.below(old.batches.len() as u64 + 1).min(12) as usize;
                let mut new = State { batches: old.batches[..kept].to_vec(), durable: kept, ..old };
                let to = new.end();
                new.durable = kept;
                model.states.push(new);
                match run.pool.run_until(run.store.truncate_to(&spec.id(), to)) {
                    // What was not cut may be neither durable nor in memory any more.
                    Ok(()) => drop(model.states.remove(0)),
                    Err(_) => return,
                }
                // Without a cut nothing is known of what is durable.
                let durable_end = log.offsets().durable_end_offset;
                let state = model.now();
                state.durable = state.batches.iter().take_while(|batch| end_of(batch) <= durable_end).count();
            }
            4 if random.below(4) == 0 => {
                let at = model.now().end().0 + random.below(30) as i64;
                model.states.push(State { start: at, ..State::default() });
                match run.pool.run_until(run.store.restart_at(&spec.id(), Offset(at))) {
                    Ok(()) => drop(model.states.remove(0)),
                    Err(_) => return,
                }
            }
            _ => append_some(run, &log, model.now(), random),
        }
        if !run.ended.borrow().is_empty() {
            return;
        }
    }
}

fn append_some(run: &mut Run, log: &PartitionLog<SimDisk>, state: &mut State, random: &mut Random) {
    let mut last = None;
    for _ in 0..1 + random.below(4) {
        let gap = if random.below(10) == 0 { 1 + random.below(5) as i64 } else { 0 };
        let base = state.end().0 + gap;
        let epoch = state.epoch() + i32::from(random.below(8) == 0);
        let records = 1 + random.below(4) as usize;
        let most = if random.below(8) == 0 { 3500 } else { 400 };
        let mut options = BatchOptions::default();
        if random.below(2) == 0 {
            options.producer_id = random.below(3) as i64;
            options.producer_epoch = 0;
            options.base_sequence =
                state.producers().get(&options.producer_id).map_or(0, |(last, _)| last + 1);
        }
        let bytes = leaders_batch(options, base, epoch, records, 8 + random.below(most) as usize);
        match log.append_replica(&checked(&bytes), NOW) {
            Ok(appended) => {
                state.batches.push(bytes);
                last = Some(appended);
            }
            Err(AppendError::NotWritable(_)) => break,
            Err(other) => panic!("{other}"),
        }
    }
    let Some(appended) = last else { return run.settle() };
    if random.below(3) > 0 && run.pool.run_until(run.store.durable(appended.commit)).is_ok() {
        state.durable = state.batches.len();
        log.advance_high_watermark(Offset(random.below(appended.end_offset.0 as u64 + 1) as i64));
    }
}

fn lives(
    config: fn() -> StoreConfig,
    seed: u64,
    crash_at: impl Fn(u64) -> Option<u64>,
    count: u64,
    survival: Survival,
) -> u64 {
    let spec = replicated(0);
    let mut model = Model { states: vec![State::default()] };
    let mut disk = SimDisk::new(seed);
    let mut random = Random(seed);
    let mut operations = 0;
    for life in 0..=count {
        let context = format!("seed {seed}, life {life} of {count}, {survival:?}");
        if let Some(at) = crash_at(life).filter(|_| life < count) {
            disk.crash_at(disk.operations() + at);
        }
        match Run::open(&disk, config(), vec![spec.clone()]) {
            Ok(mut run) if !disk.has_stopped() => {
                let log = run.log(&spec);
                let context = format!("{context}, {:?}", run.report);
                if model.check(&mut run, &disk, &log, &context) && life < count {
                    work(&mut run, &spec, &mut model, &mut random, 45);
                    operations = disk.operations();
                }
            }
            Ok(_) => {}
            Err(error) => assert!(disk.has_stopped(), "{context}: {error}"),
        }
        disk = disk.crash(survival, seed * 31 + life);
    }
    operations
}

fn journal_only() -> StoreConfig {
    small_store_config(0, 1)
}

/// Most batches go straight to their segment.
fn direct() -> StoreConfig {
    StoreConfig { direct_from_bytes: 300, ..small_store_config(0, 1) }
}

#[test]
fn no_cut_is_undone_and_nothing_durable_is_lost_wherever_the_power_fails() {
    for config in [journal_only, direct] {
        let operations = lives(config, 2, |_| None, 1, Survival::AnySubset);
        assert!(operations > 100, "{operations}");
        for at in 1..=operations {
            lives(config, 2, |life| (life == 0).then_some(at), 1, Survival::AnySubset);
        }
    }
}

#[test]
fn no_cut_is_undone_when_recovery_itself_is_interrupted() {
    for config in [journal_only, direct] {
        for at in (1..120).step_by(4) {
            lives(config, 7, |life| if life == 0 { Some(500) } else { Some(at) }, 3, Survival::AnySubset);
        }
    }
}

#[test]
fn random_lives_of_a_follower_lose_nothing_and_bring_nothing_back() {
    for seed in 300..336 {
        let config = [journal_only, direct][seed as usize / 3 % 2];
        let survival = [Survival::AnySubset, Survival::Nothing, Survival::Everything][seed as usize % 3];
        let crash_at = |life| Some(40 + (seed * 7919 + life * 104_729) % 900);
        lives(config, seed, crash_at, 6, survival);
    }
}
