// A client of a mesh in another language, written from protos/ alone:
//
//   node client.js SCHEDULER PROTOS SCRIPT INPUT OUTPUT
//
// It checks the health of all three services, submits SCRIPT over INPUT, watches the job to its end, reads its output, and
// asks for two things that are refused. What it saw goes to standard output as one JSON object.
"use strict";

const { createHash } = require("node:crypto");
const { readFileSync } = require("node:fs");
const path = require("node:path");
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const [scheduler, protos, script, input, output] = process.argv.slice(2);
const DEADLINE_MS = 15_000;

const definition = loader.loadSync(
  [
    "batchmesh/v1/scheduler.proto",
    "batchmesh/v1/storage.proto",
    "batchmesh/v1/agent.proto",
    "grpc/health/v1/health.proto",
    "google/rpc/status.proto",
  ],
  { includeDirs: [protos, path.join(__dirname, "protos")], enums: String, longs: Number, keepCase: true, defaults: true },
);
const { batchmesh, grpc: standard } = grpc.loadPackageDefinition(definition);
const decode = (name, bytes) => definition[`google.rpc.${name}`].deserialize(bytes);

const open = (Service, address) => new Service(address, grpc.credentials.createInsecure());

function call(client, method, request) {
  return new Promise((resolve, reject) => {
    const deadline = Date.now() + DEADLINE_MS;
    client[method](request, { deadline }, (error, response) => (error ? reject(error) : resolve(response)));
  });
}

async function collect(stream, pick) {
  const found = [];
  for await (const response of stream) found.push(pick(response));
  return found;
}

function health(address, service) {
  return call(open(standard.health.v1.Health, address), "Check", { service }).then((answer) => answer.status);
}

// A tar archive of one file, as storage keeps the source of a job.
function archive(name, bytes) {
  const header = Buffer.alloc(512);
  header.write(name, 0);
  header.write("0000644\0", 100);
  header.write("0000000\0", 108);
  header.write("0000000\0", 116);
  header.write(`${bytes.length.toString(8).padStart(11, "0")}\0`, 124);
  header.write("00000000000\0", 136);
  header.write("        ", 148);
  header.write("0", 156);
  header.write("ustar\x0000", 257);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
  return Buffer.concat([header, bytes, Buffer.alloc((512 - (bytes.length % 512)) % 512), Buffer.alloc(1024)]);
}

function upload(storage, tar) {
  const digest = createHash("sha256").update(tar).digest("hex");
  return new Promise((resolve, reject) => {
    const deadline = Date.now() + DEADLINE_MS;
    const stream = storage.WriteArtifact({ deadline }, (error) => (error ? reject(error) : resolve(digest)));
    stream.write({ digest });
    stream.write({ data: tar });
    stream.end();
  });
}

// The rich error of a call that is refused: code, and what grpc-status-details-bin says.
async function refusal(client, method, request) {
  try {
    await call(client, method, request);
  } catch (error) {
    const [bytes] = error.metadata.get("grpc-status-details-bin");
    const seen = { code: grpc.status[error.code], message: error.details };
    for (const detail of decode("Status", bytes).details) {
      const name = detail.type_url.split("/google.rpc.").pop();
      Object.assign(seen, decode(name, detail.value));
    }
    return seen;
  }
  throw new Error(`${method} was not refused`);
}

async function main() {
  const mesh = open(batchmesh.v1.SchedulerService, scheduler);
  const { storage_address } = await call(mesh, "GetMesh", {});
  const storage = open(batchmesh.v1.StorageService, storage_address);
  const { nodes } = await call(mesh, "ListNodes", {});

  const source_digest = await upload(storage, archive("entry.py", readFileSync(script)));
  const spec = { entry_script: "entry.py", source_digest, inputs: [input], output };
  const { job } = await call(mesh, "SubmitJob", { spec });
  const watched = await collect(mesh.WatchJob({ job_id: job.job_id }), (response) => response.job);
  const pieces = await collect(storage.ReadOutput({ job_id: job.job_id }), (response) => response.data);

  return {
    addresses: { scheduler, storage: storage_address, agent: nodes[0].address },
    health: {
      scheduler: await health(scheduler, "batchmesh.v1.SchedulerService"),
      storage: await health(storage_address, "batchmesh.v1.StorageService"),
      agent: await health(nodes[0].address, "batchmesh.v1.AgentService"),
    },
    job: (await call(mesh, "GetJob", { job_id: job.job_id })).job,
    last: watched.at(-1).state,
    output: Buffer.concat(pieces).toString(),
    unknown: await refusal(mesh, "GetJob", { job_id: "no-such-job" }),
    refused: await refusal(mesh, "SubmitJob", { spec: { ...spec, run_max_try: 0 } }),
  };
}

main().then(
  (seen) => {
    console.log(JSON.stringify(seen));
    process.exit(0);
  },
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
