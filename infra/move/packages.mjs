// Reading Move packages from local folders, for the compiler: it has no way to reach anything else.
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { MovePackageFetcher } from '@zktx.io/sui-move-builder';

export const HERE = path.dirname(fileURLToPath(import.meta.url));
export const PACKAGE = path.join(HERE, 'daas');

/** Text files below `root`, by path relative to it: the manifest and the sources in `folders`, and nothing else. */
export function packageFiles(root, folders = ['sources']) {
  const files = { 'Move.toml': fs.readFileSync(path.join(root, 'Move.toml'), 'utf8') };
  for (const folder of folders) {
    const sources = path.join(root, folder);
    for (const entry of fs.readdirSync(sources, { recursive: true }).sort()) {
      if (entry.endsWith('.move')) {
        files[`${folder}/${entry.split(path.sep).join('/')}`] = fs.readFileSync(path.join(sources, entry), 'utf8');
      }
    }
  }
  return files;
}

/** Answers the compiler's requests for the framework from a local folder. */
export class LocalFetcher extends MovePackageFetcher {
  constructor(framework) {
    super();
    this.framework = framework;
  }

  async fetch(_repository, _revision, subdirectory) {
    return packageFiles(path.join(this.framework, subdirectory ?? ''));
  }

  async fetchFile(_repository, _revision, file) {
    const local = path.join(this.framework, file);
    return fs.existsSync(local) ? fs.readFileSync(local, 'utf8') : null;
  }

  getResolvedSha(_repository, revision) {
    return revision;
  }
}
