package main

import (
	"bufio"
	"cmp"
	"encoding/hex"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// load reads records in the text form of lib/python/dataset.py.
func load(path string) ([]*kgo.Record, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var out []*kgo.Record
	scanner := bufio.NewScanner(file)
	scanner.Buffer(nil, 16<<20)
	for scanner.Scan() {
		column := strings.Split(scanner.Text(), "\t")
		partition, err := strconv.Atoi(column[0])
		if err != nil {
			return nil, err
		}
		millis, err := strconv.ParseInt(column[1], 10, 64)
		if err != nil {
			return nil, err
		}
		record := &kgo.Record{Partition: int32(partition), Timestamp: time.UnixMilli(millis), Key: untext(column[2]), Value: untext(column[3])}
		for pair := range strings.SplitSeq(column[4], ",") {
			if name, value, ok := strings.Cut(pair, ":"); ok {
				record.Headers = append(record.Headers, kgo.RecordHeader{Key: string(untext(name)), Value: untext(value)})
			}
		}
		out = append(out, record)
	}
	return out, scanner.Err()
}

func line(r *kgo.Record) string {
	headers := make([]string, 0, len(r.Headers))
	for _, h := range r.Headers {
		headers = append(headers, hex.EncodeToString([]byte(h.Key))+":"+text(h.Value))
	}
	return fmt.Sprintf("%d\t%d\t%d\t%s\t%s\t%s", r.Partition, r.Offset, r.Timestamp.UnixMilli(), text(r.Key), text(r.Value), strings.Join(headers, ","))
}

func text(data []byte) string {
	if data == nil {
		return "~"
	}
	return hex.EncodeToString(data)
}

func untext(word string) []byte {
	if word == "~" {
		return nil
	}
	data, err := hex.DecodeString(word)
	if err != nil {
		panic(err)
	}
	return data
}

func order(records []*kgo.Record) {
	slices.SortFunc(records, func(a, b *kgo.Record) int {
		return cmp.Or(cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Offset, b.Offset))
	})
}

// expected is the same records with the offsets that an empty topic gives them, ordered by partition and offset.
func expected(records []*kgo.Record) []*kgo.Record {
	ends := map[int32]int64{}
	out := fresh(records)
	for _, r := range out {
		r.Offset = ends[r.Partition]
		ends[r.Partition]++
	}
	order(out)
	return out
}

// fresh copies the records, because producing one sets its fields.
func fresh(records []*kgo.Record) []*kgo.Record {
	out := make([]*kgo.Record, len(records))
	for i, r := range records {
		out[i] = &kgo.Record{Partition: r.Partition, Timestamp: r.Timestamp, Key: r.Key, Value: r.Value, Headers: r.Headers}
	}
	return out
}
