// 1Password's own SDK as a program: one command per line on standard input, one answer per line on
// standard output.
//
//   {"op":"createClient","token":"ops_..."}     ->  {"ok":true,"result":null}
//   {"op":"vaults.list"}                        ->  {"ok":true,"result":[...]}
//   {"op":"secrets.resolve","reference":"..."}  ->  {"ok":false,"error":{"name":"Error","message":"..."}}
//
// The SDK connects to https://my.1password.com; its requests for that are redirected to
// KEYWAY_EMULATOR_URL, and requests for any address but these two are refused. If a command has no
// token, KEYWAY_EMULATOR_TOKEN is used. The process ends with its standard input.

import { createInterface } from "node:readline";
import process from "node:process";

const pretended = "https://my.1password.com";
const emulator = process.env.KEYWAY_EMULATOR_URL;
if (!emulator) {
  console.error("KEYWAY_EMULATOR_URL is not set; it says where the emulator listens, for example http://127.0.0.1:9000");
  process.exit(2);
}

// Installed before the SDK's core is loaded, because the core keeps the fetch that it finds.
const fetchForReal = globalThis.fetch;
globalThis.fetch = (input, init) => {
  const request = new Request(input, init);
  const { origin, pathname, search } = new URL(request.url);
  if (origin === new URL(emulator).origin) return fetchForReal(request);
  if (origin === pretended) return fetchForReal(new Request(new URL(pathname + search, emulator), request));
  return Promise.reject(new TypeError(`only ${pretended} is mapped, not ${origin}`));
};
const { createClient } = await import("@1password/sdk");

let client;

const commands = {
  async createClient({ token = process.env.KEYWAY_EMULATOR_TOKEN }) {
    client = await createClient({ auth: token, integrationName: "keyway-e2e", integrationVersion: "v1.0.0" });
    return null;
  },
  "vaults.list": () => client.vaults.list(),
  "items.list": ({ vault, filters = [] }) => client.items.list(vault, ...filters),
  "items.get": ({ vault, item }) => client.items.get(vault, item),
  // Gets the item, sets the values of the fields with these ids, and puts it.
  async "items.put"({ vault, item, fields = {}, title }) {
    const current = await client.items.get(vault, item);
    for (const [id, value] of Object.entries(fields)) {
      const field = current.fields.find((field) => field.id === id);
      if (!field) throw new Error(`the item has no field '${id}'`);
      field.value = value;
    }
    if (title !== undefined) current.title = title;
    return client.items.put(current);
  },
  // Puts an item that an earlier command returned.
  "items.putAsIs": ({ item }) => client.items.put(item),
  "items.create": ({ item }) => client.items.create(item),
  "items.archive": ({ vault, item }) => client.items.archive(vault, item),
  "items.delete": ({ vault, item }) => client.items.delete(vault, item),
  "secrets.resolve": ({ reference }) => client.secrets.resolve(reference),
  "secrets.resolveAll": ({ references }) => client.secrets.resolveAll(references),
  // For comparisons, in milliseconds. Measured here to exclude the pipe between the two programs.
  async "measure.createClient"({ token, count }) {
    const times = [];
    for (let i = 0; i < count; i++) {
      const start = performance.now();
      client = await createClient({ auth: token, integrationName: "keyway-e2e", integrationVersion: "v1.0.0" });
      times.push(performance.now() - start);
    }
    return times;
  },
  async "measure.resolve"({ reference, count, concurrent }) {
    let left = count;
    const worker = async () => {
      while (left-- > 0) await client.secrets.resolve(reference);
    };
    const start = performance.now();
    await Promise.all(Array.from({ length: concurrent }, worker));
    return performance.now() - start;
  },
};

async function answer(line) {
  try {
    const { op, ...parameters } = JSON.parse(line);
    const command = commands[op];
    if (!command) throw new Error(`there is no command '${op}'`);
    if (!client && !op.endsWith("createClient")) throw new Error("there is no client yet; send createClient first");
    return { ok: true, result: (await command(parameters)) ?? null };
  } catch (error) {
    // The SDK throws both errors and plain strings.
    return { ok: false, error: { name: error?.name ?? "Error", message: String(error?.message ?? error) } };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  if (line.trim()) console.log(JSON.stringify(await answer(line)));
}
