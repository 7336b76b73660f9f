// CloudCruise's own JavaScript SDK as a program: one command per line on standard input, one answer
// per line on standard output.
//
//   {"op":"client","base_url":"http://127.0.0.1:9000","api_key":"sk_...","encryption_key":"..."}  ->  {"ok":true,"result":null}
//   {"op":"vault.get","filters":{"domain":"https://acme.com"}}                ->  {"ok":false,"error":{"name":"Error","message":"..."}}
//
// The SDK always connects to https://api.cloudcruise.com; its requests for that are redirected to
// `base_url`, and all others are refused. The process ends with its standard input.

import { createInterface } from "node:readline";
import process from "node:process";
import { CloudCruise } from "cloudcruise";

const pretended = "https://api.cloudcruise.com";
const fetchForReal = globalThis.fetch;
let target;
globalThis.fetch = (input, init) => {
  const request = new Request(input, init);
  const { origin, pathname, search } = new URL(request.url);
  if (origin !== pretended) return Promise.reject(new TypeError(`only ${pretended} is mapped, not ${origin}`));
  return fetchForReal(new URL(pathname + search, target), init);
};

let client;

const commands = {
  client({ base_url, api_key, encryption_key }) {
    target = base_url;
    client = new CloudCruise({ apiKey: api_key, encryptionKey: encryption_key });
  },
  "vault.create": ({ entry: { domain, permissioned_user_id, ...options } }) => client.vault.create(domain, permissioned_user_id, options),
  "vault.get": ({ filters }) => client.vault.get(filters),
  "vault.update": ({ entry }) => client.vault.update(entry),
  "vault.delete": ({ params }) => client.vault.delete(params),
  "vault.tfaCode": ({ permissioned_user_id, domain }) => client.vault.getTfaCode(permissioned_user_id, domain),
  // The published release has no methods for secret providers, and its `vault.update` requires
  // credentials. Its users call its transport directly.
  "secretProviders.list": () => client.makeRequest("GET", "/secret-providers"),
  "secretProviders.items": ({ id }) => client.makeRequest("GET", `/secret-providers/${id}/items`),
  request: ({ method, path, body }) => client.makeRequest(method, path, body),
};

async function answer(line) {
  try {
    const { op, ...parameters } = JSON.parse(line);
    return { ok: true, result: (await commands[op](parameters)) ?? null };
  } catch (error) {
    return { ok: false, error: { name: error?.name ?? "Error", message: String(error?.message ?? error) } };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  if (line.trim()) console.log(JSON.stringify(await answer(line)));
}
