// Writes a blob and a message, signed as Azure Storage wants it, reads them back, and removes what it made.
"use strict";
const { createHmac } = require("node:crypto");
const { readFileSync } = require("node:fs");

const account = process.env.ACCOUNT;
const key = Buffer.from(readFileSync(process.env.KEY, "utf8"), "base64");

async function call(method, base, path, parameters = {}, body = "", headers = {}) {
  const own = { "x-ms-date": new Date().toUTCString(), "x-ms-version": "2021-12-02", ...headers };
  const names = Object.keys(own).filter((name) => name.startsWith("x-ms-")).sort();
  const length = body ? String(Buffer.byteLength(body)) : "";
  const canonical = names.map((name) => `${name}:${own[name]}\n`).join("");
  const sorted = Object.keys(parameters).sort().map((name) => `\n${name}:${parameters[name]}`).join("");
  const text = `${method}\n\n\n${length}\n\n${own["content-type"] ?? ""}\n\n\n\n\n\n\n${canonical}/${account}/${account}${path}${sorted}`;
  const signature = createHmac("sha256", key).update(text, "utf8").digest("base64");
  const query = new URLSearchParams(parameters).toString();
  const answer = await fetch(`${base}/${account}${path}${query ? `?${query}` : ""}`, {
    method,
    headers: { ...own, authorization: `SharedKey ${account}:${signature}` },
    body: body || undefined,
  });
  const said = await answer.text();
  if (!answer.ok) {
    throw new Error(`${method} ${path}: ${answer.status} ${said.slice(0, 200)}`);
  }
  return said;
}

async function main() {
  const { BLOBS: blobs, QUEUES: queues } = process.env;
  const container = "portable-probe";
  const type = { "x-ms-blob-type": "BlockBlob", "content-type": "text/plain" };
  await call("PUT", blobs, `/${container}`, { restype: "container" });
  try {
    await call("PUT", blobs, `/${container}/key`, {}, "works", type);
    const found = await call("GET", blobs, `/${container}/key`);
    if (found !== "works") {
      throw new Error("the blob is not what was written");
    }
  } finally {
    await call("DELETE", blobs, `/${container}`, { restype: "container" });
  }
  await call("PUT", queues, `/${container}`);
  try {
    const message = "<QueueMessage><MessageText>works</MessageText></QueueMessage>";
    await call("POST", queues, `/${container}/messages`, {}, message, { "content-type": "application/xml" });
    const found = await call("GET", queues, `/${container}/messages`);
    if (!found.includes("<MessageText>works</MessageText>")) {
      throw new Error("the message is not what was sent");
    }
  } finally {
    await call("DELETE", queues, `/${container}`);
  }
  console.log("works");
}

main().catch((error) => {
  console.error(error.message);
  process.exitCode = 1;
});
