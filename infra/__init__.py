"""The Milvus stack (compose file, `dresd stack`, cluster values). Imports only `dresd_milvus`."""
