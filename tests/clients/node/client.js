// A Node producer and a plain Node consumer of assignments.
//   node client.js produce BOOTSTRAP TOPIC         JSON lines {key, value, headers} come on stdin
//   node client.js owners BOOTSTRAP TOPIC COUNT    prints who owns which conversation after COUNT records
import { createInterface } from "node:readline";
import kafkajs from "kafkajs";

const [what, bootstrap, topic, count] = process.argv.slice(2);
const kafka = new kafkajs.Kafka({ brokers: bootstrap.split(","), logLevel: kafkajs.logLevel.ERROR });

async function produce() {
  const messages = [];
  for await (const line of createInterface({ input: process.stdin })) messages.push(JSON.parse(line));
  const producer = kafka.producer();
  await producer.connect();
  await producer.send({ topic, messages });
  await producer.disconnect();
}

const owners = {}; // what this consumer does with an assignment
const last = {}; // stored together with it

function take(event) {
  const { seq, n, contact, agent } = event.data;
  const conversation = [event.workspace, contact.id, event.subject].join(" ");
  const [lastSeq, lastN] = last[conversation] ?? [0, 0];
  if (seq < lastSeq || (seq === lastSeq && n <= lastN)) return; // seen before
  if (event.type === "conversation.assigned") owners[contact.id] = agent;
  if (event.type === "conversation.released") delete owners[contact.id];
  last[conversation] = [seq, n];
}

async function consume() {
  const consumer = kafka.consumer({ groupId: `node-${process.pid}-${Date.now()}` });
  await consumer.connect();
  await consumer.subscribe({ topics: [topic], fromBeginning: true });
  let left = Number(count);
  await new Promise((resolve, reject) => {
    consumer.on(consumer.events.CRASH, ({ payload }) => reject(payload.error));
    const eachMessage = async ({ message }) => {
      take(JSON.parse(message.value.toString()));
      left -= 1;
      if (left === 0) resolve();
    };
    consumer.run({ eachMessage }).catch(reject);
  });
  await consumer.disconnect();
  process.stdout.write(JSON.stringify(owners));
}

await (what === "produce" ? produce() : consume());
