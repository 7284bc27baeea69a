// Writes lines to a topic, and reads them as a member of a group.
//
// usage: orders produce TOPIC < lines of key:value
//
//	orders consume TOPIC GROUP [COUNT]
package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "orders:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	switch {
	case len(args) == 2 && args[0] == "produce":
		return produce(ctx, args[1], os.Stdin)
	case len(args) == 3 && args[0] == "consume":
		return consume(ctx, args[1], args[2], -1)
	case len(args) == 4 && args[0] == "consume":
		count, err := strconv.Atoi(args[3])
		if err != nil {
			return err
		}
		return consume(ctx, args[1], args[2], count)
	}
	return fmt.Errorf("usage: orders produce TOPIC, or orders consume TOPIC GROUP [COUNT]")
}

func connect(options ...kgo.Opt) (*kgo.Client, error) {
	bootstrap := os.Getenv("BOOTSTRAP")
	if bootstrap == "" {
		bootstrap = "127.0.0.1:9092"
	}
	return kgo.NewClient(append(options, kgo.SeedBrokers(strings.Split(bootstrap, ",")...))...)
}

func produce(ctx context.Context, topic string, lines io.Reader) error {
	// Idempotent without further words: what is sent again after a broken connection is not written twice.
	client, err := connect(kgo.DefaultProduceTopic(topic))
	if err != nil {
		return err
	}
	defer client.Close()
	var failure kgo.FirstErrPromise
	scanner := bufio.NewScanner(lines)
	for scanner.Scan() {
		key, value, _ := strings.Cut(scanner.Text(), ":")
		// Blocks while too much is under way.
		client.Produce(ctx, kgo.KeyStringRecord(key, value), failure.Promise())
	}
	if err := scanner.Err(); err != nil {
		return err
	}
	if err := client.Flush(ctx); err != nil {
		return err
	}
	return failure.Err()
}

func consume(ctx context.Context, topic, group string, count int) error {
	client, err := connect(
		kgo.ConsumerGroup(group),
		kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		// Only what we have marked is committed: every five seconds, before partitions go to another member, and at the end.
		kgo.AutoCommitMarks(),
		kgo.BlockRebalanceOnPoll(),
	)
	if err != nil {
		return err
	}
	// Leaves the group, so that the others need not wait for our session's end.
	defer client.CloseAllowingRebalance()
	for done := 0; done != count; {
		most := 100
		if count >= 0 {
			most = min(most, count-done)
		}
		fetches := client.PollRecords(ctx, most)
		if ctx.Err() != nil {
			break
		}
		if errs := fetches.Errors(); len(errs) > 0 {
			return errs[0].Err
		}
		fetches.EachRecord(func(record *kgo.Record) {
			value := "null"
			if record.Value != nil {
				value = string(record.Value)
			}
			fmt.Println(record.Partition, record.Offset, string(record.Key), value)
			done++
		})
		client.MarkCommitRecords(fetches.Records()...)
		client.AllowRebalance()
	}
	// Ctrl-C has cancelled ctx; what was printed is committed all the same.
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return client.CommitMarkedOffsets(last)
}
