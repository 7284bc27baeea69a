//! Append, read, flush, roll, restart.

use crate::harness::*;
use protocol::records::BatchOptions;
use std::rc::Rc;
use storage::{Offset, disk::SimDisk};

#[test]
fn what_is_appended_is_read_back_from_memory_and_from_segments() {
    let disk = SimDisk::new(1);
    let config = Rc::new(small_log_config());
    let spec = spec(0, &config);
    let mut run = Run::open(&disk, small_store_config(0, 1), vec![spec.clone()]).unwrap();
    let log = run.log(&spec);
    let mut expected = Vec::new();
    let mut random = Random(3);
    for i in 0..200 {
        let batch = batch(
            BatchOptions::default(),
            i,
            1 + random.below(5) as usize,
            8 + random.below(900) as usize,
            NOW,
        );
        let outcome = run.append_durably(&log, &batch);
        expected.extend_from_slice(&stored(&batch, outcome.base_offset));
        if i % 50 == 0 {
            assert_eq!(run.read_all(&log, Offset(0), 3000), expected);
        }
    }
    run.settle();
    let stats = run.store.stats();
    assert!(stats.flush_rounds > 0 && stats.cold_reads > 0 && stats.cache_reads > 0, "{stats:?}");
    assert!(stats.open_files <= 4 && stats.cache_bytes <= 128 << 10, "{stats:?}");
    for max_bytes in [1, 500, 5_000, 1 << 20] {
        assert_eq!(run.read_all(&log, Offset(0), max_bytes), expected, "{max_bytes}");
    }
    assert_eq!(log.size_bytes(), expected.len() as u64);
    run.shutdown();

    let mut again = Run::open(&disk, small_store_config(0, 1), vec![spec.clone()]).unwrap();
    assert!(again.report.was_clean, "{:?}", again.report);
    assert_eq!(again.report.replayed_batches, 0);
    let log = again.log(&spec);
    assert_eq!(again.read_all(&log, Offset(0), 4096), expected);
    let more = batch(BatchOptions::default(), 999, 1, 100, NOW);
    let outcome = again.append_durably(&log, &more);
    expected.extend_from_slice(&stored(&more, outcome.base_offset));
    assert_eq!(again.read_all(&log, Offset(0), 1 << 20), expected);
}
