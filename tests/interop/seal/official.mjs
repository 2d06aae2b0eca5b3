// The official Seal client behind lines of JSON: one request a line on stdin, one answer a line on stdout.
// What it would read of the chain (KeyServer objects, versions of packages) is given to it with each request, as BCS.
import readline from 'node:readline';
import { DemType, EncryptedObject, SealClient, SessionKey } from '@mysten/seal';
import { Ed25519Keypair } from '@mysten/sui/keypairs/ed25519';
import { Secp256k1Keypair } from '@mysten/sui/keypairs/secp256k1';
import { Secp256r1Keypair } from '@mysten/sui/keypairs/secp256r1';
import { MultiSigPublicKey } from '@mysten/sui/multisig';
import { Transaction } from '@mysten/sui/transactions';

const un = (text) => Uint8Array.from(Buffer.from(text, 'hex'));
const hex = (bytes) => Buffer.from(bytes).toString('hex');
const DEMS = { aes: DemType.AesGcm256, hmac: DemType.Hmac256Ctr };
const SCHEMES = { ed25519: Ed25519Keypair, secp256k1: Secp256k1Keypair, secp256r1: Secp256r1Keypair };

/** What the client reads of the chain. */
function chain(servers) {
  const known = new Map(servers.map((server) => [server.objectId, server]));
  return {
    core: {
      getObject: async ({ objectId }) => ({
        object: { version: '1', content: known.has(objectId) ? un(known.get(objectId).object) : undefined },
      }),
      getDynamicField: async ({ parentId }) => ({ dynamicField: { value: { bcs: un(known.get(parentId).data) } } }),
    },
  };
}

function client(request) {
  return new SealClient({
    suiClient: chain(request.servers),
    serverConfigs: request.servers.map(({ objectId, weight, aggregatorUrl }) => ({ objectId, weight, aggregatorUrl })),
    verifyKeyServers: request.verify ?? false,
  });
}

async function session(request) {
  const signer = request.multisig
    ? multisig(request.multisig).signer
    : SCHEMES[request.scheme ?? 'ed25519'].fromSecretKey(un(request.seed));
  return SessionKey.create({
    address: signer.getPublicKey().toSuiAddress(),
    packageId: request.packageId,
    mvrName: request.mvrName,
    ttlMin: request.ttlMin ?? 10,
    signer,
    suiClient: chain(request.servers),
  });
}

/** A multisig account whose every member has weight 1, and a signer for it with the first `threshold` of them. */
function multisig({ members, threshold }) {
  const keys = members.map(({ scheme, seed }) => SCHEMES[scheme].fromSecretKey(un(seed)));
  const publicKey = MultiSigPublicKey.fromPublicKeys({
    threshold,
    publicKeys: keys.map((key) => ({ publicKey: key.getPublicKey(), weight: 1 })),
  });
  return { publicKey, signer: publicKey.getSigner(...keys.slice(0, threshold)) };
}

async function transaction({ packageId, access, ids }) {
  const tx = new Transaction();
  for (const id of ids) {
    tx.moveCall({
      target: `${packageId}::access::seal_approve`,
      arguments: [
        tx.pure.vector('u8', un(id)),
        tx.sharedObjectRef({ objectId: access.objectId, initialSharedVersion: access.version, mutable: false }),
        tx.object.clock(),
      ],
    });
  }
  return tx.build({ onlyTransactionKind: true });
}

const operations = {
  async encrypt(request) {
    const { encryptedObject, key } = await client(request).encrypt({
      threshold: request.threshold,
      packageId: request.packageId,
      id: request.id,
      data: un(request.data),
      ...(request.aad === undefined ? {} : { aad: un(request.aad) }),
      demType: DEMS[request.dem],
    });
    return { object: hex(encryptedObject), key: hex(key) };
  },

  async decrypt(request) {
    const seal = client(request);
    const sessionKey = await session(request);
    const txBytes = request.txBytes ? un(request.txBytes) : await transaction(request);
    if (request.objects.length > 1) {
      await seal.fetchKeys({ ids: request.ids, txBytes, sessionKey, threshold: request.threshold });
    }
    const plaintexts = [];
    for (const object of request.objects) {
      const data = un(object);
      const checkShareConsistency = request.consistency ?? false;
      plaintexts.push(hex(await seal.decrypt({ data, sessionKey, txBytes, checkShareConsistency })));
    }
    return { plaintexts };
  },

  async transaction(request) {
    return { bytes: hex(await transaction(request)) };
  },

  async reencode(request) {
    return { object: hex(EncryptedObject.serialize(EncryptedObject.parse(un(request.object))).toBytes()) };
  },

  async sign(request) {
    const key = request.multisig
      ? multisig(request.multisig).signer
      : SCHEMES[request.scheme].fromSecretKey(un(request.seed));
    const { signature } = await key.signPersonalMessage(un(request.message));
    return { signature, address: key.getPublicKey().toSuiAddress() };
  },

  /** Milliseconds of CPU for each encryption, and for each decryption with cached keys. */
  async bench(request) {
    const seal = client(request);
    const rounds = request.rounds;
    const each = async (work) => {
      const before = process.cpuUsage();
      for (let i = 0; i < rounds; i++) await work(i);
      const { user, system } = process.cpuUsage(before);
      return (user + system) / 1000 / rounds;
    };
    const data = un(request.data);
    const { threshold, packageId } = request;
    const encryptOnce = (id) => seal.encrypt({ threshold, packageId, id, data, demType: DEMS.aes });
    await encryptOnce(request.ids[0]);
    const encrypt = await each((i) => encryptOnce(i.toString(16).padStart(64, '0')));
    const sessionKey = await session(request);
    const txBytes = await transaction(request);
    await seal.fetchKeys({ ids: request.ids, txBytes, sessionKey, threshold });
    const sealed = un(request.object);
    await seal.decrypt({ data: sealed, sessionKey, txBytes });
    const decrypt = await each(() => seal.decrypt({ data: sealed, sessionKey, txBytes }));
    return { encrypt, decrypt };
  },
};

console.warn = (...values) => console.error(...values);
for await (const line of readline.createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  let answer;
  try {
    answer = await operations[request.op](request);
  } catch (error) {
    answer = { error: error.constructor.name, message: String(error.message) };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
