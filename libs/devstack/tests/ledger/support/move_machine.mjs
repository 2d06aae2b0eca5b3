// Runs the real Move compiler and test machine over a package given on stdin as JSON:
// {builder, framework, files} -> {modules, digest} or, with "test": true, {passed, output}; {error} where it fails.
import fs from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

const request = JSON.parse(fs.readFileSync(0, 'utf8'));
const move = await import(pathToFileURL(path.join(request.builder, 'dist/full/index.js')).href);

/** The manifest and the sources of one framework package. */
function packageFiles(root) {
  const files = { 'Move.toml': fs.readFileSync(path.join(root, 'Move.toml'), 'utf8') };
  const sources = path.join(root, 'sources');
  for (const entry of fs.readdirSync(sources, { recursive: true }).sort()) {
    if (entry.endsWith('.move')) {
      files[`sources/${entry.split(path.sep).join('/')}`] = fs.readFileSync(path.join(sources, entry), 'utf8');
    }
  }
  return files;
}

class LocalFetcher extends move.MovePackageFetcher {
  async fetch(_repository, _revision, subdirectory) {
    return packageFiles(path.join(request.framework, subdirectory ?? ''));
  }

  async fetchFile() {
    return null;
  }

  getResolvedSha(_repository, revision) {
    return revision;
  }
}

await move.initMovePackageBuilder();
const input = { files: request.files, fetcher: new LocalFetcher(), network: 'testnet', silenceWarnings: true };
const result = request.test ? await move.testMovePackage(input) : await move.dumpMovePackage(input);
const answer = result.error
  ? { error: result.error }
  : request.test
    ? { passed: result.passed, output: result.output }
    : { modules: result.modules, digest: Buffer.from(result.digest).toString('hex') };
process.stdout.write(JSON.stringify(answer));
