"""What is fixed before ingestion starts: settings, plan, documents, run folder, shares of shards."""
