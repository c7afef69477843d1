// What the server lacks of the service whose protocol it speaks.
"use strict";
const fs = require("node:fs");
const path = require("node:path");

const lib = path.dirname(fs.realpathSync(process.argv[1]));
const load = (...parts) => require(path.join(lib, ...parts));

// A document that is not there is answered with 404, where the server fails with 500 on looking into it.
// https://learn.microsoft.com/rest/api/cosmos-db/get-a-document
const reading = load("handler", "read-document.js");
const read = reading.default;
reading.default = (account, req, res, params) => {
  try {
    return read(account, req, res, params);
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    res.statusCode = 404;
    return { code: "NotFound", message: "Entity with the specified id does not exist in the system." };
  }
};

// A transactional batch has its partition in the header of the request, where the server looks for one in each
// operation; and "if any operation fails, the entire transaction is rolled back", which the server does not.
// https://learn.microsoft.com/azure/cosmos-db/nosql/transactional-batch
const json = load("json.js");
const { BulkOperationType } = load("types.js");
const operations = load("handler", "_document-operations.js");
const batching = load("handler", "batch-documents.js");
const batch = batching.default;
const carriers = {
  [BulkOperationType.Create]: operations.createOperation,
  [BulkOperationType.Upsert]: operations.upsertOperation,
  [BulkOperationType.Read]: operations.readOperation,
  [BulkOperationType.Delete]: operations.deleteOperation,
  [BulkOperationType.Replace]: operations.replaceOperation,
};

function together(collection, asked, partitionKey) {
  const { documents } = collection;
  const before = [new Map(documents._data), new Map(documents._index)];
  const answers = [];
  for (const one of asked) {
    const carrier = carriers[one.operationType];
    const { statusCode, body } = carrier ? carrier(collection, { ...one, partitionKey }) : { statusCode: 400 };
    if (statusCode >= 400) {
      [documents._data, documents._index] = before;
      return asked.map((_, i) => ({ statusCode: i === answers.length ? statusCode : 424, requestCharge: 0 }));
    }
    answers.push({ statusCode, requestCharge: 1, eTag: body ? body._etag : undefined, resourceBody: body });
  }
  return answers;
}

batching.default = async (account, req, res, params) => {
  if (String(req.headers["x-ms-cosmos-batch-atomic"]).toLowerCase() !== "true") {
    return batch(account, req, res, params);
  }
  const asked = await json.default(req);
  const collection = account.database(params.dbId).collection(params.collId);
  if (!collection.read()) {
    res.statusCode = 404;
    return { code: "NotFound", message: "There is no such container." };
  }
  const answers = together(collection, asked, req.headers["x-ms-documentdb-partitionkey"]);
  res.statusCode = answers.some((one) => one.statusCode >= 400) ? 207 : 200;
  return answers;
};

// A connection is kept: the server ends each after one request, and every request pays for a handshake. (Last, as loading
// this loads the handlers into the routes.)
const server = load("index.js");
const { createHttpsServer } = server;
server.createHttpsServer = (options) => createHttpsServer({ keepAlive: true, ...options });
