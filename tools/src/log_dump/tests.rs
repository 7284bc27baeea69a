//! Dumps of files that the tests write.

use std::{fs, path::Path};

use protocol::{
    compression::Compression,
    records::{BatchBuilder, BatchOptions, EndTxnMarker, RecordHeader, assign, end_txn_marker},
};

use super::*;

const NOW_MS: i64 = 1_700_000_000_000;

fn batch(base_offset: i64, compression: Compression) -> Vec<u8> {
    let options =
        BatchOptions { base_offset, compression, partition_leader_epoch: 3, ..BatchOptions::default() };
    let mut builder = BatchBuilder::new(options);
    let headers = [RecordHeader { key: b"trace", value: Some(b"17") }];
    builder.append(NOW_MS, Some(b"user-1"), Some(b"hello"), &headers);
    builder.append(NOW_MS + 1, None, Some(&[0, 0xff]), &[]);
    builder.build().unwrap().to_vec()
}

/// A partition of two segments with indexes: offsets 0-3 and 10-11.
fn partition(directory: &Path) {
    fs::create_dir_all(directory).unwrap();
    let first = batch(0, Compression::None);
    let second = batch(2, Compression::Zstd);
    let mut index = Vec::new();
    index.extend(2u32.to_be_bytes());
    index.extend((first.len() as u32).to_be_bytes());
    let mut times = (NOW_MS + 1).to_be_bytes().to_vec();
    times.extend(2u32.to_be_bytes());
    fs::write(directory.join("00000000000000000000.log"), [first, second].concat()).unwrap();
    fs::write(directory.join("00000000000000000000.index"), index).unwrap();
    fs::write(directory.join("00000000000000000000.timeindex"), times).unwrap();
    let mut third = batch(10, Compression::Lz4);
    third.extend([0; 4096]);
    fs::write(directory.join("00000000000000000010.log"), third).unwrap();
}

fn args(path: &Path) -> LogDumpArgs {
    LogDumpArgs {
        paths: vec![path.to_owned()],
        records: false,
        json: false,
        quiet: false,
        from: None,
        to: None,
    }
}

fn dumped(args: &LogDumpArgs) -> (String, Result<(), LogDumpError>) {
    let mut out = Vec::new();
    let result = dump(args, &mut out);
    (String::from_utf8(out).unwrap(), result)
}

#[test]
fn a_data_directory_is_dumped_segment_by_segment_in_order() {
    let data = tempfile::tempdir().unwrap();
    partition(&data.path().join("topics/orders-0"));
    fs::write(data.path().join("topics/orders-0/partition.metadata"), "x").unwrap();
    let (text, result) = dumped(&args(data.path()));
    result.unwrap();
    let places: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("baseOffset: "))
        .map(|line| line.split(' ').next().unwrap())
        .collect();
    assert_eq!(places, ["0", "2", "10"]);
    assert!(text.contains("compresscodec: zstd"), "{text}");
    assert!(text.contains("offset: 2 position: "), "{text}");
    assert!(text.contains("4096 zero bytes"), "{text}");
    assert!(text.contains("2 batches, 4 records"), "{text}");
    assert!(!text.contains("DAMAGED"), "{text}");
}

#[test]
fn records_show_keys_values_headers_and_binary_values_in_hex() {
    let data = tempfile::tempdir().unwrap();
    partition(data.path());
    let (text, result) =
        dumped(&LogDumpArgs { records: true, from: Some(3), to: Some(9), ..args(data.path()) });
    result.unwrap();
    let records: Vec<_> = text.lines().filter(|line| line.starts_with('|')).collect();
    assert_eq!(
        records,
        [
            format!(
                "| offset: 2 CreateTime: {NOW_MS} keySize: 6 valueSize: 5 headerKeys: [trace=17] key: user-1 payload: hello"
            ),
            format!(
                "| offset: 3 CreateTime: {} keySize: -1 valueSize: 2 headerKeys: [] payload: 0x00ff",
                NOW_MS + 1
            ),
        ]
    );
}

#[test]
fn every_json_line_stands_for_itself() {
    let data = tempfile::tempdir().unwrap();
    partition(data.path());
    let (text, result) = dumped(&LogDumpArgs { records: true, json: true, ..args(data.path()) });
    result.unwrap();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of_type = |name: &str| lines.iter().filter(|line| line["type"] == name).collect::<Vec<_>>();
    assert_eq!(of_type("batch").len(), 3);
    assert_eq!(of_type("batch")[2]["compression"], "lz4");
    assert_eq!(of_type("record").len(), 6);
    assert_eq!(of_type("record")[0]["key"], "user-1");
    assert_eq!(of_type("record")[1]["value"]["hex"], "00ff");
    assert_eq!(of_type("offset_index")[0]["offset"], 2);
    assert_eq!(of_type("time_index")[0]["timestamp"], NOW_MS + 1);
}

#[test]
fn a_flipped_bit_is_reported_with_its_batch_and_the_rest_is_still_read() {
    let data = tempfile::tempdir().unwrap();
    let path = data.path().join("00000000000000000000.log");
    let mut bytes =
        [batch(0, Compression::None), batch(2, Compression::None), batch(4, Compression::None)].concat();
    let size = bytes.len() / 3;
    bytes[size + 70] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let (text, result) = dumped(&LogDumpArgs { quiet: true, ..args(&path) });
    assert!(matches!(result, Err(LogDumpError::Damaged(1))));
    assert!(text.contains(&format!("at position {size}: the record batch is corrupt")), "{text}");
    assert!(text.contains("3 batches, 6 records"), "{text}");
    assert_eq!(text.lines().count(), 2, "{text}");
}

#[test]
fn garbage_and_a_cut_tail_end_the_segment_where_they_begin() {
    let data = tempfile::tempdir().unwrap();
    let path = data.path().join("00000000000000000000.log");
    let good = batch(0, Compression::Gzip);
    for tail in [batch(2, Compression::None)[..90].to_vec(), vec![7; 5000], vec![1; 3]] {
        fs::write(&path, [good.clone(), tail.clone()].concat()).unwrap();
        let (text, result) = dumped(&args(&path));
        assert!(matches!(result, Err(LogDumpError::Damaged(1))));
        assert!(text.contains(&format!("at position {}: ", good.len())), "{text}");
        assert!(text.contains(&format!("{} bytes from here on", tail.len())), "{text}");
        assert!(text.contains("1 batches, 2 records"), "{text}");
    }
}

#[test]
fn offsets_that_go_back_are_damage() {
    let data = tempfile::tempdir().unwrap();
    let path = data.path().join("00000000000000000002.log");
    fs::write(&path, [batch(2, Compression::None), batch(3, Compression::None)].concat()).unwrap();
    let (text, result) = dumped(&args(&path));
    assert!(result.is_err());
    assert!(text.contains("base offset 3 where 4 or more should follow"), "{text}");
}

#[test]
fn index_entries_that_point_at_no_batch_are_damage() {
    let data = tempfile::tempdir().unwrap();
    partition(data.path());
    let path = data.path().join("00000000000000000000.index");
    let mut bytes = fs::read(&path).unwrap();
    bytes.extend([0; 64]);
    fs::write(&path, &bytes).unwrap();
    dumped(&args(&path)).1.expect("preallocated room is no damage");
    bytes[7] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let (text, result) = dumped(&args(&path));
    assert!(matches!(result, Err(LogDumpError::Damaged(1))));
    assert!(text.contains("no batch with offset 2 starts at position"), "{text}");
}

#[test]
fn transaction_markers_say_what_they_decide() {
    let data = tempfile::tempdir().unwrap();
    let path = data.path().join("00000000000000000000.log");
    let marker = EndTxnMarker { committed: false, coordinator_epoch: 5 };
    let mut bytes = end_txn_marker(9, 1, marker, NOW_MS).to_vec();
    assign(&mut bytes, 0, 0, None);
    fs::write(&path, bytes).unwrap();
    let (text, _) = dumped(&LogDumpArgs { records: true, ..args(&path) });
    assert!(text.contains("endTxnMarker: ABORT coordinatorEpoch: 5"), "{text}");
}

#[test]
fn a_directory_without_segments_says_so() {
    let data = tempfile::tempdir().unwrap();
    assert!(matches!(dumped(&args(data.path())).1, Err(LogDumpError::NoFiles(_))));
}
