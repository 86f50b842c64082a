// Screens the files named on the command line through `cxr-edge pipe`: node pipe.js FILE…
// Exit code 1 if a film was not judged.
"use strict";
const { spawn } = require("node:child_process");
const readline = require("node:readline");

const files = process.argv.slice(2);
const child = spawn("cxr-edge", ["pipe"], { stdio: ["pipe", "pipe", "inherit"] });
let judged = 0;

// What to do with each kind of answer. Only a film with status "ok" says anything of the patient.
function tell(file, { result, error }) {
  if (error) return `${file}: not screened: ${error.code}: ${error.message}`;
  if (result.status === "error") return `${file}: not screened: ${result.error.code}`;
  if (result.status === "rejected") {
    return `${file}: refused, no decision: ${result.quality.flags.join(", ")}`;
  }
  judged += 1;
  const doubt = result.quality.flags.length ? ` (unlike the training films: have it read)` : "";
  if (result.decision === "uncertain") return `${file}: uncertain: a person has to read it${doubt}`;
  return `${file}: ${result.decision} ${result.probability}${doubt}`;
}

child.on("error", (problem) => {
  const missing = problem.code === "ENOENT";
  console.error(missing ? "cxr-edge is not on the PATH: install it, or activate its environment" : problem.message);
  process.exit(127);
});
child.stdin.on("error", () => {}); // it ended early: its exit code says why
for (const [id, path] of files.entries()) child.stdin.write(JSON.stringify({ id, path }) + "\n");
child.stdin.end();

readline.createInterface({ input: child.stdout }).on("line", (line) => {
  const answer = JSON.parse(line);
  console.log(tell(files[answer.id], answer));
});
child.on("close", (code) => { process.exitCode = code || (judged === files.length ? 0 : 1); });
