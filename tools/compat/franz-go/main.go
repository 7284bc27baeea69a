// What franz-go has to show. usage: suite DATA NULLS | write TOPIC COMPRESSION DATA | read TOPIC | agent
package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	partitions = 3
	deadline   = 60 * time.Second
)

var (
	forever        = "-1"
	keepEverything = map[string]*string{"retention.ms": &forever}
	compressions   = map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	acknowledgements = map[string]kgo.Acks{"0": kgo.NoAck(), "1": kgo.LeaderAck(), "all": kgo.AllISRAcks()}
)

type suite struct {
	bootstrap      []string
	prefix         string
	admin          *kadm.Client
	records, nulls []*kgo.Record
	passed, failed int
}

func main() {
	bootstrap := strings.Split(os.Getenv("BOOTSTRAP"), ",")
	client, err := kgo.NewClient(kgo.SeedBrokers(bootstrap...), kgo.MetadataMinAge(50*time.Millisecond))
	die(err)
	s := &suite{
		bootstrap: bootstrap, admin: kadm.NewClient(client),
		prefix: fmt.Sprintf("franz-go-%d-%d", os.Getpid(), time.Now().Unix()%100000),
	}
	switch args := os.Args[1:]; args[0] {
	case "suite":
		s.records, err = load(args[1])
		die(err)
		s.nulls, err = load(args[2])
		die(err)
		s.run()
	case "write":
		records, err := load(args[3])
		die(err)
		die(s.produce(args[1], records, kgo.ProducerBatchCompression(compressions[args[2]])))
	case "read":
		die(s.dump(args[1]))
	case "agent":
		runAgent(s.bootstrap, s.admin)
	default:
		die(fmt.Errorf("unknown verb %q", args[0]))
	}
	s.admin.Close()
	if s.failed > 0 {
		os.Exit(1)
	}
}

func die(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// ---- the client's verbs

func (s *suite) topic(suffix string, count int32) string {
	name := s.prefix + "-" + suffix
	answer, err := s.admin.CreateTopic(context.Background(), count, replicationFactor(), keepEverything, name)
	must(errors.Join(err, answer.Err))
	// A partition that is not ready yet loses records with acks=0, and puts them out of order without idempotence.
	s.eventually("the topic is ready", func() bool {
		ends, err := s.admin.ListEndOffsets(context.Background(), name)
		return err == nil && ends.Error() == nil && len(ends[name]) == int(count)
	})
	return name
}

// produce writes the records, idempotently unless the options say otherwise, and returns the first error. The deadline is
// the context's: kgo.RecordDeliveryTimeout counts from the record's own timestamp, and ours are of 2023.
func (s *suite) produce(topic string, records []*kgo.Record, options ...kgo.Opt) error {
	options = append([]kgo.Opt{
		kgo.SeedBrokers(s.bootstrap...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.DefaultProduceTopic(topic),
		kgo.ProducerBatchCompression(kgo.NoCompression()),
	}, options...)
	client, err := kgo.NewClient(options...)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	return client.ProduceSync(ctx, records...).FirstErr()
}

// consume reads `count` records and returns them ordered by partition and offset.
func (s *suite) consume(topic string, starts map[int32]kgo.Offset, count int) []*kgo.Record {
	client, err := kgo.NewClient(kgo.SeedBrokers(s.bootstrap...), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: starts}),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()), kgo.FetchMaxWait(200*time.Millisecond))
	must(err)
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	var out []*kgo.Record
	for len(out) < count {
		fetches := client.PollFetches(ctx)
		if errs := fetches.Errors(); len(errs) > 0 {
			panic(fmt.Errorf("after %d of %d records: %w", len(out), count, errs[0].Err))
		}
		out = append(out, fetches.Records()...)
	}
	order(out)
	return out
}

func everything() map[int32]kgo.Offset {
	return map[int32]kgo.Offset{0: kgo.NewOffset().AtStart(), 1: kgo.NewOffset().AtStart(), 2: kgo.NewOffset().AtStart()}
}

func (s *suite) dump(topic string) error {
	ends, err := s.admin.ListEndOffsets(context.Background(), topic)
	if err != nil {
		return err
	}
	starts, count := map[int32]kgo.Offset{}, 0
	for partition, end := range ends[topic] {
		starts[partition] = kgo.NewOffset().AtStart()
		count += int(end.Offset)
	}
	out := bufio.NewWriter(os.Stdout)
	for _, record := range s.consume(topic, starts, count) {
		fmt.Fprintln(out, line(record))
	}
	return out.Flush()
}

// ---- the suite

func (s *suite) run() {
	s.test("topics are created, listed, refused when wrong, and deleted", s.topics)
	s.test("the cluster describes itself", s.cluster)
	for _, compression := range slices.Sorted(maps.Keys(compressions)) {
		for _, acks := range []string{"0", "1", "all"} {
			s.test(fmt.Sprintf("%s, acks=%s: everything written is read back, byte for byte", compression, acks), func() { s.roundTrip(compression, acks) })
		}
	}
	s.test("records with neither key nor value, and headers without a value", func() {
		topic := s.topic("nulls", partitions)
		must(s.produce(topic, fresh(s.nulls)))
		same(s.consume(topic, everything(), len(s.nulls)), expected(s.nulls))
	})
	s.test("an idempotent producer's records are there once and in order", func() {
		topic := s.topic("idempotent", partitions)
		for range 2 {
			must(s.produce(topic, fresh(s.records), kgo.ProducerBatchCompression(kgo.Lz4Compression())))
		}
		twice := expected(append(slices.Clone(s.records), s.records...))
		same(s.consume(topic, everything(), len(twice)), twice)
	})
	s.test("a record over max.message.bytes is refused, the next one is taken", s.tooLarge)
	topic := s.topic("read", partitions)
	must(s.produce(topic, fresh(s.records)))
	s.test("consumes from the earliest offset", func() {
		wanted := s.from(1, 0)
		same(s.consume(topic, map[int32]kgo.Offset{1: kgo.NewOffset().AtStart()}, len(wanted)), wanted)
	})
	s.test("consumes from the latest offset: only what comes afterwards", s.fromLatest)
	s.test("consumes from any offset", func() {
		wanted := append(s.from(0, 17), s.from(2, 40)...)
		same(s.consume(topic, map[int32]kgo.Offset{0: kgo.NewOffset().At(17), 2: kgo.NewOffset().At(40)}, len(wanted)), wanted)
	})
	s.test("consumes from a timestamp", func() {
		mark := s.mark()
		wanted := s.from(0, mark.Offset)
		same(s.consume(topic, map[int32]kgo.Offset{0: kgo.NewOffset().AfterMilli(mark.Timestamp.UnixMilli())}, len(wanted)), wanted)
	})
	s.test("the admin finds first, last and timestamps' offsets", func() { s.offsets(topic) })
	s.test("an offset out of range is told", func() { s.outOfRange(topic) })
	s.test("20,000 small records in large batches, in order", s.many)
	fmt.Printf("%d passed, %d failed\n", s.passed, s.failed)
}

// How many replicas topics of the suite have.
func replicationFactor() int16 {
	given, isSet := os.LookupEnv("REPLICATION_FACTOR")
	if !isSet {
		return 1
	}
	factor, err := strconv.ParseInt(given, 10, 16)
	must(err)
	return int16(factor)
}

func (s *suite) topics() {
	ctx, name := context.Background(), s.topic("admin", 5)
	s.eventually("the new topic is listed with 5 partitions", func() bool {
		topics, err := s.admin.ListTopics(ctx)
		must(err)
		return len(topics[name].Partitions) == 5
	})
	refused := func(wanted error, name string, replication int16) {
		answer, err := s.admin.CreateTopic(ctx, 1, replication, nil, name)
		if err == nil {
			err = answer.Err
		}
		check(errors.Is(err, wanted), "expected %v, got %v", wanted, err)
	}
	refused(kerr.TopicAlreadyExists, name, 1)
	refused(kerr.InvalidTopicException, name+" with spaces", 1)
	refused(kerr.InvalidReplicationFactor, name+"-rf", 9)
	_, err := s.admin.DeleteTopic(ctx, name)
	must(err)
	s.eventually("the deleted topic is gone", func() bool {
		topics, err := s.admin.ListTopics(ctx)
		must(err)
		return !topics.Has(name)
	})
	answer, err := s.admin.DeleteTopic(ctx, name)
	if err == nil {
		err = answer.Err
	}
	check(errors.Is(err, kerr.UnknownTopicOrPartition), "expected an unknown topic, got %v", err)
}

func (s *suite) cluster() {
	metadata, err := s.admin.BrokerMetadata(context.Background())
	must(err)
	check(len(metadata.Brokers) >= 1, "no brokers")
	check(len(metadata.Cluster) == 22, "cluster id %q is not a base64 UUID", metadata.Cluster)
	check(metadata.Controller >= 0, "no controller")
}

func (s *suite) roundTrip(compression, acks string) {
	topic := s.topic(compression+"-"+acks, partitions)
	records := fresh(s.records)
	must(s.produce(topic, records, kgo.ProducerBatchCompression(compressions[compression]), kgo.RequiredAcks(acknowledgements[acks]), kgo.DisableIdempotentWrite()))
	wanted := expected(s.records)
	if acks != "0" {
		order(records)
		for i, r := range records {
			check(r.Offset == wanted[i].Offset, "acknowledged offsets are not 0, 1, 2, ...")
		}
	}
	same(s.consume(topic, everything(), len(wanted)), wanted)
}

func (s *suite) tooLarge() {
	topic := s.topic("too-large", 1)
	noise := make([]byte, 1_500_000)
	_, err := rand.Read(noise)
	must(err)
	err = s.produce(topic, []*kgo.Record{{Value: noise}}, kgo.ProducerBatchMaxBytes(4_000_000))
	check(errors.Is(err, kerr.MessageTooLarge), "expected MESSAGE_TOO_LARGE, got %v", err)
	small := &kgo.Record{Value: []byte("v")}
	must(s.produce(topic, []*kgo.Record{small}))
	check(small.Offset == 0, "the next record has offset %d", small.Offset)
}

func (s *suite) fromLatest() {
	topic := s.topic("latest", 1)
	for range 5 {
		must(s.produce(topic, []*kgo.Record{{Value: []byte("old")}}))
	}
	// A record is written every 50 ms from the fifth offset on: the consumer must start with one of these.
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			case <-time.After(50 * time.Millisecond):
				must(s.produce(topic, []*kgo.Record{{Value: []byte("new")}}))
			}
		}
	}()
	got := s.consume(topic, map[int32]kgo.Offset{0: kgo.NewOffset().AtEnd()}, 1)
	close(stop)
	<-done
	check(string(got[0].Value) == "new" && got[0].Offset >= 5, "got %q at %d", got[0].Value, got[0].Offset)
}

func (s *suite) offsets(topic string) {
	ctx, mark := context.Background(), s.mark()
	starts, err := s.admin.ListStartOffsets(ctx, topic)
	must(err)
	ends, err := s.admin.ListEndOffsets(ctx, topic)
	must(err)
	for p := range int32(partitions) {
		check(starts[topic][p].Offset == 0, "partition %d starts at %d", p, starts[topic][p].Offset)
		check(int(ends[topic][p].Offset) == len(s.from(p, 0)), "partition %d ends at %d", p, ends[topic][p].Offset)
	}
	after, err := s.admin.ListOffsetsAfterMilli(ctx, mark.Timestamp.UnixMilli(), topic)
	must(err)
	check(after[topic][0].Offset == mark.Offset, "the mark is found at %d", after[topic][0].Offset)
}

func (s *suite) outOfRange(topic string) {
	client, err := kgo.NewClient(kgo.SeedBrokers(s.bootstrap...), kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().At(1_000_000)}}))
	must(err)
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	err = client.PollFetches(ctx).Err()
	check(errors.Is(err, kerr.OffsetOutOfRange), "expected OFFSET_OUT_OF_RANGE, got %v", err)
}

func (s *suite) many() {
	topic := s.topic("many", 2)
	records := make([]*kgo.Record, 20_000)
	for i := range records {
		records[i] = &kgo.Record{Partition: int32(i % 2), Timestamp: time.UnixMilli(1_700_000_000_000 + int64(i)), Value: fmt.Appendf(nil, "%0100d", i)}
	}
	must(s.produce(topic, fresh(records), kgo.ProducerBatchCompression(kgo.SnappyCompression())))
	same(s.consume(topic, map[int32]kgo.Offset{0: kgo.NewOffset().AtStart(), 1: kgo.NewOffset().AtStart()}, len(records)), expected(records))
}

// ---- helpers

func (s *suite) test(name string, body func()) {
	started := time.Now()
	defer func() {
		if problem := recover(); problem != nil {
			s.failed++
			fmt.Printf("FAILED franz-go: %s: %v\n", name, problem)
			return
		}
		s.passed++
		fmt.Printf("ok franz-go: %s (%.2f s)\n", name, time.Since(started).Seconds())
	}()
	body()
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func check(holds bool, format string, arguments ...any) {
	if !holds {
		panic(fmt.Errorf(format, arguments...))
	}
}

func same(got, wanted []*kgo.Record) {
	check(len(got) == len(wanted), "%d records expected, got %d", len(wanted), len(got))
	for i := range got {
		one, other := line(got[i]), line(wanted[i])
		check(one == other, "expected %.300s, got %.300s", other, one)
	}
}

func (s *suite) eventually(what string, condition func() bool) {
	for end := time.Now().Add(deadline); !condition(); time.Sleep(50 * time.Millisecond) {
		check(time.Now().Before(end), "waited in vain until %s", what)
	}
}

func (s *suite) from(partition int32, offset int64) []*kgo.Record {
	return slices.DeleteFunc(expected(s.records), func(r *kgo.Record) bool { return r.Partition != partition || r.Offset < offset })
}

func (s *suite) mark() *kgo.Record {
	all := expected(s.records)
	return all[slices.IndexFunc(all, func(r *kgo.Record) bool { return strings.EqualFold(string(r.Key), "mark") })]
}
