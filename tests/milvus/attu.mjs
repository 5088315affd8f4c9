// The calls of Attu v2.5.12 when a person connects and opens a collection, in its order, through its own SDK.
// Usage: node attu.mjs SDK_FOLDER ADDRESS COLLECTION [USER PASSWORD]; prints what each call gave as one JSON object.
import { createRequire } from 'node:module';

const [sdk, address, collection, username, password] = process.argv.slice(2);
const { MilvusClient } = createRequire(`${sdk}/`)('@zilliz/milvus2-sdk-node');
const client = new MilvusClient({ address, username, password, pool: { max: 10 } });
const found = {};

async function call(name, promise) {
  const answer = await promise;
  const status = answer.status ?? answer;
  if (status.error_code && status.error_code !== 'Success' && status.code) {
    throw new Error(`${name}: ${status.reason}`);
  }
  found[name] = answer;
}

const name = { collection_name: collection };
await client.connectPromise;
await call('checkHealth', client.checkHealth());
await call('listDatabases', client.listDatabases());
await call('showCollections', client.showCollections());
await call('loadedCollections', client.showCollections({ type: 1 }));
await call('describeCollection', client.describeCollection(name));
await call('describeIndex', client.describeIndex(name));
await call('getLoadState', client.getLoadState(name));
await call('count', client.count(name));
await call('getReplicas', client.getReplicas({ collectionID: found.describeCollection.collectionID }));
const fields = found.describeCollection.schema.fields.map(field => field.name);
// Attu asks for pk > -9223372036854775808, one less, which Milvus 2.3 cannot parse; it was mended after.
await call('query', client.query({ ...name, filter: 'pk > -9223372036854775807', output_fields: fields, limit: 10 }));
await call('showPartitions', client.showPartitions(name));
await call('getPartitionStatistics', client.getPartitionStatistics({ ...name, partition_name: '_default' }));
await call('getPersistentSegmentInfo', client.getPersistentSegmentInfo({ collectionName: collection }));
await call('getQuerySegmentInfo', client.getQuerySegmentInfo({ collectionName: collection }));
await call('search', client.search({
  ...name, data: [found.query.data[0].vector], anns_field: 'vector', limit: 5, output_fields: ['preview', 'origin'],
}));
console.log(JSON.stringify(found));
process.exit(0);
