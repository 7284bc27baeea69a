// What kafkajs has to show. usage: suite DATA | write TOPIC COMPRESSION DATA
'use strict';
const assert = require('node:assert');
const { execFileSync } = require('node:child_process');
const crypto = require('node:crypto');
const fs = require('node:fs');
const path = require('node:path');
const { Kafka, logLevel } = require('kafkajs');
const codecs = require('./codecs');

const PARTITIONS = 3;
const kafka = new Kafka({ clientId: 'compat-kafkajs', brokers: process.env.BOOTSTRAP.split(','), logLevel: logLevel.NOTHING, retry: { retries: 8 } });
const prefix = `kafkajs-${process.pid}-${Date.now() % 100000000}`;
let passed = 0, failed = 0;

// ---- records in the text form of lib/python/dataset.py

const untext = word => (word === '~' ? null : Buffer.from(word, 'hex'));

function load(file) {
  return fs.readFileSync(file, 'ascii').split('\n').filter(Boolean).map(line => {
    const [partition, timestamp, key, value, pairs] = line.split('\t');
    const headers = [];
    for (const pair of pairs.split(',').filter(Boolean)) {
      const [name, data] = pair.split(':');
      headers.push([untext(name).toString('utf8'), untext(data)]);
    }
    return { partition: Number(partition), timestamp, key: untext(key), value: untext(value), headers };
  });
}

// kafkajs takes headers as an object: a name that comes again is an array of values.
function message({ partition, timestamp, key, value, headers }) {
  const grouped = {};
  for (const [name, data] of headers) (grouped[name] ??= []).push(data);
  return { partition, timestamp, key, value, headers: grouped };
}

const text = data => (data === null ? '~' : data.toString('hex'));

function line({ partition, offset, timestamp, key, value, headers }) {
  const pairs = headers.map(([name, data]) => `${text(Buffer.from(name, 'utf8'))}:${text(data)}`);
  return [partition, offset, timestamp, text(key), text(value), pairs.join(',')].join('\t');
}

function expected(records) {
  const ends = {};
  const rows = records.map(r => ({ ...r, offset: (ends[r.partition] = (ends[r.partition] ?? -1) + 1) }));
  rows.sort((a, b) => a.partition - b.partition || a.offset - b.offset);
  return rows.map(line);
}

function readBack(topic) {
  const reader = path.join(__dirname, '..', 'lib', 'python', 'client_confluent.py');
  return execFileSync(process.env.COMPAT_PYTHON, [reader, 'read', topic], { maxBuffer: 1 << 28, encoding: 'ascii' }).split('\n').filter(Boolean);
}

function same(got, wanted) {
  assert.strictEqual(got.length, wanted.length, `${wanted.length} records expected, got ${got.length}`);
  got.forEach((line, i) => assert.ok(line === wanted[i], `expected ${wanted[i].slice(0, 300)}, got ${line.slice(0, 300)}`));
}

// ---- the client's verbs

async function withAdmin(work) {
  // It takes some refusals for passing troubles and tries again: not for long.
  const admin = kafka.admin({ retry: { retries: 2, initialRetryTime: 50, maxRetryTime: 200 } });
  await admin.connect();
  try { return await work(admin); } finally { await admin.disconnect(); }
}

const REPLICATION_FACTOR = Number(process.env.REPLICATION_FACTOR ?? 1);

const create = (topic, numPartitions, replicationFactor = REPLICATION_FACTOR, configEntries = [{ name: 'retention.ms', value: '-1' }]) =>
  withAdmin(admin => admin.createTopics({ topics: [{ topic, numPartitions, replicationFactor, configEntries }], waitForLeaders: true }));

async function topic(suffix, partitions = PARTITIONS) {
  const name = `${prefix}-${suffix}`;
  assert.strictEqual(await create(name, partitions), true, 'the topic is created');
  return name;
}

async function produce(name, records, { acks = -1, compression = 'none', idempotent = false } = {}) {
  const producer = kafka.producer({ idempotent, maxInFlightRequests: idempotent ? 1 : undefined, allowAutoTopicCreation: false });
  await producer.connect();
  try {
    return await producer.send({ topic: name, acks, compression: codecs.types[compression], messages: records.map(message) });
  } finally {
    await producer.disconnect();
  }
}

// ---- the suite

async function test(name, body) {
  const started = Date.now();
  try {
    await body();
    passed++;
    console.log(`ok kafkajs: ${name} (${((Date.now() - started) / 1000).toFixed(2)} s)`);
  } catch (error) {
    failed++;
    console.log(`FAILED kafkajs: ${name}: ${error}`);
  }
}

async function eventually(what, condition) {
  const deadline = Date.now() + 60_000;
  while (!(await condition())) {
    assert.ok(Date.now() < deadline, `waited in vain until ${what}`);
    await new Promise(resolve => setTimeout(resolve, 50));
  }
}

const refused = (type, promise) => assert.rejects(promise, error => {
  const found = error.type ?? error.cause?.type ?? error.errors?.[0]?.type;
  assert.strictEqual(found, type, `${type} expected, got ${error}`);
  return true;
});

async function suite(records) {
  await test('topics are created, described, listed, refused when wrong, and deleted', async () => {
    const name = await topic('admin', 5);
    await withAdmin(async admin => {
      assert.ok((await admin.listTopics()).includes(name));
      const { topics } = await admin.fetchTopicMetadata({ topics: [name] });
      assert.strictEqual(topics[0].partitions.length, 5);
      assert.strictEqual(await create(name, 5), false, 'kafkajs answers false when a topic is there already');
      await refused('INVALID_TOPIC_EXCEPTION', create(`${name} with spaces`, 1));
      await refused('INVALID_REPLICATION_FACTOR', create(`${name}-rf`, 1, 9));
      await admin.deleteTopics({ topics: [name] });
      await eventually('the deleted topic is gone', async () => !(await admin.listTopics()).includes(name));
      await refused('UNKNOWN_TOPIC_OR_PARTITION', admin.deleteTopics({ topics: [name] }));
    });
  });
  await test('the cluster describes itself', () => withAdmin(async admin => {
    const { brokers, clusterId, controller } = await admin.describeCluster();
    assert.ok(brokers.length >= 1 && clusterId.length === 22 && controller !== null);
  }));
  for (const compression of Object.keys(codecs.types)) {
    for (const acks of [0, 1, -1]) {
      await test(`${compression}, acks=${acks}: everything written is read back, byte for byte`, async () => {
        const name = await topic(`${compression}-${acks}`);
        const answer = await produce(name, records, { acks, compression });
        const total = () => withAdmin(async admin => (await admin.fetchTopicOffsets(name)).reduce((sum, { high }) => sum + Number(high), 0));
        if (acks === 0) await eventually('all records are there', async () => (await total()) === records.length);
        else for (const { baseOffset } of answer) assert.strictEqual(baseOffset, '0');
        same(readBack(name), expected(records));
      });
    }
  }
  await test("an idempotent producer's records are there once and in order", async () => {
    const name = await topic('idempotent');
    for (let i = 0; i < 2; i++) await produce(name, records, { idempotent: true, compression: 'gzip' });
    same(readBack(name), expected([...records, ...records]));
  });
  await test('a record over max.message.bytes is refused, the next one is taken', async () => {
    const name = await topic('too-large', 1);
    const record = value => ({ partition: 0, timestamp: '1700000000000', key: null, value, headers: [] });
    await refused('MESSAGE_TOO_LARGE', produce(name, [record(crypto.randomBytes(1_500_000))]));
    assert.strictEqual((await produce(name, [record(Buffer.from('v'))]))[0].baseOffset, '0');
  });
  await test('first, last and timestamps\' offsets are told', async () => {
    const name = await topic('offsets');
    await produce(name, records);
    const zero = expected(records).filter(line => line.startsWith('0\t')).map(line => line.split('\t'));
    const mark = zero.find(column => column[3] === Buffer.from('mark').toString('hex'));
    await withAdmin(async admin => {
      const ends = (await admin.fetchTopicOffsets(name)).find(({ partition }) => partition === 0);
      assert.deepStrictEqual([ends.low, ends.high], ['0', String(zero.length)]);
      const found = await admin.fetchTopicOffsetsByTimestamp(name, Number(mark[2]));
      assert.strictEqual(found.find(({ partition }) => partition === 0).offset, mark[1]);
    });
  });
  console.log(`${passed} passed, ${failed} failed`);
  return failed === 0;
}

async function main([verb, ...args]) {
  if (verb === 'suite') return suite(load(args[0]));
  if (verb === 'write') { await produce(args[0], load(args[2]), { compression: args[1] }); return true; }
  throw new Error(`unknown verb ${verb}`);
}

main(process.argv.slice(2)).then(ok => process.exit(ok ? 0 : 1), error => { console.error(error); process.exit(1); });
