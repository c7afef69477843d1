// Serves Kinesalite on one address: node serve.js PACKAGE HOST PORT
"use strict";
const [, , kinesalite, host, port] = process.argv;

require(kinesalite)({ shardLimit: 1000000, createStreamMs: 20, updateStreamMs: 20, deleteStreamMs: 20 })
  .listen(Number(port), host);
