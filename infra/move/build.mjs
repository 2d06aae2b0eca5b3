// Builds the Move package `daas` against the interface stubs, without a network, and writes the artefact that
// daas.ledger publishes. `--check` compares with the committed artefact instead and exits 1 when they differ; `--output
// FILE` writes elsewhere; `--framework DIR` compiles against a checkout of the Sui framework instead of the stubs.
import fs from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { dumpMovePackage, initMovePackageBuilder } from '@zktx.io/sui-move-builder';
import { HERE, LocalFetcher, PACKAGE, packageFiles } from './packages.mjs';

const ARTEFACT = path.join(HERE, '../../libs/ledger/src/daas/ledger/package/daas.json');

const { values: options } = parseArgs({
  options: {
    check: { type: 'boolean', default: false },
    framework: { type: 'string', default: path.join(HERE, 'stubs') },
    output: { type: 'string', default: ARTEFACT },
  },
});

/** Names of the abort codes by module, read from the constants, so that an error can say more than a number. */
function abortNames(files) {
  const names = {};
  for (const text of Object.values(files)) {
    const module = text.match(/^module daas::(\w+);/m)?.[1];
    if (module === undefined) continue;
    const constants = [...text.matchAll(/^const (E[A-Z]\w*): u64 = (\d+);/gm)];
    if (constants.length > 0) names[module] = Object.fromEntries(constants.map(([, name, code]) => [code, name]));
  }
  return names;
}

/** The name of a compiled module: the identifier that its own module handle points at. */
function moduleName(bytecode) {
  const reader = { at: 8 };
  const uleb = () => {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = bytecode[reader.at++];
      value |= (byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
  };
  const tables = {};
  for (let count = uleb(); count > 0; count--) {
    const kind = bytecode[reader.at++];
    tables[kind] = { offset: uleb(), size: uleb() };
  }
  const base = reader.at;
  const [MODULE_HANDLES, IDENTIFIERS] = [0x1, 0x7];
  // The self handle's index is the last field of the module, after all tables.
  reader.at = base + Math.max(...Object.values(tables).map((table) => table.offset + table.size));
  const self = uleb();
  reader.at = base + tables[MODULE_HANDLES].offset;
  for (let i = 0; i < 2 * self; i++) uleb();
  uleb();
  const identifier = uleb();
  reader.at = base + tables[IDENTIFIERS].offset;
  for (let i = 0; i < identifier; i++) {
    const length = uleb();
    reader.at += length;
  }
  const length = uleb();
  return Buffer.from(bytecode.subarray(reader.at, reader.at + length)).toString();
}

const lock = JSON.parse(fs.readFileSync(path.join(HERE, 'package-lock.json'), 'utf8'));
const builder = lock.packages['node_modules/@zktx.io/sui-move-builder'].version;

await initMovePackageBuilder();
const files = packageFiles(PACKAGE);
const result = await dumpMovePackage({ files, fetcher: new LocalFetcher(options.framework), network: 'testnet', silenceWarnings: false });
if (result.error) {
  console.error(result.error);
  process.exit(2);
}
if (result.warnings) {
  console.error(result.warnings);
  process.exit(2);
}
const modules = result.modules.map((module) => Buffer.from(module, 'base64'));
const artefact = {
  name: 'daas',
  builder: `@zktx.io/sui-move-builder ${builder}`,
  digest: Buffer.from(result.digest).toString('hex'),
  dependencies: result.dependencies,
  module_names: modules.map(moduleName),
  modules: modules.map((module) => module.toString('base64')),
  aborts: abortNames(files),
};
const text = `${JSON.stringify(artefact, null, 2)}\n`;
if (options.check) {
  if (fs.readFileSync(ARTEFACT, 'utf8') !== text) {
    console.error(`${ARTEFACT} is not what the sources compile to (digest ${artefact.digest}): run node build.mjs`);
    process.exit(1);
  }
} else {
  fs.mkdirSync(path.dirname(options.output), { recursive: true });
  fs.writeFileSync(options.output, text);
}
console.log(`${artefact.digest} ${artefact.module_names.join(' ')} ${modules.reduce((n, m) => n + m.length, 0)} bytes`);
