// Runs the Move unit tests of the package with the real compiler and Move virtual machine, compiled to WebAssembly:
// `node test.mjs --framework DIR`, where DIR is a checkout of the Sui repository. Attestation documents are the one
// thing that this machine can't judge.
import { parseArgs } from 'node:util';
import { initMovePackageBuilder, testMovePackage } from '@zktx.io/sui-move-builder/full';
import { LocalFetcher, packageFiles, PACKAGE } from './packages.mjs';

const { values: options } = parseArgs({ options: { framework: { type: 'string' }, filter: { type: 'string' } } });
if (options.framework === undefined) {
  console.error('--framework DIR is needed: the interface stubs have no bodies to run');
  process.exit(2);
}

await initMovePackageBuilder();
const result = await testMovePackage({
  files: packageFiles(PACKAGE, ['sources', 'tests']),
  fetcher: new LocalFetcher(options.framework),
  network: 'testnet',
  filter: options.filter,
});
console.log(result.output ?? result.error ?? JSON.stringify(result));
process.exit(result.passed === true ? 0 : 1);
