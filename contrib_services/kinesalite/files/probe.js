// Makes a stream, puts a record, reads it back, and removes the stream.
"use strict";

const NAME = "portable-probe";
const url = process.argv[2];

async function call(action, body) {
  const answer = await fetch(url, {
    method: "POST",
    headers: {
      "content-type": "application/x-amz-json-1.1",
      "x-amz-target": `Kinesis_20131202.${action}`,
      "x-amz-date": "20300101T000000Z",
      authorization: "AWS4-HMAC-SHA256 Credential=portable/20300101/us-east-1/kinesis/aws4_request, SignedHeaders=host, Signature=0",
    },
    body: JSON.stringify(body),
  });
  const said = await answer.text();
  if (!answer.ok) {
    throw new Error(`${action}: ${answer.status} ${said.slice(0, 200)}`);
  }
  return said ? JSON.parse(said) : {};
}

async function active() {
  for (;;) {
    const found = await call("DescribeStreamSummary", { StreamName: NAME });
    if (found.StreamDescriptionSummary.StreamStatus === "ACTIVE") {
      return;
    }
  }
}

async function main() {
  await call("CreateStream", { StreamName: NAME, ShardCount: 1 });
  await active();
  const data = Buffer.from("works").toString("base64");
  const { ShardId } = await call("PutRecord", { StreamName: NAME, PartitionKey: "key", Data: data });
  const { ShardIterator } = await call("GetShardIterator", { StreamName: NAME, ShardId, ShardIteratorType: "TRIM_HORIZON" });
  const { Records } = await call("GetRecords", { ShardIterator });
  await call("DeleteStream", { StreamName: NAME });
  if (Records.length !== 1 || Records[0].Data !== data) {
    throw new Error("the record is not what was put");
  }
  console.log("works");
}

main().catch((error) => {
  console.error(error.message);
  process.exitCode = 1;
});
