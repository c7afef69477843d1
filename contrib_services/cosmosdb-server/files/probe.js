// Makes a document, reads it back, sees that a wrong etag is refused, and removes what it made.
"use strict";
const { request } = require("node:https");

const endpoint = new URL(process.env.ENDPOINT);

function call(method, path, body, headers = {}) {
  return new Promise((resolve, reject) => {
    const options = {
      host: endpoint.hostname,
      port: endpoint.port,
      method,
      path,
      rejectUnauthorized: false,
      headers: {
        authorization: "type%3dmaster%26ver%3d1.0%26sig%3dprobe",
        "x-ms-date": new Date().toUTCString(),
        "x-ms-version": "2018-12-31",
        "content-type": "application/json",
        ...headers,
      },
    };
    const sent = request(options, (answer) => {
      let text = "";
      answer.on("data", (part) => (text += part));
      answer.on("end", () => resolve({ status: answer.statusCode, text }));
    });
    sent.on("error", reject);
    sent.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

async function good(status, ...what) {
  const answer = await call(...what);
  if (answer.status !== status) {
    throw new Error(`${what[0]} ${what[1]}: ${answer.status} in place of ${status}: ${answer.text.slice(0, 200)}`);
  }
  return answer.text;
}

async function main() {
  const name = "portable-probe";
  const documents = `/dbs/${name}/colls/${name}/docs`;
  const partition = { "x-ms-documentdb-partitionkey": '["probe"]' };
  await good(201, "POST", "/dbs", { id: name });
  try {
    await good(201, "POST", `/dbs/${name}/colls`, { id: name, partitionKey: { paths: ["/id"], kind: "Hash" } });
    await good(201, "POST", documents, { id: "probe", value: "works" }, partition);
    const found = JSON.parse(await good(200, "GET", `${documents}/probe`, undefined, partition));
    if (found.value !== "works") {
      throw new Error("the document is not what was written");
    }
    await good(412, "PUT", `${documents}/probe`, found, { ...partition, "if-match": '"another"' });
  } finally {
    await good(204, "DELETE", `/dbs/${name}`);
  }
  console.log("works");
}

main().catch((error) => {
  console.error(error.message);
  process.exitCode = 1;
});
