// Screens the files named on the command line through `cxr-edge pipe`: node pipe.js FILE…
"use strict";
const { spawn } = require("node:child_process");
const readline = require("node:readline");

const child = spawn("cxr-edge", ["pipe", "--force"], { stdio: ["pipe", "pipe", "inherit"] });
const files = process.argv.slice(2);
files.forEach((path, id) => child.stdin.write(JSON.stringify({ id, path }) + "\n"));
child.stdin.end();

readline.createInterface({ input: child.stdout }).on("line", (line) => {
  const { id, result, error } = JSON.parse(line);
  if (error) console.log(`${files[id]}: ${error.code}: ${error.message}`);
  else if (result.error) console.log(`${files[id]}: ${result.error.code}`);
  else console.log(`${files[id]}: ${result.decision} ${result.probability}`);
});
child.on("close", (code) => { process.exitCode = code; });
