// Runs a program for wasm32 that imports nothing but `print`.
import { readFileSync } from "node:fs";

let memory;
const print = (text, length) => process.stdout.write(new Uint8Array(memory.buffer, text, length));
const { instance } = await WebAssembly.instantiate(readFileSync(process.argv[2]), { host: { print } });
memory = instance.exports.memory;
instance.exports.run();
