// The client as an agent of ../groups/agent.py, which describes the commands and answers.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// Without "none", which is for offsets out of range only; and without "static_consumer": leaving, it does not say whose name it leaves.
var features = []string{
	"eager", "cooperative", "consumer", "exact", "async", "static", "fenced", "pattern", "commit", "committed", "auto_commit", "commit_as",
	"create_topic", "create_partitions", "produce", "list_groups", "describe_group", "describe_consumer_group", "group_offsets", "alter_offsets", "delete_offsets",
	"delete_group", "configs", "alter_configs", "delete_records",
}

// offset is [OFFSET, METADATA]; OFFSET is null where nothing is committed.
type offset struct {
	at       *int64
	metadata string
}

func (o offset) MarshalJSON() ([]byte, error) { return json.Marshal([]any{o.at, o.metadata}) }

func (o *offset) UnmarshalJSON(text []byte) error {
	return json.Unmarshal(text, &[]any{&o.at, &o.metadata})
}

type command struct {
	ID   int    `json:"id"`
	Verb string `json:"do"`

	Group       string            `json:"group"`
	Topics      []string          `json:"topics"`
	Pattern     string            `json:"pattern"`
	SessionMs   int               `json:"session_ms"`
	HeartbeatMs int               `json:"heartbeat_ms"`
	Instance    string            `json:"instance"`
	Assignor    string            `json:"assignor"`
	Reset       string            `json:"reset"`
	AutoCommit  bool              `json:"auto_commit"`
	How         string            `json:"how"`
	Offsets     map[string]offset `json:"offsets"`
	Topic       string            `json:"topic"`
	Partition   int32             `json:"partition"`
	Count       int               `json:"count"`
	Before      int64             `json:"before"`
	Set         map[string]string `json:"set"`
	Delete      []string          `json:"delete"`
	Append      map[string]string `json:"append"`
	Member      string            `json:"member"`
	Generation  int32             `json:"generation"`

	// A list of names, or a number of partitions for create_topic.
	Partitions json.RawMessage `json:"partitions"`
}

type agent struct {
	bootstrap []string
	admin     *kadm.Client
	group     string
	member    *kgo.Client
	stop      context.CancelFunc
	output    sync.Mutex
}

func runAgent(bootstrap []string, admin *kadm.Client) {
	a := &agent{bootstrap: bootstrap, admin: admin}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var c command
		die(json.Unmarshal(lines.Bytes(), &c))
		result, err := a.run(&c)
		if err != nil {
			a.say(map[string]any{"id": c.ID, "error": errorCode(err), "message": err.Error()})
		} else {
			a.say(map[string]any{"id": c.ID, "ok": result})
		}
	}
	os.Exit(0)
}

func (a *agent) say(message any) {
	line, err := json.Marshal(message)
	die(err)
	a.output.Lock()
	defer a.output.Unlock()
	fmt.Printf("%s\n", line)
}

func errorCode(err error) any {
	var kafka *kerr.Error
	if errors.As(err, &kafka) {
		return kafka.Code
	}
	return nil
}

func split(name string) (string, int32) {
	i := strings.LastIndexByte(name, ':')
	number, err := strconv.Atoi(name[i+1:])
	die(err)
	return name[:i], int32(number)
}

func join(topic string, partition int32) string { return fmt.Sprintf("%s:%d", topic, partition) }

func (a *agent) run(c *command) (any, error) {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	switch c.Verb {
	case "features":
		return features, nil
	case "join":
		return nil, a.join(c)
	case "commit":
		return nil, a.commit(ctx, c)
	case "commit_as":
		return nil, a.commitAs(ctx, c)
	case "identity":
		member, generation := a.member.GroupMetadata()
		return []any{member, generation}, nil
	case "committed":
		return a.committed(ctx, c)
	case "close":
		a.stop()
		a.member.CloseAllowingRebalance()
		return nil, nil
	case "create_topic":
		var count int32
		if err := json.Unmarshal(c.Partitions, &count); err != nil {
			return nil, err
		}
		answer, err := a.admin.CreateTopic(ctx, count, replicationFactor(), nil, c.Topic)
		return nil, cmpErr(err, answer.Err)
	case "create_partitions":
		answer, err := a.admin.UpdatePartitions(ctx, c.Count, c.Topic)
		return nil, cmpErr(err, answer[c.Topic].Err)
	case "produce":
		return nil, a.produce(ctx, c)
	case "list_groups":
		groups, err := a.admin.ListGroups(ctx)
		states := map[string]string{}
		for name, group := range groups {
			states[name] = group.State
		}
		return states, err
	case "describe_group":
		return a.describeGroup(ctx, c.Group)
	case "group_offsets":
		found, err := a.admin.FetchOffsets(ctx, c.Group)
		return told(found), cmpErr(err, found.Error())
	case "alter_offsets":
		offsets := kadm.Offsets{}
		for name, o := range c.Offsets {
			topic, partition := split(name)
			offsets.Add(kadm.Offset{Topic: topic, Partition: partition, At: *o.at, LeaderEpoch: -1, Metadata: o.metadata})
		}
		answer, err := a.admin.CommitOffsets(ctx, c.Group, offsets)
		return nil, cmpErr(err, answer.Error())
	case "delete_offsets":
		set := kadm.TopicsSet{}
		for _, name := range c.names() {
			set.Add(split(name))
		}
		answer, err := a.admin.DeleteOffsets(ctx, c.Group, set)
		return nil, cmpErr(err, answer.Error())
	case "delete_group":
		answer, err := a.admin.DeleteGroup(ctx, c.Group)
		return nil, cmpErr(err, answer.Err)
	case "configs":
		answer, err := a.admin.DescribeTopicConfigs(ctx, c.Topic)
		values := map[string]*string{}
		for _, resource := range answer {
			err = cmpErr(err, resource.Err)
			for _, config := range resource.Configs {
				values[config.Key] = config.Value
			}
		}
		return values, err
	case "alter_configs":
		return nil, a.alterConfigs(ctx, c)
	case "delete_records":
		answer, err := a.admin.DeleteRecords(ctx, kadm.Offsets{c.Topic: {c.Partition: {Topic: c.Topic, Partition: c.Partition, At: c.Before}}})
		one := answer[c.Topic][c.Partition]
		return one.LowWatermark, cmpErr(err, one.Err)
	}
	return nil, fmt.Errorf("no verb %q", c.Verb)
}

// cmpErr is the first error that is one.
func cmpErr(errs ...error) error {
	i := slices.IndexFunc(errs, func(err error) bool { return err != nil })
	if i < 0 {
		return nil
	}
	return errs[i]
}

func (c *command) names() (names []string) {
	die(json.Unmarshal(c.Partitions, &names))
	return names
}

// ---- member

func (a *agent) join(c *command) error {
	options := []kgo.Opt{
		kgo.SeedBrokers(a.bootstrap...), kgo.ClientID("member"), kgo.ConsumerGroup(c.Group), kgo.FetchMaxWait(100 * time.Millisecond),
		kgo.MetadataMaxAge(500 * time.Millisecond), kgo.MetadataMinAge(50 * time.Millisecond),
		kgo.SessionTimeout(time.Duration(c.SessionMs) * time.Millisecond), kgo.HeartbeatInterval(time.Duration(c.HeartbeatMs) * time.Millisecond),
		kgo.OnPartitionsAssigned(a.told("assigned")), kgo.OnPartitionsLost(a.told("lost")),
		kgo.OnPartitionsRevoked(func(ctx context.Context, client *kgo.Client, partitions map[string][]int32) {
			// Whoever sets this callback commits in it.
			if c.AutoCommit {
				die(client.CommitUncommittedOffsets(ctx))
			}
			a.told("revoked")(ctx, client, partitions)
		}),
	}
	if c.Pattern != "" {
		options = append(options, kgo.ConsumeRegex(), kgo.ConsumeTopics("^"+c.Pattern))
	} else {
		options = append(options, kgo.ConsumeTopics(c.Topics...))
	}
	if c.Instance != "" {
		options = append(options, kgo.InstanceID(c.Instance))
	}
	if c.AutoCommit {
		options = append(options, kgo.AutoCommitInterval(200*time.Millisecond))
	} else {
		options = append(options, kgo.DisableAutoCommit())
	}
	switch c.Assignor {
	case "eager":
		options = append(options, kgo.Balancers(kgo.RangeBalancer()))
	case "cooperative":
		options = append(options, kgo.Balancers(kgo.CooperativeStickyBalancer()))
	case "consumer":
		options = append(options, kgo.Balancers(kgo.StickyBalancer()), kgo.ServerSideBalancer())
	}
	switch c.Reset {
	case "earliest":
		options = append(options, kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	case "none":
		options = append(options, kgo.ConsumeResetOffset(kgo.NoResetOffset()))
	}
	client, err := kgo.NewClient(options...)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	a.group, a.member, a.stop = c.Group, client, cancel
	go a.poll(ctx, client)
	return nil
}

func (a *agent) poll(ctx context.Context, client *kgo.Client) {
	for {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil || fetches.IsClientClosed() {
			return
		}
		fetches.EachError(func(_ string, _ int32, err error) {
			a.say(map[string]any{"event": "error", "code": errorCode(err), "message": err.Error()})
		})
		fetches.EachRecord(func(r *kgo.Record) {
			a.say(map[string]any{"event": "record", "partition": join(r.Topic, r.Partition), "offset": r.Offset})
		})
	}
}

func (a *agent) told(kind string) func(context.Context, *kgo.Client, map[string][]int32) {
	return func(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
		names := []string{}
		for topic, numbers := range partitions {
			for _, partition := range numbers {
				names = append(names, join(topic, partition))
			}
		}
		a.say(map[string]any{"event": kind, "partitions": names, "at": float64(time.Now().UnixMicro()) / 1e6})
	}
}

func (a *agent) commit(ctx context.Context, c *command) error {
	offsets := map[string]map[int32]kgo.EpochOffset{}
	for name, o := range c.Offsets {
		topic, partition := split(name)
		if offsets[topic] == nil {
			offsets[topic] = map[int32]kgo.EpochOffset{}
		}
		offsets[topic][partition] = kgo.EpochOffset{Epoch: -1, Offset: *o.at}
	}
	// The library's offsets have no metadata.
	ctx = kgo.PreCommitFnContext(ctx, func(request *kmsg.OffsetCommitRequest) error {
		for i := range request.Topics {
			for j := range request.Topics[i].Partitions {
				partition := &request.Topics[i].Partitions[j]
				metadata := c.Offsets[join(request.Topics[i].Topic, partition.Partition)].metadata
				partition.Metadata = &metadata
			}
		}
		return nil
	})
	outcome := make(chan error, 1)
	done := func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, response *kmsg.OffsetCommitResponse, err error) {
		outcome <- cmpErr(err, refusal(response))
	}
	if c.How == "sync" {
		a.member.CommitOffsetsSync(ctx, offsets, done)
	} else {
		a.member.CommitOffsets(ctx, offsets, done)
	}
	return <-outcome
}

func refusal(response *kmsg.OffsetCommitResponse) error {
	if response == nil {
		return nil
	}
	for _, topic := range response.Topics {
		for _, partition := range topic.Partitions {
			if err := kerr.ErrorForCode(partition.ErrorCode); err != nil {
				return err
			}
		}
	}
	return nil
}

// commitAs sends the request as it is told to, whoever this agent is.
func (a *agent) commitAs(ctx context.Context, c *command) error {
	request := kmsg.NewPtrOffsetCommitRequest()
	request.Group, request.MemberID, request.Generation = c.Group, c.Member, c.Generation
	for name, o := range c.Offsets {
		topic, partition := split(name)
		p := kmsg.NewOffsetCommitRequestTopicPartition()
		p.Partition, p.Offset = partition, *o.at
		t := kmsg.NewOffsetCommitRequestTopic()
		t.Topic, t.Partitions = topic, append(t.Partitions, p)
		request.Topics = append(request.Topics, t)
	}
	// Version 9 is the last one that calls topics by their names.
	versions := kversion.Stable()
	versions.SetMaxKeyVersion(request.Key(), 9)
	client, err := kgo.NewClient(kgo.SeedBrokers(a.bootstrap...), kgo.MaxVersions(versions))
	if err != nil {
		return err
	}
	defer client.Close()
	response, err := request.RequestWith(ctx, client)
	return cmpErr(err, refusal(response))
}

func (a *agent) committed(ctx context.Context, c *command) (any, error) {
	out := map[string]offset{}
	for _, name := range c.names() {
		out[name] = offset{}
	}
	found, err := a.admin.FetchOffsets(ctx, a.group)
	for name, o := range told(found) {
		if _, wanted := out[name]; wanted {
			out[name] = o
		}
	}
	return out, cmpErr(err, found.Error())
}

func told(found kadm.OffsetResponses) map[string]offset {
	out := map[string]offset{}
	found.Each(func(o kadm.OffsetResponse) {
		told := offset{metadata: o.Metadata}
		if o.At >= 0 {
			told.at = &o.At
		}
		out[join(o.Topic, o.Partition)] = told
	})
	return out
}

// ---- admin

func (a *agent) produce(ctx context.Context, c *command) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(a.bootstrap...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		return err
	}
	defer client.Close()
	records := make([]*kgo.Record, c.Count)
	for i := range records {
		records[i] = &kgo.Record{Topic: c.Topic, Partition: c.Partition, Value: []byte(strconv.Itoa(i))}
	}
	return client.ProduceSync(ctx, records...).FirstErr()
}

type memberText struct {
	ClientID   string   `json:"client_id"`
	Host       string   `json:"host"`
	Instance   *string  `json:"instance"`
	Partitions []string `json:"partitions"`
}

func partitionNames(set kadm.TopicsSet) []string {
	names := []string{}
	set.Each(func(topic string, partition int32) { names = append(names, join(topic, partition)) })
	return names
}

func (a *agent) describeGroup(ctx context.Context, group string) (any, error) {
	members := []memberText{}
	// A group of the classic protocol is not found among the new one's.
	consumers, err := a.admin.DescribeConsumerGroups(ctx, group)
	if found := consumers[group]; !errors.Is(found.Err, kerr.GroupIDNotFound) {
		for _, m := range found.Members {
			members = append(members, memberText{m.ClientID, m.ClientHost, m.InstanceID, partitionNames(m.Assignment)})
		}
		return map[string]any{"state": found.State, "members": members}, cmpErr(err, found.Err)
	}
	answer, err := a.admin.DescribeGroups(ctx, group)
	found := answer[group]
	for _, m := range found.Members {
		set := kadm.TopicsSet{}
		if assigned, ok := m.Assigned.AsConsumer(); ok {
			for _, topic := range assigned.Topics {
				set.Add(topic.Topic, topic.Partitions...)
			}
		}
		members = append(members, memberText{m.ClientID, m.ClientHost, m.InstanceID, partitionNames(set)})
	}
	return map[string]any{"state": found.State, "members": members}, cmpErr(err, found.Err)
}

func (a *agent) alterConfigs(ctx context.Context, c *command) error {
	var changes []kadm.AlterConfig
	for name, value := range c.Set {
		changes = append(changes, kadm.AlterConfig{Op: kadm.SetConfig, Name: name, Value: &value})
	}
	for _, name := range c.Delete {
		changes = append(changes, kadm.AlterConfig{Op: kadm.DeleteConfig, Name: name})
	}
	for name, value := range c.Append {
		changes = append(changes, kadm.AlterConfig{Op: kadm.AppendConfig, Name: name, Value: &value})
	}
	answer, err := a.admin.AlterTopicConfigs(ctx, changes, c.Topic)
	for _, one := range answer {
		err = cmpErr(err, one.Err)
	}
	return err
}
