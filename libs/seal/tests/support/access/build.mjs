// Builds the test policy `access` against the project's interface stubs, without a network, into access.json.
// The compiler is the one that infra/move installs.
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const HERE = path.dirname(fileURLToPath(import.meta.url));
const INFRA = path.join(HERE, '../../../../../infra/move');
const compiler = path.join(INFRA, 'node_modules/@zktx.io/sui-move-builder/dist/full/index.js');
const { MovePackageFetcher, dumpMovePackage, initMovePackageBuilder } = await import(compiler);

function packageFiles(root) {
  const files = { 'Move.toml': fs.readFileSync(path.join(root, 'Move.toml'), 'utf8') };
  for (const name of fs.readdirSync(path.join(root, 'sources')).sort()) {
    files[`sources/${name}`] = fs.readFileSync(path.join(root, 'sources', name), 'utf8');
  }
  return files;
}

class LocalFetcher extends MovePackageFetcher {
  async fetch(_repository, _revision, subdirectory) {
    return packageFiles(path.join(INFRA, 'stubs', subdirectory ?? ''));
  }

  async fetchFile(_repository, _revision, file) {
    const local = path.join(INFRA, 'stubs', file);
    return fs.existsSync(local) ? fs.readFileSync(local, 'utf8') : null;
  }

  getResolvedSha(_repository, revision) {
    return revision;
  }
}

await initMovePackageBuilder();
const files = packageFiles(HERE);
const result = await dumpMovePackage({ files, fetcher: new LocalFetcher(), network: 'testnet' });
if (result.error) {
  console.error(result.error);
  process.exit(2);
}
const constants = [...files['sources/access.move'].matchAll(/^const (E[A-Z]\w*): u64 = (\d+);/gm)];
const artefact = {
  digest: Buffer.from(result.digest).toString('hex'),
  dependencies: result.dependencies,
  modules: result.modules,
  aborts: Object.fromEntries(constants.map(([, name, code]) => [code, name])),
};
fs.writeFileSync(path.join(HERE, 'access.json'), `${JSON.stringify(artefact, null, 2)}\n`);
console.log(artefact.digest);
