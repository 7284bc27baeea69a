//! The tasks of one life of a real store: they run on an executor that the world's events drive, and tell what happens as [`Event`]s.

use std::cell::{Cell, OnceCell, RefCell};
use std::path::Path;
use std::rc::Rc;

use coord::replica::LogGeneration;
use futures::channel::mpsc;
use futures::executor::{LocalPool, LocalSpawner};
use futures::future::{FutureExt, LocalBoxFuture};
use futures::stream::StreamExt;
use futures::task::{LocalSpawnExt, noop_waker_ref};
use protocol::ErrorCode;
use protocol::records::CheckedBatch;
use std::task::{Context, Poll};
use storage::disk::{Disk, SimDisk};
use storage::log::error::ReadError;
use storage::store::{CommitEvent, remove_gone_partitions};
use storage::{
    AppendError, Offset, PartitionLog, PartitionSpec, ShardStore, StorageError, StoreConfig, TopicIdPartition,
};

use super::Reader;
use super::content::{Content, StoredBatch};
use super::timers::Timers;

/// After a refusal that passes an append is tried again.
const RETRY_US: u64 = 20_000;
/// Bytes of one read.
const READ_BYTES: usize = 2_000;

/// What the tasks tell.
pub(super) enum Event {
    /// The store is open: what its logs hold.
    Opened(Vec<(TopicIdPartition, Content)>),
    /// A log is there, with what its directory had.
    Created(TopicIdPartition, Content),
    /// Everything below is on disk.
    Durable(TopicIdPartition, Offset),
    /// A follower's log ends here now, durably.
    Cut {
        id: TopicIdPartition,
        restart_at: Option<Offset>,
        truncate_to: Option<Offset>,
        generation: LogGeneration,
    },
    /// A leader's batch is in the journal's hands.
    Appended(TopicIdPartition, StoredBatch),
    /// A leader's message is stored.
    Stored(TopicIdPartition, u64),
    /// What was to be read; it was asked for in this generation.
    Read {
        id: TopicIdPartition,
        ticket: u64,
        generation: LogGeneration,
        from: Offset,
        result: Result<Vec<StoredBatch>, ErrorCode>,
    },
    /// Records were deleted: where the log begins now.
    Deleted(u64, Result<Offset, ErrorCode>),
    /// Time was told, and retention looked after.
    Maintained,
    /// The process cannot go on.
    Failed(String),
    /// Something that must not happen.
    Broken(Option<TopicIdPartition>, String),
}

/// What is to be done to a follower's log.
pub struct Job {
    /// The log drops everything, and goes on here.
    pub restart_at: Option<Offset>,
    /// The log's end is cut off here.
    pub truncate_to: Option<Offset>,
    /// What is appended then.
    pub batches: Vec<StoredBatch>,
    /// Consumers may read from here on.
    pub log_start: Offset,
    /// Of the log, after the cut.
    pub generation: LogGeneration,
}

enum TableChange {
    Create(PartitionSpec),
    Delete(TopicIdPartition),
}

/// What the tasks share.
pub(super) struct Shell {
    store: OnceCell<ShardStore<SimDisk>>,
    pub timers: Rc<Timers>,
    events: RefCell<Vec<Event>>,
    spawner: LocalSpawner,
    /// The broker's clock. ms.
    pub now_ms: Cell<i64>,
    is_maintaining: Cell<bool>,
}

/// The executor of one life, and its store.
pub(super) struct Life {
    pool: LocalPool,
    pub shell: Rc<Shell>,
    table: Option<mpsc::UnboundedSender<TableChange>>,
}

impl Shell {
    pub fn store(&self) -> Option<&ShardStore<SimDisk>> {
        self.store.get()
    }

    fn tell(&self, event: Event) {
        self.events.borrow_mut().push(event);
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.spawner.spawn_local(task).expect("the pool outlives its tasks");
    }
}

impl Life {
    pub fn new(timers: Rc<Timers>) -> Self {
        let pool = LocalPool::new();
        let shell = Shell {
            store: OnceCell::new(),
            timers,
            events: RefCell::default(),
            spawner: pool.spawner(),
            now_ms: Cell::new(0),
            is_maintaining: Cell::new(false),
        };
        Life { shell: Rc::new(shell), pool, table: None }
    }

    /// Lets all tasks go on as far as they can.
    pub fn run(&mut self) -> Vec<Event> {
        self.pool.run_until_stalled();
        self.shell.events.take()
    }

    /// Opens the store.
    pub fn open(&mut self, disk: SimDisk, config: StoreConfig, wanted: Vec<PartitionSpec>) {
        let (changes, todo) = mpsc::unbounded();
        self.table = Some(changes);
        let shell = self.shell.clone();
        self.shell.spawn(async move {
            if let Err(error) = open(&shell, disk, config, wanted).await {
                return shell.tell(Event::Failed(format!("the logs cannot be opened: {error}")));
            }
            keep_table(&shell, todo).await;
        });
    }

    /// Adds a log when what was asked for before is done.
    pub fn create(&self, spec: PartitionSpec) {
        self.change_table(TableChange::Create(spec));
    }

    /// Removes a log when what was asked for before is done.
    pub fn delete(&self, id: TopicIdPartition) {
        self.change_table(TableChange::Delete(id));
    }

    fn change_table(&self, change: TableChange) {
        let table = self.table.as_ref().expect("a store is opened before its table changes");
        table.unbounded_send(change).expect("the table is kept as long as the store");
    }

    /// Stores a leader's message.
    pub fn store(&self, log: PartitionLog<SimDisk>, ticket: u64, job: Job) {
        let shell = self.shell.clone();
        self.shell.spawn(async move {
            let id = log.id();
            match carry_out(&shell, &log, job).await {
                Ok(()) => shell.tell(Event::Stored(id, ticket)),
                // Nobody asks for a log that is gone.
                Err(ReadError::Deleted | ReadError::Storage(StorageError::Closing)) => {}
                Err(ReadError::Offline(why)) => {
                    shell.tell(Event::Broken(Some(id), format!("a log goes offline: {why}")))
                }
                Err(error) => {
                    shell.tell(Event::Failed(format!("a leader's message cannot be stored: {error}")))
                }
            }
        });
    }

    /// Reads; answers at once if nothing has to be waited for, and else by an event.
    pub fn read(
        &self,
        log: PartitionLog<SimDisk>,
        (ticket, generation): (u64, LogGeneration),
        (from, upper): (Offset, Offset),
        reader: Reader,
    ) -> Option<Result<Vec<StoredBatch>, ErrorCode>> {
        let id = log.id();
        let mut reading = read_some(log, (from, upper), reader).boxed_local();
        if let Poll::Ready(result) = reading.poll_unpin(&mut Context::from_waker(noop_waker_ref())) {
            return Some(result);
        }
        let shell = self.shell.clone();
        self.shell.spawn(async move {
            let result = reading.await;
            shell.tell(Event::Read { id, ticket, generation, from, result });
        });
        None
    }

    /// Reads a whole log whose batches all are to be durable first.
    pub fn read_all(&self, log: PartitionLog<SimDisk>, (ticket, generation): (u64, LogGeneration)) {
        let shell = self.shell.clone();
        self.shell.spawn(async move {
            let id = log.id();
            let durable = shell.store().expect("it has a log").all_durable();
            let all = async {
                durable.await.map_err(ReadError::from)?;
                read_all(&log).await
            };
            let content = all.await;
            let from = content.as_ref().map_or(Offset::ZERO, Content::start);
            let result = content.map(|content| content.batches().to_vec()).map_err(|error| error.code());
            shell.tell(Event::Read { id, ticket, generation, from, result });
        });
    }

    /// DeleteRecords.
    pub fn delete_records(&self, log: PartitionLog<SimDisk>, ticket: u64, before: Offset) {
        let shell = self.shell.clone();
        self.shell.spawn(async move {
            let result = log.delete_records(before).await.map_err(|error| error.code());
            shell.tell(Event::Deleted(ticket, result));
        });
    }

    /// Tells the store the time, and lets it remove old segments, unless it is at that already.
    pub fn maintain(&self) {
        if self.shell.store().is_none() || self.shell.is_maintaining.replace(true) {
            return;
        }
        let shell = self.shell.clone();
        self.shell.spawn(async move {
            let (store, now_ms) = (shell.store().expect("looked at above"), shell.now_ms.get());
            let ticked = store.tick(now_ms).await;
            // What cannot be seen to is told by the store's own loops.
            let _ = ticked.and(store.enforce_retention(now_ms).await.map(drop));
            shell.is_maintaining.set(false);
            shell.tell(Event::Maintained);
        });
    }

    /// Tells the store the time alone: it looks whether there is room.
    pub fn look_at_space(&self) {
        if self.shell.store().is_some() {
            let shell = self.shell.clone();
            self.shell.spawn(async move {
                let _ = shell.store().expect("looked at above").tick(shell.now_ms.get()).await;
            });
        }
    }
}

async fn open(
    shell: &Rc<Shell>,
    disk: SimDisk,
    config: StoreConfig,
    wanted: Vec<PartitionSpec>,
) -> Result<(), StorageError> {
    let data_dir = config.data_dir.clone();
    disk.create_dir_all(&data_dir).await?;
    let names: Vec<String> = wanted.iter().map(|spec| format!("{}-{}", spec.topic, spec.partition)).collect();
    let status = config.topic_status.clone();
    let is_wanted = |name: &str| names.iter().any(|wanted| wanted == name);
    remove_gone_partitions(&disk, &data_dir, is_wanted, |id| status(id)).await?;
    let (store, report) = ShardStore::open(disk, config, wanted, shell.now_ms.get()).await?;
    for (id, why) in report.offline {
        shell.tell(Event::Broken(Some(id), format!("recovery takes a log offline: {why}")));
    }
    for task in store.run() {
        watch(shell, task);
    }
    store.remove_moved(is_wanted, |_| true).await?;
    let weak = Rc::downgrade(shell);
    store.observe_commits(move |event| {
        if let (Some(shell), CommitEvent::Durable(logs)) = (weak.upgrade(), event) {
            logs.iter().for_each(|(id, end)| shell.tell(Event::Durable(*id, *end)));
        }
    });
    let mut found = Vec::new();
    for id in store.partitions() {
        let log = store.partition(&id).expect("it is in the table");
        match read_all(&log).await {
            Ok(content) => found.push((id, content)),
            Err(error) => shell
                .tell(Event::Broken(Some(id), format!("what recovery has found cannot be read: {error}"))),
        }
    }
    assert!(shell.store.set(store).is_ok(), "a store is opened once in a life");
    shell.tell(Event::Opened(found));
    Ok(())
}

fn watch(shell: &Rc<Shell>, task: LocalBoxFuture<'static, Result<(), StorageError>>) {
    let weak = Rc::downgrade(shell);
    shell.spawn(async move {
        let outcome = task.await;
        if let (Some(shell), Err(error)) = (weak.upgrade(), outcome) {
            shell.tell(Event::Failed(format!("data cannot be made durable: {error}")));
        }
    });
}

/// Logs come and go one after the other.
async fn keep_table(shell: &Shell, mut todo: mpsc::UnboundedReceiver<TableChange>) {
    let store = shell.store().expect("it has been opened");
    while let Some(change) = todo.next().await {
        let done = match change {
            TableChange::Create(spec) => create(shell, store, spec).await,
            TableChange::Delete(id) => store.delete_partition(&id).await,
        };
        if let Err(error) = done {
            return shell.tell(Event::Failed(format!("a log cannot be made or removed: {error}")));
        }
    }
}

async fn create(shell: &Shell, store: &ShardStore<SimDisk>, spec: PartitionSpec) -> Result<(), StorageError> {
    let log = store.create_partition(spec).await?;
    match read_all(&log).await {
        Ok(content) => shell.tell(Event::Created(log.id(), content)),
        Err(error) => shell.tell(Event::Broken(Some(log.id()), format!("a new log cannot be read: {error}"))),
    }
    Ok(())
}

/// Everything that a log holds.
async fn read_all(log: &PartitionLog<SimDisk>) -> Result<Content, ReadError> {
    let start = log.offsets().log_start_offset;
    let end = log.offsets().log_end_offset;
    let (mut next, mut batches) = (start, Vec::new());
    while next < end {
        let read = log.read(next, end, READ_BYTES, true).await?;
        let Some(found) = StoredBatch::parse_all(&read.slices).filter(|found| !found.is_empty()) else {
            let what = format!("no batches from {next} to {end}");
            return Err(ReadError::Offline(what.into()));
        };
        batches.extend(found);
        next = read.next_offset;
    }
    Ok(Content::new(start, batches))
}

async fn read_some(
    log: PartitionLog<SimDisk>,
    (from, upper): (Offset, Offset),
    reader: Reader,
) -> Result<Vec<StoredBatch>, ErrorCode> {
    let read = match reader {
        Reader::Consumer => log.read(from, upper, READ_BYTES, true).await,
        Reader::Replica => log.read_for_replica(from, upper, READ_BYTES, true).await,
    };
    let read = read.map_err(|error| error.code())?;
    StoredBatch::parse_all(&read.slices).ok_or(ErrorCode::CORRUPT_MESSAGE)
}

/// As the broker does it: cut, append in order however long there is no room, and follow the log start.
async fn carry_out(shell: &Shell, log: &PartitionLog<SimDisk>, job: Job) -> Result<(), ReadError> {
    let store = shell.store().expect("it has a log");
    let Job { restart_at, truncate_to, batches, log_start, generation } = job;
    let id = log.id();
    if !batches.is_empty() {
        store.wait_for_room().await;
    }
    if let Some(at) = restart_at {
        store.restart_at(&id, at).await?;
    }
    if let Some(to) = truncate_to {
        store.truncate_to(&id, to).await?;
    }
    if restart_at.is_some() || truncate_to.is_some() {
        shell.tell(Event::Cut { id, restart_at, truncate_to, generation });
    }
    for batch in batches {
        append(shell, log, &batch).await?;
        shell.tell(Event::Appended(id, batch));
    }
    // Where there is no room for that the log begins where it did.
    let _ = log.advance_log_start(log_start);
    Ok(())
}

async fn append(shell: &Shell, log: &PartitionLog<SimDisk>, batch: &StoredBatch) -> Result<(), ReadError> {
    let checked = CheckedBatch::parse(&batch.bytes).expect("what was made is a batch");
    loop {
        let error = match log.append_replica(&checked, shell.now_ms.get()) {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        match error {
            AppendError::NotWritable(StorageError::Journal(storage::JournalError::Failed(_)))
            | AppendError::NotWritable(StorageError::Closing)
            | AppendError::Deleted => return Err(ReadError::Deleted),
            AppendError::NotWritable(_) => {
                shell.timers.sleep(RETRY_US).await;
                shell.store().expect("it has a log").wait_for_room().await;
            }
            other => return Err(ReadError::Offline(other.to_string().into())),
        }
    }
}

/// Where the data lies.
pub(super) fn data_dir() -> &'static Path {
    Path::new("/data")
}
