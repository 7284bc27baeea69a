// kafkajs as an agent of ../groups/agent.py, which describes the commands and answers.
'use strict';
const readline = require('node:readline');
const { AssignerProtocol, ConfigResourceTypes, Kafka, logLevel } = require('kafkajs');

const FEATURES = ['eager', 'exact', 'async', 'commit', 'commit_any', 'auto_commit', 'create_topic', 'create_partitions', 'produce', 'list_groups',
  'describe_group', 'group_offsets', 'alter_offsets', 'delete_group', 'configs', 'replace_configs', 'config_errors', 'delete_records'];

const kafka = new Kafka({ clientId: 'member', brokers: process.env.BOOTSTRAP.split(','), logLevel: logLevel.NOTHING, retry: { retries: 8 } });
let consumer = null, owned = [], adminClient = null;

const say = message => process.stdout.write(JSON.stringify(message) + '\n');
const split = name => { const at = name.lastIndexOf(':'); return [name.slice(0, at), Number(name.slice(at + 1))]; };
const join = (topic, partition) => `${topic}:${partition}`;
const tell = (event, partitions) => say({ event, partitions, at: Date.now() / 1000 });

// The broker's number: on the error itself, on what it was caused by, or on its parts.
function errorCode(error) {
  if (!error) return null;
  if (typeof error.code === 'number') return error.code;
  const part = error.groups?.[0]?.error ?? error.partitions?.[0]?.error ?? error.errors?.[0] ?? error.cause;
  return part === error ? null : errorCode(part);
}

async function admin() {
  if (adminClient === null) {
    // It takes some refusals for passing troubles and tries again: not for long.
    const client = kafka.admin({ retry: { retries: 2, initialRetryTime: 50, maxRetryTime: 200 } });
    await client.connect();
    adminClient = client;
  }
  return adminClient;
}

function giveUp(event) {
  const partitions = owned;
  owned = [];
  if (partitions.length > 0) tell(event, partitions);
}

const byTopic = offsets => Object.entries(offsets).map(([name, [offset, metadata]]) => {
  const [topic, partition] = split(name);
  return { topic, partition, offset: String(offset), metadata };
});

const resources = (topic, more) => ({ resources: [{ type: ConfigResourceTypes.TOPIC, name: topic, ...more }] });

const verbs = {
  features: async () => FEATURES,

  async join({ group, topics, session_ms, heartbeat_ms, auto_commit }) {
    consumer = kafka.consumer({ groupId: group, sessionTimeout: session_ms, heartbeatInterval: heartbeat_ms, maxWaitTimeInMs: 100, metadataMaxAge: 500,
      retry: { retries: 2, initialRetryTime: 50, maxRetryTime: 200 } });
    consumer.on(consumer.events.REBALANCING, () => giveUp('revoked'));
    consumer.on(consumer.events.GROUP_JOIN, ({ payload: { memberAssignment } }) => {
      giveUp('revoked');
      owned = Object.entries(memberAssignment).flatMap(([topic, partitions]) => partitions.map(partition => join(topic, partition)));
      tell('assigned', owned);
    });
    consumer.on(consumer.events.CRASH, ({ payload: { error } }) => {
      giveUp('lost');
      say({ event: 'error', code: errorCode(error), message: String(error) });
    });
    await consumer.connect();
    await consumer.subscribe({ topics, fromBeginning: true });
    await consumer.run({
      autoCommit: auto_commit, autoCommitInterval: 200,
      eachMessage: async ({ topic, partition, message }) => say({ event: 'record', partition: join(topic, partition), offset: Number(message.offset) }),
    });
  },

  // The library knows no difference between sync and async: it is up to whoever waits for the promise.
  commit: ({ offsets }) => consumer.commitOffsets(byTopic(offsets)),

  async close() {
    await consumer.disconnect();
  },

  async create_topic({ topic, partitions }) {
    await (await admin()).createTopics({ topics: [{ topic, numPartitions: partitions, replicationFactor: Number(process.env.REPLICATION_FACTOR ?? 1) }], waitForLeaders: true });
  },
  async create_partitions({ topic, count }) {
    await (await admin()).createPartitions({ topicPartitions: [{ topic, count }] });
  },
  async produce({ topic, partition, count }) {
    const producer = kafka.producer({ allowAutoTopicCreation: false });
    await producer.connect();
    try {
      await producer.send({ topic, acks: -1, messages: Array.from({ length: count }, (_, i) => ({ partition, value: String(i) })) });
    } finally {
      await producer.disconnect();
    }
  },
  async list_groups() {
    const { groups } = await (await admin()).listGroups();
    return Object.fromEntries(groups.map(({ groupId }) => [groupId, null]));
  },
  async describe_group({ group }) {
    const { groups: [found] } = await (await admin()).describeGroups([group]);
    const members = found.members.map(({ clientId, clientHost, memberAssignment }) => {
      const assignment = memberAssignment.length > 0 ? AssignerProtocol.MemberAssignment.decode(memberAssignment).assignment : {};
      const partitions = Object.entries(assignment).flatMap(([topic, numbers]) => numbers.map(number => join(topic, number)));
      return { client_id: clientId, host: clientHost, instance: null, partitions };
    });
    return { state: found.state, members };
  },
  async group_offsets({ group }) {
    const found = await (await admin()).fetchOffsets({ groupId: group });
    return Object.fromEntries(found.flatMap(({ topic, partitions }) => partitions.map(({ partition, offset, metadata }) =>
      [join(topic, partition), [Number(offset) < 0 ? null : Number(offset), metadata ?? '']])));
  },
  async alter_offsets({ group, offsets }) {
    const partitions = byTopic(offsets);
    await (await admin()).setOffsets({ groupId: group, topic: partitions[0].topic, partitions });
  },
  async delete_group({ group }) {
    await (await admin()).deleteGroups([group]);
  },
  async configs({ topic }) {
    const { resources: [{ configEntries }] } = await (await admin()).describeConfigs(resources(topic));
    return Object.fromEntries(configEntries.map(({ configName, configValue }) => [configName, configValue]));
  },
  async replace_configs({ topic, set }) {
    await (await admin()).alterConfigs(resources(topic, { configEntries: Object.entries(set).map(([name, value]) => ({ name, value })) }));
  },
  async delete_records({ topic, partition, before }) {
    const client = await admin();
    // It deletes only in topics that it has met before.
    await client.fetchTopicOffsets(topic);
    await client.deleteTopicRecords({ topic, partitions: [{ partition, offset: String(before) }] });
    return Number((await client.fetchTopicOffsets(topic)).find(one => one.partition === partition).low);
  },
};

const lines = readline.createInterface({ input: process.stdin });
lines.on('close', () => process.exit(0));
// One command after the other.
let last = Promise.resolve();
lines.on('line', line => {
  const { id, do: verb, ...arguments_ } = JSON.parse(line);
  last = last.then(async () => {
    try {
      say({ id, ok: (await verbs[verb](arguments_)) ?? null });
    } catch (error) {
      say({ id, error: errorCode(error), message: String(error) });
    }
  });
});
